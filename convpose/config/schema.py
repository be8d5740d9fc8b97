"""Values of a configuration against type hints: what is held against a constructor's signature."""

import contextlib
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig

from convpose.errors import ConfigError


def check_types(cfg: DictConfig, types_of: Mapping[str, Any]) -> None:
    """Hold keys that belong to no constructor against type hints; ConfigError for another type."""
    for key, hint in types_of.items():
        require(key, cfg[key], hint)


def check_seed(seed: Any) -> None:
    """ConfigError for a seed that no generator takes."""
    require("seed", seed, int)
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed={seed}: expected a whole number from 0 to {2**32 - 1}")


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


def require(name: str, value: Any, hint: Any) -> None:
    """ConfigError for a value that may not stand for a hint; it says what may."""
    if not fits(value, hint):
        raise ConfigError(f"{name}={value}: expected {_words(hint)}, got {type(value).__name__}")


def hints_of(target: Callable[..., Any]) -> dict[str, Any]:
    """The hints of a function's or constructor's parameters, without those of `TYPE_CHECKING`."""
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    known = getattr(function, "__globals__", {})
    hints: dict[str, Any] = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        one = types.SimpleNamespace(__annotations__={name: hint})
        # a library's hint that exists for its type checker only is left out
        with contextlib.suppress(NameError, TypeError):
            hints |= get_type_hints(one, known)
    return hints


def _words(hint: Any) -> str:
    """A hint for the user: the plain types that it allows."""
    if get_origin(hint) in (Union, types.UnionType):
        words = " or ".join(_words(part) for part in get_args(hint)).split(" or ")
        return " or ".join(dict.fromkeys(words))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return "null" if hint is types.NoneType else names.get(hint, getattr(hint, "__name__", "…"))
