"""Spec: what crops a network was trained on, so that it is shown the same ones in use."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from convpose.data.crop import around_box, whole_frame
from convpose.errors import ModelError
from convpose.geometry import Affine
from convpose.skeleton import LSP14, SKELETONS, Skeleton, skeleton_named


@dataclass(frozen=True, slots=True)
class Spec:
    """What crops a network was trained on, and what its keypoints mean.

    Attributes:
        input_size_px: side S of the square crops.
        frame: crop of a picture without a box, ``image`` or ``letterbox``.
        box_scale: side of the square around a box over the box's longer side.
        skeleton: names the keypoints.
    """

    input_size_px: int
    frame: str
    box_scale: float
    skeleton: Skeleton

    @classmethod
    def of(cls, data: DictConfig) -> "Spec":
        """From the ``data`` group of a training.

        A network that saw nothing but boxes gets a whole frame letterboxed: undistorted.
        """
        crop = data.crop
        modes = [crop] if isinstance(crop, str) else list(crop.values())
        whole = [mode for mode in modes if mode != "box"]
        frame = whole[0] if whole else "letterbox"
        skeleton = skeleton_named(data.get("skeleton", LSP14.name))
        return cls(int(data.input_size_px), frame, float(data.box_scale), skeleton)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "Spec":
        """From what `to_dict` made, out of the metadata of a file.

        Raises:
            ModelError: a fact missing, or keypoints of no skeleton that is known.
        """
        try:
            skeleton = SKELETONS.get(facts["skeleton"])
            if skeleton is None or list(skeleton.keypoints) != list(facts["keypoints"]):
                raise ModelError(
                    f"skeleton {facts['skeleton']} with {len(facts['keypoints'])} keypoints is not "
                    f"known here, only {', '.join(SKELETONS)}; update convpose"
                )
            size, scale = int(facts["input_size_px"]), float(facts["box_scale"])
            return cls(size, str(facts["frame"]), scale, skeleton)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the description of the network is incomplete ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the metadata of a file."""
        return {
            "input_size_px": self.input_size_px,
            "frame": self.frame,
            "box_scale": self.box_scale,
            "skeleton": self.skeleton.name,
            "keypoints": list(self.skeleton.keypoints),
        }

    def unit_to_px(self, size_px: tuple[int, int], box_px: NDArray[np.float64] | None) -> Affine:
        """The crop of a picture of that width and height: around a box, or the whole frame."""
        if box_px is None:
            return whole_frame(self.frame, *size_px)
        return around_box(box_px[:2], box_px[2:], self.box_scale)
