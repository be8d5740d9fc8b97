"""One person of a data set: as a file describes them, in the joints asked for, and as a sample.

Visibility follows COCO: 0 unlabelled, 1 labelled but occluded, 2 labelled and visible.
Coordinates of unlabelled keypoints are NaN from the reader to the metric, so that a loss, crop box
or metric that forgets the mask fails loudly instead of learning garbage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from convpose.geometry import Affine, Image

if TYPE_CHECKING:  # a reader of annotations needs no torch
    import torch


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


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """One annotated person in one image.

    Attributes:
        image_id: unique over all data sets: the file stem (LSP ``im0001``, LSPET ``im00001``),
            with a number behind it where an image may show several people (``000000123456_789``).
        dataset: name of the data set it comes from.
        width_px, height_px: size of the image.
        keypoints_px: (K, 2) float32 in pixels of the image, NaN where unlabelled.
        visibility: (K,) uint8 of 0, 1, 2.
        box_px: (4,) left, top, right and bottom edge of the person if the data set gives them.
        file: name of the image in its source. People of one image stay on one side of a split.
        subset: ``train``, ``val`` or ``test`` if the data set's makers say so.
        upright: whether the pixels are those of the image turned as EXIF says, or as stored
            (False); None where that is the same or not known.
        head_px: diagonal of the head's box if the data set gives it (MPII).
    """

    image_id: str
    dataset: str
    width_px: int
    height_px: int
    keypoints_px: NDArray[np.float32]
    visibility: NDArray[np.uint8]
    box_px: NDArray[np.float64] | None = None
    file: str | None = None
    subset: str | None = None
    upright: bool | None = None
    head_px: float | None = None

    @property
    def extent_px(self) -> NDArray[np.float64]:
        """Edges (4,) of the person's box, else of the labelled keypoints; NaN without any."""
        if self.box_px is not None:
            return self.box_px
        joints = self.keypoints_px[self.labelled].astype(np.float64)
        joints = joints if len(joints) else np.full((1, 2), np.nan)
        return np.concatenate([joints.min(axis=0), joints.max(axis=0)])

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Mask (K,) of the labelled keypoints, visible or not."""
        return self.visibility > 0


class PoseSource(Protocol):
    """Annotations and their pixels: an archive, a crop cache, a generator or several joined."""

    @property
    def annotations(self) -> Sequence[Annotation]:
        """All annotations in a fixed order."""
        ...

    def read_image(self, index: int) -> tuple[Image, Affine]:
        """Read the pixels that belong to ``annotations[index]``.

        Returns:
            (H, W, 3) uint8 RGB and the (2, 3) affine from its pixels to the pixels of the image
            file (the identity unless the source stores crops).
        """
        ...


class PoseSample(TypedDict):
    """One sample, or one batch after collation (then with a leading B, and ids as a list).

    Keys:
        image: (3, S, S) uint8 RGB crop.
        keypoints: (K, 2) float32 unit coordinates of the crop, NaN where unlabelled.
        visibility: (K,) int64 of 0, 1, 2.
        keypoints_px: (K, 2) float32 ground truth in pixels of the image file, NaN where unlabelled.
        unit_to_px: (2, 3) float32, crop unit coordinates to pixels of the image file.
        box_px: (4,) float32 edges of the person's box, else of the labelled keypoints.
        image_id: the annotation's id.
    """

    image: "torch.Tensor"
    keypoints: "torch.Tensor"
    visibility: "torch.Tensor"
    keypoints_px: "torch.Tensor"
    unit_to_px: "torch.Tensor"
    box_px: "torch.Tensor"
    image_id: str
