"""The calibration error by hand."""

import math

import numpy as np
import pytest

from convpose.metrics.reliability import calibration_error, reliability_bins


def test_by_hand():
    scores = np.array([0.12, 0.18, 0.95, 1.0])
    hits = np.array([False, True, True, True])
    # bin 1: mean score 0.15, rate 0.5; bin 9: mean score 0.975, rate 1
    assert calibration_error(scores, hits) == pytest.approx((2 * 0.35 + 2 * 0.025) / 4)
    filled, mean_score, rate, count = reliability_bins(scores, hits)
    assert filled.tolist() == [1, 9]
    assert mean_score.tolist() == pytest.approx([0.15, 0.975])
    assert rate.tolist() == [0.5, 1]
    assert count.tolist() == [2, 2]


def test_nothing_to_count():
    assert math.isnan(calibration_error(np.array([]), np.array([], bool)))
