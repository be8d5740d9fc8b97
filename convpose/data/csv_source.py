"""People of a plain CSV file, one row a person, as a spreadsheet or a script writes them.

The first row names the columns, separated by commas:

- ``image``: path of the photograph, from the CSV's folder or from `images`;
- ``NAME_x``, ``NAME_y`` and perhaps ``NAME_v`` for each joint, ``left_wrist_x`` say: pixels of the
  upright photograph (turned as EXIF says, as viewers show it), pixel centres at integers, the first
  pixel is 0; visibility 0 unlabelled, 1 occluded, 2 visible. Without ``NAME_v``, or where it is
  empty, a joint with coordinates is visible; without x or y it is unlabelled in any case. Left is
  the person's own left. Any joint of any skeleton may be there, and none has to;
- ``x0``, ``y0``, ``x1``, ``y1``, all or none: edges of the person's box; without it a crop is drawn
  around the joints;
- ``part``: ``train``, ``val`` or ``test``, for ``data.split=official``;
- ``id``: unique id; else ``STEM_NUMBER``, the photograph's path without ending (``a/b.jpg`` is
  ``a-b``) and the number among its rows, from 1;
- ``frame``, ``time_s``, ``score`` and ``NAME_score`` are ignored, so that a CSV that
  ``convpose.predict`` wrote and somebody corrected by hand can be read.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from convpose.bounded import parse_csv
from convpose.data.annotation import AnnotatedPerson
from convpose.data.reading import stem_of
from convpose.data.reading.person_source import People, PeopleSource
from convpose.data.splits import SUBSETS
from convpose.errors import DataError
from convpose.skeleton import Skeleton, bundled, spelled

BOX = ("x0", "y0", "x1", "y1")
PASSED_OVER = ("frame", "time_s", "score")
_EMPTY = ("", "na", "n/a", "none", "null")  # R, pandas, databases
_REMEDY = (
    "expected the columns image, NAME_x, NAME_y, and perhaps NAME_v, id, part and x0, y0, x1, y1"
)


class CsvSource(PeopleSource):
    """People of a CSV file, which `source` names; see `PeopleSource` for the arguments."""

    NAME = "csv"
    PATTERNS = ("*.csv",)
    UPRIGHT = "exif"

    def read_people(self, file: str, content: bytes, left_out: Counter[str]) -> People:
        """Read a CSV file."""
        joints, rows = _rows(file, content, self.target, list(self.other_names))
        return joints, _people(file, joints, rows)


def _rows(
    file: str, content: bytes, target: Skeleton, names: Sequence[str]
) -> tuple[Sequence[str], list[dict[str, str]]]:
    """Parse a CSV file; return its joints in the order of the columns, and its rows."""
    header, rows = parse_csv(file, content, _REMEDY)
    header = [column.strip() for column in header]
    if len(header) == 1 and ";" in header[0]:
        raise DataError(f"{file}: separated by ';'; save it with commas; {_REMEDY}")
    columns = {"image", "id", "part", *BOX, *PASSED_OVER}
    all_names = [n for s in (*bundled().values(), target) for n in s.keypoints]
    known = {spelled(name): name for name in (*all_names, *names)}
    columns |= {f"{n}_{what}" for n in known.values() for what in ("x", "y", "v", "score")}
    header = [column if column in columns else _spelled(column, known) for column in header]
    unknown = [column for column in header if column not in columns]
    if unknown:
        raise DataError(
            f"{file}: unknown column {', '.join(map(repr, unknown))}; {_REMEDY}; joints known: "
            f"{', '.join(target.keypoints)}, and those of {', '.join(bundled())}"
        )
    twice = [column for column, n in Counter(header).items() if n > 1]
    joints = tuple(dict.fromkeys(c[:-2] for c in header if c.endswith(("_x", "_y", "_v"))))
    lacking = [f"{n}_{c}" for n in joints for c in "xy" if f"{n}_{c}" not in header]
    lacking += [c for c in BOX if c not in header] if set(BOX) & set(header) else []
    lacking += ["image"] if "image" not in header else []
    lacking += ["a joint"] if not joints else []
    if lacking or twice:
        what = f"{', '.join(lacking)} missing" if lacking else f"{', '.join(twice)} there twice"
        raise DataError(f"{file}: {what}; {_REMEDY}")
    uneven = [i for i, row in enumerate(rows, start=2) if None in row or None in row.values()]
    if uneven:
        raise DataError(f"{file}: row {uneven[0]} has not as many cells as the first; {_REMEDY}")
    return joints, [dict(zip(header, row.values(), strict=True)) for row in rows]


def _spelled(column: str, known: Mapping[str, str]) -> str:
    """Spell a column as here: ``Image``, ``Left Wrist_X``."""
    joint, _, what = column.rpartition("_")
    name = known.get(spelled(joint), joint)
    return f"{name}_{what.lower()}" if joint else column.lower()


def _people(
    file: str, joints: Sequence[str], rows: list[dict[str, str]]
) -> Iterator[AnnotatedPerson]:
    numbers: Counter[str] = Counter()
    for line, row in enumerate(rows, start=2):
        image, part = (str(row.get(column) or "").strip() for column in ("image", "part"))
        if not image or (part and part not in SUBSETS):
            wrong = (
                f"part {part!r}, expected {', '.join(SUBSETS)} or nothing" if image else "no image"
            )
            raise DataError(f"{file}: row {line} has {wrong}; {_REMEDY}")
        try:
            points_px = np.array([[_number(row[f"{n}_{c}"]) for c in "xy"] for n in joints])
            flags = np.nan_to_num([_number(row.get(f"{n}_v") or "") for n in joints], nan=2.0)
            box = np.array([_number(row[column]) for column in BOX]) if BOX[0] in row else None
            if len(odd := flags[~np.isin(flags, (0, 1, 2))]):
                raise ValueError(f"visibility {odd[0]:g}, expected 0, 1 or 2")
        except ValueError as error:
            raise DataError(f"{file}: row {line}: {error}; {_REMEDY}") from error
        numbers[image] += 1
        yield AnnotatedPerson(
            (row.get("id") or "").strip() or f"{stem_of(image)}_{numbers[image]}",
            image,
            points_px,
            flags.astype(np.uint8),
            box,
            part or None,
        )


def _number(cell: str) -> float:
    return float("nan" if cell.strip().lower() in _EMPTY else cell)
