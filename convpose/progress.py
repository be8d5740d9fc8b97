"""Show progress on a terminal; show nothing in a file or pipe."""

from collections.abc import Iterable
from typing import TypeVar

from rich import get_console
from rich.progress import track

T = TypeVar("T")


def progress(
    items: Iterable[T], what: str, total: float | None = None, show: bool = True
) -> Iterable[T]:
    """Iterate over items under a bar, which is removed at the end.

    Args:
        items: to iterate over.
        what: names the work, ``predicting``.
        total: number of items; None if they know their length.
        show: False for no bar.
    """
    shown = show and get_console().is_terminal
    return track(items, what, total, transient=True, disable=not shown)
