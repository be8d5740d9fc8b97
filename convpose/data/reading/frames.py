"""Decide if labels belong to photographs as stored, or turned upright as EXIF says.

Most tools label the upright picture (CVAT, labelme), some the stored one (COCO Annotator). Width
and height in the annotation file tell which where a turn exchanges them. But Label Studio gives the
stored size to labels of the upright picture, which then lie beyond the stored frame.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from convpose.data.annotation import AnnotatedPerson
from convpose.data.reading.archive import Archive
from convpose.data.reading.images import photo_header, upright_size
from convpose.errors import DataError

Upright = Literal["auto", "exif", "stored"]


def framed_size(photos: Archive, file: str, choice: Upright) -> tuple[int, int]:
    """Return the size of a photograph in the frame of its labels, upright unless ``stored``.

    Raises:
        DataError: missing, or no photograph.
    """
    stored, orientation = photo_header(photos, file)
    return stored if choice == "stored" else upright_size(stored, orientation)


def place_in_frames(
    name: str, photos: Archive, people: Sequence[AnnotatedPerson], choice: Upright
) -> tuple[list[AnnotatedPerson], list[str]]:
    """Find the frame that each person's labels belong to: its size, and if it is turned.

    Args:
        name: of the data set.
        photos: the archive.
        people: whose files lie there.
        choice: ``exif`` turns photographs as EXIF says, ``stored`` does not; ``auto`` goes by what
            the file says, then by its sizes, and else turns them.

    Returns:
        The people with `size_px` and `upright`; sentences about what is doubtful.

    Raises:
        DataError: a photograph without a size in the file is missing or damaged.
    """
    groups: defaultdict[str, list[AnnotatedPerson]] = defaultdict(list)
    for person in people:
        groups[person.file].append(person)
    frames: dict[str, tuple[tuple[int, int], bool | None]] = {}
    as_stored: dict[str, tuple[int, int]] = {}  # by their size: the frames if that misleads
    num_undecided = misled = 0
    for file, group in groups.items():
        given, upright = group[0].size_px, group[0].upright
        try:
            stored, orientation = photo_header(photos, file)
        except DataError:
            if given is None:
                raise
            stored, orientation = given, 1
        if orientation == 1:
            frames[file] = given or stored, upright
            continue
        turned = upright_size(stored, orientation)
        if choice != "auto":
            upright = choice == "exif"
        elif upright is None and stored != turned and given in (stored, turned):
            upright = given == turned
            if not upright:
                as_stored[file] = turned
                misled += _fit(group, turned) - _fit(group, stored)
        elif upright is None:
            upright = True
            num_undecided += 1
        size = turned if upright else stored
        frames[file] = size if given in (None, stored, turned) else given, upright
    if misled > 0:
        frames |= {file: (size, True) for file, size in as_stored.items()}
    placed = [
        replace(person, size_px=frames[person.file][0], upright=frames[person.file][1])
        for person in people
    ]
    keys = f"type data.sources.{name}.upright=exif or =stored"
    taken = "beyond it are labels, so upright" if misled > 0 else "taken as stored"
    kinds = (
        (num_undecided, "that no width and height settles, taken upright"),
        (len(as_stored), f"and the size of the stored picture in the file, {taken}"),
    )
    doubts = [
        f"{name}: {n:,} photographs have an EXIF orientation {what}; if skeletons lie beside their "
        f"people, {keys}"
        for n, what in kinds
        if n
    ]
    return placed, doubts


def _fit(people: Sequence[AnnotatedPerson], size_px: tuple[int, int]) -> bool:
    """Check if all labelled points lie in a frame, up to a pixel; NaN counts as inside."""
    return not any((person.points_px > np.array(size_px) + 0.5).any() for person in people)
