"""Parity: how far apart the keypoints of two runtimes are on the same crops."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convpose.data.crop import Crop
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.inference.runtime import Runtime
from convpose.inference.spec import Spec

CROPS = 48
AT_A_TIME = (1, 3, 16)  # batches of several sizes: an export for one size alone would be noticed


@dataclass(frozen=True, slots=True)
class Difference:
    """Distances of keypoints between two runtimes, in pixels of the crop.

    Attributes:
        crops: how many were looked at.
        largest_px: of all keypoints.
        usual_px: not exceeded by 99 in 100 keypoints. Where a heatmap has two peaks of almost the
            same height, rounding decides which one is the keypoint.
        score: the largest difference of scores.
    """

    crops: int
    largest_px: float
    usual_px: float
    score: float

    @classmethod
    def between(cls, one: Runtime, other: Runtime, crops: NDArray[np.uint8]) -> "Difference":
        """Of two runtimes on crops (N, 3, S, S) uint8; NaN from either counts as infinite."""
        (a, a_scores), (b, b_scores) = _answers(one, crops), _answers(other, crops)
        distance_px = np.linalg.norm(a - b, axis=-1) * one.spec.input_size_px
        distance_px = np.where(np.isnan(distance_px), np.inf, distance_px)
        return cls(
            len(crops),
            float(distance_px.max()),
            float(np.quantile(distance_px, 0.99, method="lower")),
            float(np.abs(a_scores - b_scores).max()),
        )

    def __str__(self) -> str:
        """One line for the terminal."""
        return (
            f"keypoints are at most {self.largest_px:.2g} px of the crop off PyTorch's, 99 % of "
            f"them at most {self.usual_px:.2g} px; scores {self.score:.2g}; on {self.crops} crops"
        )


def synthetic_crops(spec: Spec, count: int = CROPS) -> NDArray[np.uint8]:
    """Crops (N, 3, S, S) of synthetic people: of any network, and without any data."""
    source = SyntheticSource(count, image_size_px=160)
    dataset = PoseLandmarksDataset(
        source, range(count), Crop("box", 1.25), spec.input_size_px, spec.skeleton
    )
    return np.stack([dataset[i]["image"].numpy() for i in range(count)])


def _answers(
    runtime: Runtime, crops: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    found, start, turn = [], 0, 0
    while start < len(crops):
        size = AT_A_TIME[turn % len(AT_A_TIME)]
        found.append(runtime(crops[start : start + size]))
        start, turn = start + size, turn + 1
    keypoints, scores = zip(*found, strict=True)
    return np.concatenate(keypoints), np.concatenate(scores)
