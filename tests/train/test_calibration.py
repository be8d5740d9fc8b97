"""Calibrated scores are hit rates; the Gaussians of a start's errors, by hand."""

import numpy as np
import pytest
import torch
from tiny import saved
from torch import nn

from convpose.metrics.functional import calibration_error
from convpose.models.cascade import fit_start_errors
from convpose.train.calibration import fit_scores, measure_start_errors

NAN = float("nan")


def drawn(slope, offset, count=20_000, seed=0):
    """Confidences and hits of one keypoint whose hit rate is σ(slope · logit + offset)."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.02, 0.98, (count, 1)).astype(np.float32)
    logit = np.log(scores / (1 - scores))
    hits = rng.random((count, 1)) < 1 / (1 + np.exp(-(slope * logit + offset)))
    return scores, hits


@pytest.mark.parametrize(("slope", "offset"), [(1, 0), (0.5, -1), (2, 1.5), (0, 0.7)])
def test_the_true_slope_and_offset_are_found(slope, offset):
    scores, hits = drawn(slope, offset)
    found = fit_scores(scores, hits, np.ones_like(hits))
    assert [float(value) for value in found] == pytest.approx([slope, offset], abs=0.08)


def test_what_is_unknown_does_not_count():
    scores, hits = drawn(0.5, -1)
    counted = np.random.default_rng(1).random(hits.shape) < 0.5
    hits = hits | ~counted  # lies
    found = fit_scores(scores, hits, counted)
    assert [float(value) for value in found] == pytest.approx([0.5, -1], abs=0.12)


def test_nothing_to_learn_from_leaves_scores_alone():
    nothing = np.zeros((3, 2), bool)
    slope, offset = fit_scores(np.full((3, 2), 0.3, np.float32), nothing, nothing)
    assert slope.tolist() == pytest.approx([1, 1])
    assert offset.tolist() == pytest.approx([0, 0])


def test_a_head_that_cannot_tell_learns_the_rate():
    hits = np.arange(100)[:, None] < 80
    slope, offset = fit_scores(np.full((100, 1), 0.5, np.float32), hits, np.ones_like(hits))
    assert float(torch.sigmoid(offset)[0]) == pytest.approx(0.8, abs=0.02), "but for the prior"
    assert float(slope[0]) == pytest.approx(1)


def test_always_found_stays_finite():
    ones = np.ones((50, 1), bool)
    slope, offset = fit_scores(np.full((50, 1), 0.9999, np.float32), ones, ones)
    assert bool(torch.isfinite(slope).all() & torch.isfinite(offset).all())


def test_calibration_lowers_the_error_on_other_images():
    scores, hits = drawn(0.5, -1, seed=0)
    slope, offset = fit_scores(scores, hits, np.ones_like(hits))
    other, other_hits = drawn(0.5, -1, seed=1)
    logit = torch.from_numpy(other).logit()
    calibrated = torch.sigmoid(slope * logit + offset).numpy()
    assert calibration_error(other[:, 0], other_hits[:, 0]) > 0.15
    assert calibration_error(calibrated[:, 0], other_hits[:, 0]) < 0.02


def test_a_training_calibrates_its_best_checkpoint(unbroken):
    best, last = (saved(unbroken, name)["state_dict"] for name in ("best", "last"))
    assert (best["model.score_offset"] != 0).any()
    assert (last["model.score_offset"] == 0).all()


def test_mean_and_deviation_of_the_errors_within_the_window():
    errors = torch.tensor(
        [
            [[0.1, 0.0], [0.0, 0.0]],
            [[0.3, 0.4], [NAN, NAN]],
            [[0.6, 0.0], [0.2, -0.2]],  # the first beyond half a side
        ]
    )
    mean, std, share = fit_start_errors(errors, side=1.0)
    assert mean.flatten().tolist() == pytest.approx([0.2, 0.2, 0.1, -0.1])
    assert std.flatten().tolist() == pytest.approx([0.1, 0.2, 0.1, 0.1])
    assert share == pytest.approx(4 / 5)


def test_a_joint_that_is_never_in_its_window():
    errors = torch.tensor([[[0.1, 0.1], [3.0, 0.0], [NAN, NAN]]])
    mean, std, share = fit_start_errors(errors, side=2.0)
    assert mean[1:].tolist() == [[0, 0], [0, 0]]
    assert std[1:].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert share == pytest.approx(1 / 2)


def test_another_network_has_nothing_to_measure():
    assert measure_start_errors(nn.Linear(1, 1), None, torch.device("cpu"), "32-true") == ""
