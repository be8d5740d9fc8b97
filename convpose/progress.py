"""The one progress bar: on a terminal, gone when it is done; nothing at all in a file or pipe."""

from collections.abc import Iterable
from typing import TypeVar

from rich import get_console
from rich.progress import track

T = TypeVar("T")


def progress(
    items: Iterable[T], what: str, total: float | None = None, show: bool = True
) -> Iterable[T]:
    """The items, with a bar over them.

    Args:
        items: to go through.
        what: is being done, ``predicting``.
        total: of items, where their number is not known from themselves.
        show: False for none.
    """
    shown = show and get_console().is_terminal
    return track(items, what, total, transient=True, disable=not shown)
