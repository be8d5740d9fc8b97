"""A weighted mean by hand."""

import math

import pytest
import torch

from convpose.metrics.pose_metrics import WeightedMean


def mean(*batches):
    metric = WeightedMean()
    for value, weight in batches:
        metric.update(torch.tensor(value), torch.tensor(weight))
    return metric


def test_by_hand():
    assert float(mean((1.0, 3), (2.0, 4), (5.0, 6)).compute()) == pytest.approx(41 / 13)


def test_processes_add_up():
    one, other = mean((1.0, 3), (2.0, 4)), mean((5.0, 6))
    one.sums = one._reductions["sums"](torch.stack([one.sums, other.sums]))
    assert float(one.compute()) == pytest.approx(41 / 13)


def test_a_value_that_is_none_is_not_hidden():
    assert math.isnan(mean((1.0, 3), (math.nan, 4)).compute())
    assert math.isnan(mean((0.0, 0)).compute())


def test_a_second_epoch_forgets_the_first():
    metric = mean((1.0, 3))
    assert float(metric.compute()) == 1.0
    metric.reset()
    metric.update(torch.tensor(2.0), torch.tensor(1))
    assert float(metric.compute()) == 2.0
