"""Find photographs by the names that annotation files give them."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from urllib.parse import unquote

from convpose.data.reading import subset_of

Form = Callable[[str], str]


def composed(name: str) -> str:
    """Write letters with accents as one character; a Mac writes them as two (NFD)."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Forget capitals, and write out ``%20`` and the like, as Label Studio has them."""
    return composed(unquote(name)).casefold()


def _windows(name: str) -> str:
    """Read a name of a zip without its UTF-8 flag, which came as cp437, in Windows' own letters."""
    try:
        return folded(name.encode("cp437").decode("cp1252"))
    except UnicodeError:
        return folded(name)


class PhotoNames:
    """Names of an archive, looked up by the end of their path.

    ``val2017/1.jpg`` may be called ``1.jpg`` in the annotations or ``/home/me/coco/val2017/1.jpg``.
    If several match, the exact name counts, then one whose folder names the person's subset. Where
    no name is the same, one that is written another way counts if there is only one.

    Args:
        names: of the photographs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._by_end: dict[Form, dict[str, list[tuple[str, str]]]] = {}

    def find(self, file: str, subset: str | None = None) -> str | None:
        """Find the one photograph that annotations call `file`; None if there is none."""
        file = file.replace("\\", "/")
        for given, there in (
            (str, str),
            (composed, composed),
            (folded, folded),
            (folded, _windows),
        ):
            if found := self._matching(given(file), there):
                exact = [name for name, written in found if written == given(file)]
                ends = [name for name, _ in found]
                own = [n for n in ends if subset and subset_of(n.rpartition("/")[0]) == subset]
                return next((names[0] for names in (exact, own, ends) if len(names) == 1), None)
        return None

    def near(self, file: str) -> str | None:
        """Find the photograph whose name is most like `file` and has the same numbers, if any."""
        numbers = re.findall(r"\d+", file.rpartition("/")[2])
        ends = {
            folded(end): name
            for name in self._names
            if re.findall(r"\d+", end := name.rpartition("/")[2]) == numbers
        }
        close = get_close_matches(folded(file.rpartition("/")[2]), ends, 1, 0.8)
        return ends[close[0]] if close else None

    def _matching(self, file: str, there: Form) -> list[tuple[str, str]]:
        """List the names, and how they are written in a form, whose path ends as `file` does."""
        if there not in self._by_end:
            by_end = self._by_end[there] = defaultdict(list)
            for name in self._names:
                written = there(name)
                by_end[written.rpartition("/")[2]].append((name, written))
        return [
            (name, written)
            for name, written in self._by_end[there].get(file.rpartition("/")[2], ())
            if f"/{written}".endswith(f"/{file}") or f"/{file}".endswith(f"/{written}")
        ]
