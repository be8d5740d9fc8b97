"""One person as an annotation file describes them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedPerson:
    """One person as a file describes them.

    Attributes:
        image_id: unique id; ``STEM_NUMBER``, so that it does not depend on who else is there.
        file: name of the photograph in the annotation file.
        points_px: (J, 2) in pixels with centres at integers; any number if unlabelled.
        visibility: (J,) of 0, 1, 2.
        box_px: (4,) edges of the person's box; None or not finite if there is none.
        subset: ``train``, ``val``, ``test`` or None.
        size_px: width and height; None reads them from the photograph's header.
        upright: whether the points belong to the photograph turned as EXIF says; None if the file
            does not tell.
        head_px: diagonal of the head's box, of which PCKh takes a part; None if there is none.
    """

    image_id: str
    file: str
    points_px: NDArray[np.float64]
    visibility: NDArray[np.uint8]
    box_px: NDArray[np.float64] | None = None
    subset: str | None = None
    size_px: tuple[int, int] | None = None
    upright: bool | None = None
    head_px: float | None = None
