"""Structs of MATLAB files, where one, none and several look different and empty means missing."""

import io
from typing import Any

import numpy as np
from scipy.io import loadmat

from convpose.errors import DataError


def read_struct(file: str, content: bytes, variable: str, remedy: str) -> Any:
    """A variable of a ``.mat`` file: its structs have their fields as attributes.

    Raises:
        DataError: no MATLAB file, or no such variable in it.
    """
    try:
        # scipy-stubs know only paths here; scipy documents file objects
        found = loadmat(io.BytesIO(content), struct_as_record=False, squeeze_me=True)  # type: ignore[arg-type]
    except Exception as error:  # scipy raises a dozen types on a damaged file
        raise DataError(f"{file}: not a MATLAB file ({error}); {remedy}") from error
    if variable not in found:
        there = ", ".join(key for key in found if not key.startswith("__")) or "nothing"
        raise DataError(f"{file}: expected the variable {variable}, found {there}; {remedy}")
    return found[variable]


def many(value: Any) -> list[Any]:
    """A struct array as a list: of an empty array, one struct, or several."""
    return list(value.flat) if isinstance(value, np.ndarray) else [] if value is None else [value]


def field(struct: Any, *names: str) -> Any:
    """A nested field; None where it or one on the way is missing or empty."""
    for name in names:
        struct = getattr(struct, name, None)
        empty = struct == "" if isinstance(struct, str) else np.size(struct) == 0
        if empty:
            return None
    return struct


def number(struct: Any, *names: str) -> float:
    """A nested field as a number, also one that was stored as text; NaN where it is missing."""
    value = field(struct, *names)
    return float("nan") if value is None else float(value)
