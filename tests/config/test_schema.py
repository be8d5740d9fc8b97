"""Values against hints, and hints in words."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any, Literal

import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt
from omegaconf import OmegaConf

from convpose.config.schema import Positive, check_table, check_value, words
from convpose.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (1, int, True),
        (1.0, int, False),
        (True, int, False),
        ("1", int, False),
        (1, float, True),
        (True, float, False),
        (True, bool, True),
        (1, bool, False),
        (None, int | None, True),
        (None, int, False),
        ("max", Literal["max", "min"], True),
        ("up", Literal["max", "min"], False),
        ([1, 2], tuple[int, ...], True),
        ([1, 2], tuple[int, int, int], False),
        ([1, 2.5], Sequence[int], False),
        (3, tuple[int, ...], False),
        ({"a": 1}, Mapping[str, float], True),
        ({"a": "b"}, Mapping[str, float], False),
        ("x", float | torch.Tensor, False),
        ({"_target_": "torch.nn.ReLU"}, float, True),
        ({"of": 1}, torch.nn.Module, True),
        ("x", torch.nn.Module, False),
        ("x", Any, True),
    ],
)
def test_what_fits(value, hint, fits):
    with nullcontext() if fits else pytest.raises(ConfigError, match=r"^key=.*: expected "):
        check_value("key", OmegaConf.create({"key": value}).key, hint)


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (Positive, "a number above 0"),
        (Annotated[float, Ge(0), Lt(1)], "a number from 0 to below 1"),
        (Annotated[float, Gt(0), Lt(1)], "a number above 0 and below 1"),
        (Annotated[float, Gt(0), Le(1)], "a number above 0 and up to 1"),
        (Annotated[int, Le(9)], "a whole number up to 9"),
        (
            Annotated[int, Ge(2)] | Literal["auto"] | None,
            "a whole number from 2 up or auto or null",
        ),
        (None | bool, "true or false or null"),
        (Literal[1, 2] | Literal["a"], "one of 1, 2, a"),
        (Sequence[int], "a list, each item a whole number"),
        (tuple[str, ...], "a list, each item a text"),
        (Mapping[str, float], "a mapping, each value a number"),
        (torch.nn.Module, "Module"),
    ],
)
def test_a_hint_in_words(hint, said):
    assert words(hint) == said


def test_a_text_in_the_hint_is_the_remedy():
    hint = Annotated[int, Gt(0), "workers=N sets it"] | None
    message = "a.b=0: expected a whole number above 0 or null; workers=N sets it"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        check_table(OmegaConf.create({"a": {"b": 0}}), {"a.b": hint})
    with pytest.raises(ConfigError, match=f"^{message}; type a.b=3$"):
        check_value("a.b", 0, hint, usual=3)
