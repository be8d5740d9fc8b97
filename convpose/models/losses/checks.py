"""Numbers that a loss can work with."""

import math

from convpose.errors import ConfigError


def above_zero(key: str, value: float, usual: float) -> float:
    """The value of ``loss.key``.

    Raises:
        ConfigError: it is not a finite number above 0; `usual` is what to type.
    """
    if not 0 < value < math.inf:
        raise ConfigError(f"loss.{key}={value}: expected a number above 0; type loss.{key}={usual}")
    return value
