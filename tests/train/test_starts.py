"""The Gaussians of a start's errors, by hand."""

import pytest
import torch
from torch import nn

from convpose.models.cascade import fit_start_errors
from convpose.train.calibration import measure_start_errors

NAN = float("nan")


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
