"""The progress bar."""

import io

import pytest
import rich
from rich.console import Console

from convpose.progress import progress


@pytest.fixture
def output(monkeypatch):
    """Collect what a console of a given kind gets."""

    def console(terminal):
        text = io.StringIO()
        monkeypatch.setattr(rich, "_console", Console(file=text, force_terminal=terminal, width=80))
        return text

    return console


def test_nothing_is_written_into_a_file(output):
    text = output(terminal=False)
    assert list(progress([1, 2], "predicting")) == [1, 2]
    assert text.getvalue() == ""


def test_a_terminal_sees_what_is_done(output):
    text = output(terminal=True)
    assert list(progress(iter("ab"), "predicting", total=2)) == ["a", "b"]
    assert "predicting" in text.getvalue()
    text = output(terminal=True)
    assert list(progress([1], "predicting", show=False)) == [1]
    assert "predicting" not in text.getvalue()
