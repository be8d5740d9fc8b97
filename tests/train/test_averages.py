"""`WeightedMean` and `PredictionSpread` by hand, in any batching, over processes and epochs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convpose.train.callbacks import PredictionSpread
from convpose.train.module import WeightedMean

LABELS = torch.rand(32, 14, 2, generator=torch.Generator().manual_seed(0))


def updated(metric, *batches):
    for batch in batches:
        metric.update(*(torch.as_tensor(x) for x in batch))
    return metric


def spread(*batches):
    return float(updated(PredictionSpread(), *batches).compute())


@pytest.mark.parametrize(
    ("kind", "batches", "expected"),
    [
        (WeightedMean, [(1.0, 3), (2.0, 4), (5.0, 6)], 41 / 13),
        (PredictionSpread, [(LABELS[:10] / 2, LABELS[:10]), (LABELS[10:] / 2, LABELS[10:])], 0.5),
    ],
)
def test_processes_add_up_and_a_second_epoch_forgets_the_first(kind, batches, expected):
    whole = updated(kind(), *batches)
    assert float(whole.compute()) == pytest.approx(expected)
    one, other = updated(kind(), *batches[:-1]), updated(kind(), batches[-1])
    one.sums = one._reductions["sums"](torch.stack([one.sums, other.sums]))
    assert float(one.compute()) == pytest.approx(expected)
    whole.reset()
    assert float(updated(whole, batches[0]).compute()) == updated(kind(), batches[0]).compute()


def test_a_value_that_is_none_is_not_hidden():
    assert math.isnan(updated(WeightedMean(), (1.0, 3), (math.nan, 4)).compute())
    assert math.isnan(updated(WeightedMean(), (0.0, 0)).compute())


def test_the_spread_is_the_root_of_the_mean_variances():
    labelled = torch.tensor([[[0.0, 0.0]], [[2.0, 4.0]]])  # variances 1 and 4
    flat = labelled * torch.tensor([1.0, 0.0])
    assert spread((flat, labelled)) == pytest.approx(math.sqrt(0.5) / math.sqrt(2.5))
    predicted = LABELS.roll(1, dims=0) * 0.7
    expected = [x.var(dim=0, correction=0).mean().sqrt() for x in (predicted, LABELS)]
    assert spread((predicted, LABELS)) == pytest.approx(float(expected[0] / expected[1]))


@settings(max_examples=15)
@given(st.integers(1, 31), st.integers(0, 100))
def test_batches_and_their_order_do_not_matter(cut, seed):
    predicted = torch.rand(32, 14, 2, generator=torch.Generator().manual_seed(seed))
    labels = LABELS.masked_fill(LABELS[:, :, :1] < 0.2, math.nan)
    parts = [(predicted[cut:], labels[cut:]), (predicted[:cut], labels[:cut])]
    assert spread(*parts) == pytest.approx(spread((predicted, labels)), rel=1e-12)


def test_unlabelled_keypoints_count_on_neither_side():
    labels = LABELS.clone()
    labels[:, 0] = math.nan
    labels[3:, 1] = math.nan
    assert spread((labels.nan_to_num(1000.0), labels)) == pytest.approx(1.0)
