"""From configuration to objects: the only file that calls `hydra.utils.instantiate`.

Before a class is built, its keys are held against its constructor: the signature is the schema. An
unknown key or a value of another type is a `ConfigError` that says what to type.
"""

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from convpose.data.datamodule import PoseDataModule
from convpose.errors import ConfigError, ConvposeError
from convpose.models.pose_model import PoseModel
from convpose.skeleton import LSP14, Skeleton
from convpose.training.module import PoseModule

READ_BY_OTHERS = ("source", "gallery", "gallery_images")  # keys of data that sources or apps read


def build_datamodule(cfg: DictConfig, skeleton: Skeleton = LSP14) -> PoseDataModule:
    """The data of ``cfg.data`` with ``cfg.augment``, seeded by ``cfg.seed``."""
    augment = build(cfg.augment, "augment") if "augment" in cfg else None
    settings = OmegaConf.masked_copy(cfg.data, [k for k in cfg.data if k not in READ_BY_OTHERS])
    settings._set_parent(cfg)  # interpolations look for their keys there
    given = {"augment": augment, "seed": cfg.get("seed", 0), "skeleton": skeleton}
    datamodule: PoseDataModule = build(settings, "data", **given)
    return datamodule


def build_model(cfg: DictConfig, skeleton: Skeleton = LSP14) -> PoseModel:
    """Backbone and head; the head is told the backbone's feature maps and the input size."""
    backbone = build(cfg.model, "model")
    head = build(
        cfg.head,
        "head",
        out_channels=backbone.out_channels,
        strides=backbone.strides,
        input_size_px=cfg.data.input_size_px,
        num_keypoints=skeleton.num_keypoints,
    )
    return PoseModel(backbone, head, channels_last=cfg.channels_last)


def build_module(cfg: DictConfig, model: PoseModel, skeleton: Skeleton = LSP14) -> PoseModule:
    """Model, loss, optimizer and schedule; a rate that no optimizer takes is refused here."""
    loss: nn.Module = build(cfg.loss, "loss")
    optimizer = build(cfg.optimizer, "optimizer")
    scheduler = build(cfg.scheduler, "scheduler")
    try:
        scheduler(optimizer([nn.Parameter(torch.zeros(1))]), 100)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"optimizer: {error}; {_line(cfg.optimizer)}") from error
    return PoseModule(model, loss, optimizer, scheduler, skeleton, cfg.seed)


def build_trainer(
    cfg: DictConfig, callbacks: list[Callback], logger: Logger | bool, folder: Path
) -> Trainer:
    """Lightning's trainer with ``precision=auto`` made concrete."""
    settings = cfg.trainer.copy()
    settings.precision = resolve_precision(cfg)
    given = {"callbacks": callbacks, "logger": logger, "default_root_dir": str(folder)}
    try:
        trainer: Trainer = build(settings, "trainer", **given)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"trainer: {error}; {_line(cfg.trainer)}") from error
    return trainer


def resolve_precision(cfg: DictConfig) -> str:
    """``trainer.precision=auto``: bf16 where the hardware multiplies it, else 32-bit."""
    if cfg.trainer.precision != "auto":
        return str(cfg.trainer.precision)
    if cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    amx = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if amx else "32-true"


def build(node: DictConfig, key: str, **given: Any) -> Any:
    """Instantiate a config node.

    Args:
        node: with ``_target_``, perhaps nested.
        key: where the node stands, for messages.
        given: arguments that are computed, not configured.

    Raises:
        ConfigError: an unknown key or a value of another type.
        ConvposeError: what the constructor itself refuses.
    """
    check(node, key, given)
    try:
        make = instantiate(node, _partial_=True)  # `given` must not pass through OmegaConf
    except InstantiationException as error:  # of a nested node
        if isinstance(error.__cause__, ConvposeError):
            raise error.__cause__ from error
        raise ConfigError(f"{key}: {error.__cause__ or error}; {_line(node)}") from error
    return functools.partial(make, **given) if node.get("_partial_") else make(**given)


def check(node: Any, key: str, given: Mapping[str, Any] = types.MappingProxyType({})) -> None:
    """Hold a node's keys and plain values against the constructor that it names, recursively."""
    if not isinstance(node, DictConfig):
        return
    for name in map(str, node):
        check(node[name], f"{key}.{name}")
    if "_target_" not in node:
        return
    target = get_object(node["_target_"])
    parameters = inspect.signature(target).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    types_of = _hints(target)
    plain = OmegaConf.to_container(node, resolve=True)
    for name, value in {str(k): v for k, v in plain.items()}.items():  # type: ignore[union-attr]
        if name.startswith("_") and name.endswith("_"):
            continue
        if name not in parameters and not open_ended:
            known = ", ".join(n for n in parameters if n not in given and n != "self")
            raise ConfigError(f"unknown key {key}.{name}; keys there: {known}")
        if name in types_of and not fits(value, types_of[name]):
            raise ConfigError(
                f"{key}.{name}={value}: expected {_words(types_of[name])}, got "
                f"{type(value).__name__}"
            )


def fits(value: Any, hint: Any) -> bool:
    """Whether a yaml value may stand for a type hint."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str, types.NoneType):
        return isinstance(value, hint)
    return hint is Any or not isinstance(value, bool | int | float | str | None)


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return get_type_hints(inspect.unwrap(function))
    except (NameError, TypeError):  # a library's hints that exist for its type checker only
        return {}


def _words(hint: Any) -> str:
    """A hint for the user: the plain types that it allows."""
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in get_args(hint)))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return "null" if hint is types.NoneType else names.get(hint, getattr(hint, "__name__", "…"))


def _line(node: DictConfig) -> str:
    """A node's own keys as they were set, for a message."""
    return "it was given " + " ".join(f"{k}={node[k]}" for k in map(str, node) if k[0] != "_")
