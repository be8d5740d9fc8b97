"""Whether scores mean what they say: how often keypoints of a score are found."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def calibration_error(scores: NDArray[np.floating], hits: NDArray[np.bool_]) -> float:
    """Expected calibration error (Guo et al., 2017): mean |hit rate − mean score| of ten bins.

    Args:
        scores: (M,) in [0, 1].
        hits: (M,) whether the keypoint was found.

    Returns:
        Weighted by the bins' counts, in [0, 1]; NaN without scores.
    """
    if len(scores) == 0:
        return math.nan
    _, mean_score, rate, count = reliability_bins(scores, hits)
    return float((np.abs(rate - mean_score) * count).sum() / count.sum())


def reliability_bins(
    scores: NDArray[np.floating], hits: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Which of ten equal bins of the score hold anything; their mean score, hit rate and count."""
    which = np.clip((np.asarray(scores, np.float64) * 10).astype(int), 0, 9)
    filled, inverse, count = np.unique(which, return_inverse=True, return_counts=True)
    mean_score = np.bincount(inverse, scores) / count
    rate = np.bincount(inverse, hits) / count
    return filled, mean_score, rate, count
