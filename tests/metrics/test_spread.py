"""`PredictionSpread` against torch's own variance, in any batching."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convpose.metrics.pose_metrics import PredictionSpread

LABELS = torch.rand(32, 14, 2, generator=torch.Generator().manual_seed(0))


def measure(*batches):
    metric = PredictionSpread()
    for predicted, labelled in batches:
        metric.update(predicted, labelled)
    return float(metric.compute())


def test_by_hand():
    labelled = torch.tensor([[[0.0, 0.0]], [[2.0, 4.0]]])  # variances 1 and 4
    assert measure((labelled / 2, labelled)) == pytest.approx(0.5)
    assert measure((labelled * torch.tensor([1.0, 0.0]), labelled)) == pytest.approx(
        math.sqrt(0.5) / math.sqrt(2.5)
    )


def test_it_is_the_root_of_the_mean_variances():
    predicted = LABELS.roll(1, dims=0) * 0.7
    expected = [x.var(dim=0, correction=0).mean().sqrt() for x in (predicted, LABELS)]
    assert measure((predicted, LABELS)) == pytest.approx(float(expected[0] / expected[1]))


@given(st.integers(1, 31), st.integers(0, 100))
def test_batches_and_their_order_do_not_matter(cut, seed):
    predicted = torch.rand(32, 14, 2, generator=torch.Generator().manual_seed(seed))
    labels = LABELS.masked_fill(LABELS[:, :, :1] < 0.2, math.nan)
    once = measure((predicted, labels))
    parts = [(predicted[cut:], labels[cut:]), (predicted[:cut], labels[:cut])]
    assert measure(*parts) == pytest.approx(once, rel=1e-12)


def test_processes_add_up():
    one, other = PredictionSpread(), PredictionSpread()
    one.update(LABELS[:10] * 0.5, LABELS[:10])
    other.update(LABELS[10:] * 0.5, LABELS[10:])
    one.sums = one._reductions["sums"](torch.stack([one.sums, other.sums]))
    assert float(one.compute()) == pytest.approx(0.5)


def test_unlabelled_keypoints_count_on_neither_side():
    labels = LABELS.clone()
    labels[:, 0] = math.nan
    labels[3:, 1] = math.nan
    predicted = labels.nan_to_num(1000.0)
    assert measure((predicted, labels)) == pytest.approx(1.0)


def test_a_second_epoch_forgets_the_first():
    metric = PredictionSpread()
    for factor in (0.5, 0.1):
        metric.update(LABELS * factor, LABELS)
        assert float(metric.compute()) == pytest.approx(factor)
        metric.reset()
