"""Compute keypoints from crops, in whatever engine.

A predictor knows no network. It cuts the crops that a `CropSpec` describes and hands them to a
`Runtime`: `TorchRuntime`, or an exported network in another engine, which needs no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from convpose.config.instantiate import build_skeleton
from convpose.config.schema import Side, check_value
from convpose.data.crop import Scale, around_box, whole_frame
from convpose.errors import ConfigError, ModelError
from convpose.geometry import Affine
from convpose.skeleton import LSP14, Skeleton, bundled

FACTS = {"input_size_px": Side, "box_scale": Scale, "frame": Literal["image", "letterbox"]}


@dataclass(frozen=True, slots=True)
class CropSpec:
    """Crops that a network was trained on, and the meaning of its keypoints.

    Attributes:
        input_size_px: side S of the square crops.
        frame: crop of a picture without a box: ``image`` or ``letterbox``.
        box_scale: side of the crop around a box over the box's longer side.
        skeleton: names the keypoints.
    """

    input_size_px: int
    frame: str
    box_scale: float
    skeleton: Skeleton

    @classmethod
    def from_config(cls, data: DictConfig) -> "CropSpec":
        """Read the ``data`` group of a training.

        A network that was trained on boxes only gets whole frames letterboxed: undistorted.
        """
        crop = data.crop
        modes = [crop] if isinstance(crop, str) else list(crop.values())
        whole = [mode for mode in modes if mode != "box"]
        frame = whole[0] if whole else "letterbox"
        skeleton = build_skeleton(data.get("skeleton", LSP14.name))
        return cls(int(data.input_size_px), frame, float(data.box_scale), skeleton)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "CropSpec":
        """Read what `to_dict` wrote into the metadata of a file.

        Raises:
            ModelError: a missing fact, or one that cannot be.
        """
        try:
            skeleton = _skeleton_of_facts(facts["skeleton"], facts["keypoints"])
            for key, hint in FACTS.items():
                check_value(key, facts[key], hint)
            size, scale = int(facts["input_size_px"]), float(facts["box_scale"])
            return cls(size, str(facts["frame"]), scale, skeleton)
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise ModelError(f"the description of the network is incomplete ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the metadata of a file."""
        return {
            "input_size_px": self.input_size_px,
            "frame": self.frame,
            "box_scale": self.box_scale,
            "skeleton": self.skeleton.to_dict(),
            "keypoints": list(self.skeleton.keypoints),
        }

    def unit_to_px(self, size_px: tuple[int, int], box_px: NDArray[np.float64] | None) -> Affine:
        """Place the crop in a picture of width and height: around a box, or the whole frame."""
        if box_px is None:
            return whole_frame(self.frame, *size_px)
        return around_box(box_px[:2], box_px[2:], self.box_scale)


def _skeleton_of_facts(given: Any, keypoints: Any) -> Skeleton:
    """Build the skeleton in a file's metadata; files of version 0.1 have its name alone."""
    mapping = isinstance(given, Mapping)
    known = build_skeleton(given, "skeleton") if mapping else bundled().get(given)
    if known is None or list(known.keypoints) != list(keypoints):
        raise ModelError(
            f"skeleton {known.name if known else given} with {len(keypoints)} keypoints is not "
            f"known here, only {', '.join(bundled())}; update convpose"
        )
    return known


class Runtime(Protocol):
    """Compute keypoints from crops.

    Attributes:
        spec: of the crops that it wants.
    """

    @property
    def spec(self) -> CropSpec:
        """Describe the crops that are wanted."""
        ...

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Turn (B, 3, S, S) uint8 RGB into unit keypoints (B, K, 2) and scores (B, K)."""
        ...
