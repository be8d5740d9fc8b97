"""Find photographs by the names that annotation files give them."""

from collections import defaultdict
from collections.abc import Sequence

from convpose.data.reading import subset_of


class PhotoNames:
    """Names of an archive, looked up by the end of their path.

    ``val2017/1.jpg`` may be called ``1.jpg`` in the annotations or ``/home/me/coco/val2017/1.jpg``.
    If several match, the exact name counts, then one whose folder names the person's subset.

    Args:
        names: of the photographs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._by_end: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            self._by_end[name.rpartition("/")[2]].append(name)

    def find(self, file: str, subset: str | None = None) -> str | None:
        """Find the one photograph that annotations call `file`; None if there is none."""
        file = file.replace("\\", "/")
        ends = [
            name
            for name in self._by_end.get(file.rpartition("/")[2], ())
            if f"/{name}".endswith(f"/{file}") or f"/{file}".endswith(f"/{name}")
        ]
        in_subset = [n for n in ends if subset and subset_of(n.rpartition("/")[0]) == subset]
        found = ([n for n in ends if n == file], in_subset, ends)
        return next((names[0] for names in found if len(names) == 1), None)
