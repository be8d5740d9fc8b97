"""Search spaces: config keys with the distribution of their values, see ``conf/search/``."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig
from optuna import Trial
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from convpose.config.instantiate import build
from convpose.errors import ConfigError

Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
Value = bool | int | float | str | None
Space = Mapping[str, Distribution]


def read_space(parameters: DictConfig | None) -> dict[str, Distribution]:
    """Read the searched keys and their distributions; leave out what is null.

    Args:
        parameters: ``search.parameters``, nested as the configuration is.

    Raises:
        ConfigError: nothing to search, or a range that is none.
    """
    space = dict(_leaves(parameters or {}, ""))
    if not space:
        raise ConfigError("search.parameters is empty: name at least one key and its distribution")
    return space


def _leaves(node: Mapping[Any, Any], parent: str) -> Iterator[tuple[str, Distribution]]:
    for name, child in node.items():
        key = f"{parent}{name}"
        if isinstance(child, Mapping | DictConfig) and "_target_" not in child:
            yield from _leaves(child, f"{key}.")
        elif child is not None:
            yield key, _distribution(key, child)


def _distribution(key: str, node: Any) -> Distribution:
    found = build(node, f"search.parameters.{key}") if isinstance(node, DictConfig) else node
    if not isinstance(found, Distribution):
        raise ConfigError(
            f"search.parameters.{key}={node}: expected _target_: optuna.distributions."
            "FloatDistribution, IntDistribution or CategoricalDistribution"
        )
    return found


def suggest(trial: Trial, space: Space) -> dict[str, Value]:
    """Draw the values of a trial."""
    return {key: _suggest(trial, key, distribution) for key, distribution in space.items()}


def _suggest(trial: Trial, key: str, distribution: Distribution) -> Value:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(key, distribution.choices)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(key, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(key, low, high, step=step, log=log)


def overrides(values: Mapping[str, Value]) -> list[str]:
    """Write values as overrides of Hydra, ``key=value``; a key that is a group chooses its yaml."""
    return [f"{key}={_literal(value)}" for key, value in values.items()]


def _literal(value: Value) -> str:
    if isinstance(value, float):
        value = float(f"{value:.12g}")  # 0.3, where steps add up to 0.30000000000000004
    if not isinstance(value, str):
        return json.dumps(value)  # true, null, 0.1, 1e-05
    plain = re.fullmatch(r"[A-Za-z_][\w./-]*", value) and value.lower() not in _CONSTANTS
    return value if plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


_CONSTANTS = ("true", "false", "null", "nan", "inf")


def short(value: Value) -> str:
    """Shorten a value for reading: 0.0123 for 0.012345678."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def grid(space: Space) -> dict[str, list[Value]]:
    """List all values of every key.

    Raises:
        ConfigError: a range without steps.
    """
    return {key: _points(key, distribution) for key, distribution in space.items()}


def _points(key: str, distribution: Distribution) -> list[Value]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if distribution.step is None or distribution.log:
        raise ConfigError(
            f"search.parameters.{key}: a grid needs values; give the range a step, or choices with "
            "optuna.distributions.CategoricalDistribution"
        )
    steps = round((distribution.high - distribution.low) / distribution.step)
    return [distribution.low + i * distribution.step for i in range(steps + 1)]


def corners(space: Space) -> list[dict[str, Value]]:
    """List settings in which every bound and every choice of the space occurs."""
    ends = {
        key: d.choices if isinstance(d, CategoricalDistribution) else (d.low, d.high)
        for key, d in space.items()
    }
    longest = max(map(len, ends.values()))
    rows = zip(*(itertools.islice(itertools.cycle(v), longest) for v in ends.values()), strict=True)
    return [dict(zip(ends, row, strict=True)) for row in rows]
