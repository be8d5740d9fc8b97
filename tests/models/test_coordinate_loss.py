"""Masked squared error: hand numbers, and nothing from what is unlabelled."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convpose.models.losses.coordinate import MaskedMSE

NAN = math.nan


def loss_and_gradient(predicted, keypoints, visibility):
    predicted = torch.tensor(predicted, requires_grad=True)
    loss = MaskedMSE()({"keypoints": predicted}, torch.tensor(keypoints), torch.tensor(visibility))
    loss.backward()
    return loss.item(), predicted.grad


def test_by_hand():
    # errors (0.3, 0.4) and (0, -1): (0.09 + 0.16 + 0 + 1) / 4
    predicted, truth = [[[0.3, 0.4], [0.5, 0.0]]], [[[0.0, 0.0], [0.5, 1.0]]]
    loss, gradient = loss_and_gradient(predicted, truth, [[2, 1]])
    assert loss == pytest.approx(1.25 / 4)
    torch.testing.assert_close(gradient, torch.tensor([[[0.15, 0.2], [0.0, -0.5]]]))


def test_unlabelled_keypoints_add_nothing_and_get_no_gradient():
    predicted = [[[0.3, 0.4], [7.0, -7.0]], [[9.0, 9.0], [0.0, 0.0]]]
    truth = [[[0.0, 0.0], [NAN, NAN]], [[NAN, NAN], [0.0, 0.2]]]
    loss, gradient = loss_and_gradient(predicted, truth, [[2, 0], [0, 1]])
    assert loss == pytest.approx((0.09 + 0.16 + 0.04) / 4)
    assert gradient[0, 1].tolist() == gradient[1, 0].tolist() == [0.0, 0.0]
    assert gradient.isfinite().all()


def test_the_mask_counts_not_the_coordinates():
    loss, gradient = loss_and_gradient(
        [[[1.0, 1.0], [0.5, 0.5]]], [[[5.0, 5.0], [0.5, 0.0]]], [[0, 2]]
    )
    assert loss == pytest.approx(0.25 / 2)
    assert gradient[0, 0].tolist() == [0.0, 0.0]


def test_a_batch_without_labels_is_zero_with_finite_gradients():
    loss, gradient = loss_and_gradient([[[0.3, 0.4]]] * 2, [[[NAN, NAN]]] * 2, [[0]] * 2)
    assert loss == 0.0
    assert gradient.tolist() == [[[0.0, 0.0]]] * 2


@given(st.integers(0, 10**6))
def test_it_is_the_mean_of_a_plain_loop(seed):
    rng = torch.Generator().manual_seed(seed)
    predicted, truth = torch.rand(2, 4, 5, 2, generator=rng)
    visibility = torch.randint(0, 3, (4, 5), generator=rng)
    truth[visibility == 0] = NAN
    squares = [
        float(predicted[b, k, axis] - truth[b, k, axis]) ** 2
        for b in range(4)
        for k in range(5)
        for axis in range(2)
        if visibility[b, k]
    ]
    loss = MaskedMSE()({"keypoints": predicted}, truth, visibility)
    assert loss.item() == pytest.approx(sum(squares) / max(1, len(squares)), rel=1e-5)


def test_an_unlabelled_prediction_that_is_not_finite_does_no_harm():
    loss, gradient = loss_and_gradient(
        [[[NAN, 1.0], [0.5, 0.5]]], [[[NAN, NAN], [0.5, 0.0]]], [[0, 2]]
    )
    assert loss == pytest.approx(0.125)
    assert gradient[0, 0].tolist() == [0.0, 0.0]


def test_a_labelled_nan_is_not_hidden():
    loss, _ = loss_and_gradient([[[0.5, 0.5]]], [[[NAN, NAN]]], [[2]])
    assert math.isnan(loss)
