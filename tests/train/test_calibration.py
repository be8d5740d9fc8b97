"""Calibrated scores are hit rates."""

import numpy as np
import pytest
import torch
from tiny import saved, tiny_run

from convpose.metrics.functional import calibration_error
from convpose.train.calibration import fit_scores


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


def test_a_training_calibrates_its_best_checkpoint(tmp_path):
    tiny_run(tmp_path)
    best = saved(tmp_path, "best")["state_dict"]
    last = saved(tmp_path, "last")["state_dict"]
    assert (best["model.score_offset"] != 0).any()
    assert (last["model.score_offset"] == 0).all()
