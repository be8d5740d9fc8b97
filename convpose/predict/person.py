"""Person: what is known about one person in one picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Keypoints of one person, in pixels of the upright original picture.

    Attributes:
        keypoints_px: (K, 2) float32, pixel centres at integers; may lie outside the picture.
        scores: (K,) float32 in [0, 1], confidence of each keypoint.
        box_px: (4,) float64 x0, y0, x1, y1, the box that the person was found in; None where the
            whole frame was looked at.
        box_score: in [0, 1], the detector's confidence; 1 without a detector.
        track: the person's number in a video, None in a still picture and before it is confirmed.
    """

    keypoints_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    box_px: NDArray[np.float64] | None = None
    box_score: float = 1.0
    track: int | None = None

    @property
    def score(self) -> float:
        """Confidence of the person: mean score of the keypoints times that of the box."""
        return float(self.scores.mean()) * self.box_score

    @property
    def extent_px(self) -> NDArray[np.float64]:
        """(4,) the box, or where there is none, the tight box around the keypoints."""
        if self.box_px is not None:
            return self.box_px
        points = self.keypoints_px.astype(np.float64)
        return np.concatenate([points.min(axis=0), points.max(axis=0)])
