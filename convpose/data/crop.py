"""From an annotation to the crop: which part of the image the network sees.

The crop is an affine ``unit_to_px``; `convpose.geometry.warp` samples it. Three modes:

- ``image``: the whole frame stretched to the square input, as the paper did;
- ``letterbox``: the whole frame, padded to a square;
- ``box``: a square around the labelled joints, `box_scale` times as large.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from convpose.data.annotation import Annotation
from convpose.errors import ConfigError, DataError
from convpose.geometry import Affine, box_to_affine

MODES = ("image", "letterbox", "box")


class Crop:
    """Chooses the crop of an annotation.

    Args:
        mode: a crop mode, or one for each data set by name (``{lsp: image, lspet: box}``).
        box_scale: side of the ``box`` crop as a multiple of the longer side of the joints' box.

    Raises:
        ConfigError: unknown mode, or a scale below 1.
    """

    def __init__(self, mode: str | Mapping[str, str], box_scale: float = 1.25) -> None:
        self.mode = mode if isinstance(mode, str) else dict(mode)
        self.box_scale = box_scale
        for value in [mode] if isinstance(mode, str) else mode.values():
            if value not in MODES:
                raise ConfigError(
                    f"data.crop={value}: unknown crop; type data.crop=" + "|".join(MODES)
                )
        if not box_scale >= 1:
            raise ConfigError(
                f"data.box_scale={box_scale}: the crop would cut joints off; "
                "type data.box_scale=1.25"
            )

    def __str__(self) -> str:
        """The mode as a short text for reports."""
        if isinstance(self.mode, str):
            return self.mode
        return "+".join(f"{name}:{mode}" for name, mode in self.mode.items())

    def mode_of(self, annotation: Annotation) -> str:
        """The crop mode for an annotation's data set; ConfigError if the mapping lacks it."""
        if isinstance(self.mode, str):
            return self.mode
        if annotation.dataset not in self.mode:
            raise ConfigError(
                f"data.crop names {', '.join(self.mode)} but not {annotation.dataset}; "
                f"type +data.crop.{annotation.dataset}=image or one crop for all, data.crop=image"
            )
        return self.mode[annotation.dataset]

    def unit_to_px(self, annotation: Annotation) -> Affine:
        """The (2, 3) affine from the crop's unit square to pixels of the image."""
        mode = self.mode_of(annotation)
        width, height = annotation.width_px, annotation.height_px
        if mode == "image":
            return box_to_affine(np.array([-0.5, -0.5, width - 0.5, height - 0.5]))
        if mode == "letterbox":
            centre = np.array([(width - 1) / 2, (height - 1) / 2])
            return box_to_affine(square(centre, max(width, height)))
        low, high = joints_box_px(annotation)
        side = self.box_scale * max(high - low)
        return box_to_affine(square((low + high) / 2, side))


def square(centre: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    """Box (x0, y0, x1, y1) of a square."""
    return np.concatenate([centre - side / 2, centre + side / 2])


def joints_box_px(annotation: Annotation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners (2,), (2,) of the tight box around the labelled joints.

    Raises:
        DataError: fewer than two labelled joints, or all in one place.
    """
    joints = annotation.keypoints_px[annotation.labelled].astype(np.float64)
    if len(joints) < 2 or np.ptp(joints, axis=0).max() <= 0:
        raise DataError(
            f"{annotation.image_id}: {len(joints)} labelled joints span no box; "
            "leave the image out or use the whole frame with data.crop=image"
        )
    return joints.min(axis=0), joints.max(axis=0)
