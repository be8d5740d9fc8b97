"""From a configuration node to an object: the only file that calls `hydra.utils.instantiate`.

Before a class is built, it is held against what a configuration may name (`config.allowlist`), and
its keys against its constructor: the signature is the schema. An unknown key or a value of another
type is a `ConfigError` that says what to type.
"""

import functools
import inspect
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from convpose.bounded import MAX_FACTS, parse_yaml, read_file
from convpose.config.allowlist import as_data, current_name, find_target
from convpose.config.schema import check_value, hints_of
from convpose.errors import ConfigError, ConvposeError, DataError, ModelError
from convpose.hardware import out_of_memory
from convpose.skeleton import LSP14, Skeleton, bundled, skeleton_file

_SKELETONS: dict[str, Skeleton] = {}  # by content: a training asks for the same one four times


def skeleton_of(cfg: DictConfig) -> Skeleton:
    """Build the skeleton of ``data.skeleton``; LSP's for runs older than the key."""
    return build_skeleton(cfg.data.get("skeleton", LSP14.name))


def build_skeleton(value: Any, key: str = "data.skeleton") -> Skeleton:
    """Build a skeleton from a mapping, or from the yaml that a name or a path stands for.

    A name is one of convpose's, or of a yaml in the group ``skeleton`` of ``--config-dir``.

    Raises:
        ConfigError: no such file, or one that is no skeleton.
    """
    if isinstance(value, Skeleton):
        return value
    content = value if isinstance(value, Mapping) else _read_skeleton(str(value), key)
    plain: Any = content
    if isinstance(content, DictConfig):
        plain = OmegaConf.to_container(content, resolve=True)
    if (same := repr(plain)) in _SKELETONS:
        return _SKELETONS[same]
    target = f"{Skeleton.__module__}.{Skeleton.__name__}"
    node = as_data({**plain, "_target_": target}, key)  # perhaps a stranger's
    try:
        skeleton: Skeleton = build(node, key)
    except ConfigError as error:
        where = "" if isinstance(value, Mapping) else f"{key}={value}: "
        raise ConfigError(f"{where}{error}") from error
    _SKELETONS[same] = skeleton
    return skeleton


def _read_skeleton(name: str, key: str) -> dict[str, Any]:
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        folders = [skeleton_file("").parent]
        if HydraConfig.initialized():
            sources = HydraConfig.get().runtime.config_sources
            folders += [Path(s.path) / "skeleton" for s in sources if s.schema == "file"]
        files = [folder / f"{name}.yaml" for folder in folders]
        path = next((file for file in files if file.is_file()), path)
        if path.suffix != ".yaml":
            raise ConfigError(
                f"{key}={name}: unknown skeleton; type one of {', '.join(bundled())}, or the path "
                f"of a yaml of yours, {key}=FILE.yaml"
            )
    try:
        content = parse_yaml(str(path), read_file(path, MAX_FACTS).decode())
    except (OSError, UnicodeError, DataError) as error:
        raise ConfigError(f"{key}={name}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{key}={name}: no skeleton; expected keys such as keypoints: [NAME, …]")
    return {"name": path.stem, **content}


def build(node: DictConfig, key: str, **given: Any) -> Any:
    """Instantiate a config node.

    Args:
        node: with ``_target_``, perhaps nested.
        key: where the node stands, for messages.
        given: arguments that are computed, not configured.

    Raises:
        ConfigError: an unknown or missing key, or a value that the constructor refuses.
        ConvposeError: what a constructor of ours refuses.
    """
    check(node, key, given)
    try:
        make = instantiate(node, _partial_=True)  # `given` must not pass through OmegaConf
        return functools.partial(make, **given) if node.get("_partial_") else make(**given)
    except InstantiationException as error:  # of a nested node
        if isinstance(error.__cause__, ConvposeError):
            raise error.__cause__ from error
        raise ConfigError(f"{key}: {error.__cause__ or error}; {describe(node)}") from error
    except _refusals() as error:
        raise ConfigError(f"{key}: {error}; {describe(node)}") from error
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            f"{key}: wants more memory than there is; {describe(node)}; type a smaller "
            "data.input_size_px, or a smaller network"
        ) from error


def _refusals() -> tuple[type[Exception], ...]:
    """List the errors of constructors on a bad value; Lightning's where it has been imported."""
    lightning = sys.modules.get("lightning.fabric.utilities.exceptions")
    return (ValueError, TypeError, *([lightning.MisconfigurationException] if lightning else []))


def check(node: Any, key: str, given: Mapping[str, Any] = types.MappingProxyType({})) -> None:
    """Hold a node's keys and plain values against the constructor that it names, recursively."""
    if isinstance(node, ListConfig):
        for i, child in enumerate(node):
            check(child, f"{key}.{i}")
    if not isinstance(node, DictConfig):
        return
    for name in map(str, node):
        check(node[name], f"{key}.{name}")
    if "_target_" not in node:
        return
    if (name := current_name(str(node["_target_"]))) != node["_target_"]:
        node["_target_"] = name
    target = find_target(node["_target_"], key)
    parameters = inspect.signature(target).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    types_of = hints_of(target)
    known = ", ".join(n for n in parameters if n not in given)
    plain: Any = OmegaConf.to_container(node, resolve=True)
    for name in (n for n in map(str, plain) if not (n[0] == "_" == n[-1])):
        if name not in parameters and not open_ended:
            raise ConfigError(f"unknown key {key}.{name}; keys there: {known}")
        if name in types_of:
            usual = getattr(parameters.get(name), "default", None)
            check_value(f"{key}.{name}", plain[name], types_of[name], usual)
    for name, parameter in parameters.items():
        starred = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        needed = parameter.default is parameter.empty and not starred
        if needed and not (name in plain or name in given or "_partial_" in plain):
            raise ConfigError(f"{key}.{name} is missing; keys there: {known}")


def describe(node: DictConfig) -> str:
    """Describe a node by its first four ``key=value`` pairs, for a message."""
    keys = [key for key in map(str, node) if key[0] != "_"][:4]
    return "it was given " + " ".join(f"{key}={node[key]}" for key in keys)
