"""Values of a configuration against annotated hints, such as ``Annotated[float, Ge(0), Lt(1)]``.

A hint stands beside the parameter of a constructor, or in a command's table for keys that belong
to no constructor. A text in ``Annotated`` is the remedy with which a message ends.
"""

import contextlib
import functools
import inspect
import json
import math
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from convpose.errors import ConfigError

Count = Annotated[int, Gt(0)]
Natural = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0), Lt(math.inf)]
NotNegative = Annotated[float, Ge(0), Lt(math.inf)]
Share = Annotated[float, Ge(0), Le(1)]
Subset = Literal["train", "val", "test"]
Packaged = Literal["small", "large"]  # networks that come with convpose
Looks = Literal[1, 2]  # at a whole frame, and again at the box of what was found in it
Side = Annotated[int, Ge(32), Le(4096)]  # pixels of a square that is allocated
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]  # what every generator takes

WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
    types.NoneType: "null",
}
CONTAINERS = (list, tuple, dict, Sequence, Mapping, Collection)
UNIONS = (Union, types.UnionType)


def check_table(cfg: DictConfig, table: Mapping[str, Any]) -> None:
    """Check the keys of a configuration against a table of their hints.

    Raises:
        ConfigError: a value that its hint does not allow, or ``weights`` beside ``network``.
    """
    for key, hint in table.items():
        try:
            value = OmegaConf.select(cfg, key)
        except OmegaConfBaseException:  # a list where a mapping is expected
            value = None
        check_value(key, value, hint)
    name = cfg.get("network") if "network" in table else None
    if name is not None and cfg.get("weights", name) != name:
        raise ConfigError(f"network={name} weights={cfg.weights}: two networks; type one of them")


def check_value(name: str, value: Any, hint: Any, usual: Any = None) -> None:
    """Check a value, as YAML has it, against a hint.

    Args:
        name: of the key, for the message.
        value: of the key.
        hint: what it may be.
        usual: default of the parameter, suggested if it is a number.

    Raises:
        ConfigError: with what is allowed in words.
    """
    # here, because it costs 0.2 s that `--help` need not wait for
    from pydantic import ValidationError

    if isinstance(value, Mapping) and "_target_" in value:
        return  # an object that is built first
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    try:
        # as JSON: strict about numbers and texts, and a list may stand for a tuple
        _adapter(_plain_hint(hint)).validate_json(json.dumps(plain, default=str), strict=True)
    except ValidationError as error:
        kinds = {problem["type"] for problem in error.errors()}
        of_range = any("than" in kind for kind in kinds)
        of_type = any(kind.endswith("_type") for kind in kinds) and not of_range
        remedy = "".join(f"; {text}" for text in _remedies(hint))
        if type(usual) in (int, float):
            remedy += f"; type {name}={usual}"
        got = f", got {type(plain).__name__}" if of_type else ""
        raise ConfigError(f"{name}={value}: expected {words(hint)}{got}{remedy}") from None


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """Read the hints of a function's or constructor's parameters, but those of `TYPE_CHECKING`."""
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    known = getattr(function, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        one = types.SimpleNamespace(__annotations__={name: hint})
        # a library's hint that exists for its type checker only is left out
        with contextlib.suppress(NameError, TypeError):
            hints |= get_type_hints(one, known, include_extras=True)
    return hints


def words(hint: Any) -> str:
    """Say in words what a hint allows, as in ``a number from 0 to below 1 or null``."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in UNIONS:
        chosen = _choice(
            [c for part in args if get_origin(part) is Literal for c in get_args(part)]
        )
        parts = [chosen if get_origin(part) is Literal else words(part) for part in args]
        return " or ".join(sorted(dict.fromkeys(parts), key="null".__eq__))
    if origin is Annotated:
        return words(args[0]) + _range(args[1:])
    if origin is Literal:
        return _choice(args)
    if origin in CONTAINERS and args:
        kind = "a mapping, each value" if issubclass(origin, Mapping) else "a list, each item"
        return f"{kind} {words(args[0] if args[-1] is ... else args[-1])}"
    return WORDS.get(hint, getattr(hint, "__name__", "…"))


def _choice(choices: Sequence[Any]) -> str:
    listed = list(map(str, choices))
    return " or ".join(listed) if len(listed) < 3 else f"one of {', '.join(listed)}"


def _range(metadata: Sequence[Any]) -> str:
    limit = {type(m): getattr(m, type(m).__name__.lower(), None) for m in metadata}
    if limit.get(Lt) == math.inf:
        del limit[Lt]
    if Ge in limit:
        high = (
            f"to {limit[Le]}" if Le in limit else f"to below {limit[Lt]}" if Lt in limit else "up"
        )
        return f" from {limit[Ge]} {high}"
    limits = {"above": Gt, "up to": Le, "below": Lt}
    return " and".join(f" {words} {limit[of]}" for words, of in limits.items() if of in limit)


def _remedies(hint: Any) -> list[str]:
    own = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, str)]
    return own + [text for part in get_args(hint) for text in _remedies(part)]


def _plain_hint(hint: Any) -> Any:
    """Replace what pydantic cannot build, or would build itself, by any list or mapping."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [m for m in args[1:] if isinstance(m, BaseMetadata)]
        return functools.reduce(lambda inner, m: Annotated[inner, m], ranges, _plain_hint(args[0]))
    if origin in UNIONS:
        return Union[tuple(map(_plain_hint, args))]  # noqa: UP007, the parts are not known here
    if origin in CONTAINERS:
        return origin[tuple(part if part is ... else _plain_hint(part) for part in args)]
    simple = hint in (Any, *WORDS, *CONTAINERS) or origin is Literal
    return hint if simple else list[Any] | dict[str, Any]


@functools.cache
def _adapter(hint: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(hint)
