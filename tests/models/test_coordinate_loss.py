"""Losses on coordinates: hand numbers, and nothing from what is unlabelled."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convpose.models.keypoints.regression import MaskedL1, MaskedMSE, MaskedSmoothL1, MaskedWing

NAN = math.nan
LOSSES = {  # of one coordinate, by the books
    MaskedMSE: lambda e: e**2,
    MaskedL1: abs,
    MaskedSmoothL1: lambda e: e**2 / 0.04 if abs(e) < 0.02 else abs(e) - 0.01,
    MaskedWing: lambda e: (
        0.04 * math.log(1 + abs(e) / 0.008)
        if abs(e) < 0.04
        else abs(e) - (0.04 - 0.04 * math.log(1 + 0.04 / 0.008))
    ),
}
every_loss = pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.__name__)


def loss_and_gradient(predicted, keypoints, visibility, kind=MaskedMSE):
    predicted = torch.tensor(predicted, requires_grad=True)
    loss = kind()({"keypoints": predicted}, torch.tensor(keypoints), torch.tensor(visibility))
    loss.backward()
    return loss.item(), predicted.grad


def test_by_hand():
    # errors (0.3, 0.4) and (0, -1): (0.09 + 0.16 + 0 + 1) / 4
    predicted, truth = [[[0.3, 0.4], [0.5, 0.0]]], [[[0.0, 0.0], [0.5, 1.0]]]
    loss, gradient = loss_and_gradient(predicted, truth, [[2, 1]])
    assert loss == pytest.approx(1.25 / 4)
    torch.testing.assert_close(gradient, torch.tensor([[[0.15, 0.2], [0.0, -0.5]]]))


def test_wing_by_hand():
    loss, gradient = loss_and_gradient(
        [[[0.508, 0.5]], [[0.7, 0.45]]], [[[0.5, 0.5]]] * 2, [[2], [2]], MaskedWing
    )
    rise = 0.04 - 0.04 * math.log(6)  # what makes both branches meet at 0.04
    small, large, medium = 0.04 * math.log(2), 0.2 - rise, 0.05 - rise
    assert loss == pytest.approx((small + 0 + large + medium) / 4, rel=1e-5)
    slopes = [[[0.04 / 0.016, 0.0]], [[1.0, -1.0]]]
    torch.testing.assert_close(gradient * 4, torch.tensor(slopes), rtol=1e-3, atol=0)


def test_smooth_l1_by_hand():
    loss, gradient = loss_and_gradient(
        [[[0.51, 0.5]], [[0.7, 0.5]]], [[[0.5, 0.5]]] * 2, [[2], [2]], MaskedSmoothL1
    )
    assert loss == pytest.approx((0.0025 + 0 + 0.19 + 0) / 4, rel=1e-4)
    slopes = [[[0.5, 0.0]], [[1.0, 0.0]]]
    torch.testing.assert_close(gradient * 4, torch.tensor(slopes), rtol=1e-4, atol=1e-6)


@every_loss
def test_it_rises_steadily_from_zero(kind):
    errors = torch.linspace(0, 0.2, 400)
    values = torch.tensor(
        [loss_and_gradient([[[e, e]]], [[[0.0] * 2]], [[1]], kind)[0] for e in errors.tolist()]
    )
    assert values[0] == 0
    steps = values.diff()
    assert (steps > 0).all()
    assert steps.max() < 0.003, "no jump"


@every_loss
def test_unlabelled_keypoints_add_nothing_and_get_no_gradient(kind):
    predicted = [[[0.3, 0.4], [7.0, -7.0]], [[9.0, 9.0], [0.0, 0.0]]]
    truth = [[[0.0, 0.0], [NAN, NAN]], [[NAN, NAN], [0.0, 0.2]]]
    loss, gradient = loss_and_gradient(predicted, truth, [[2, 0], [0, 1]], kind)
    of_one = LOSSES[kind]
    assert loss == pytest.approx((of_one(0.3) + of_one(0.4) + of_one(0.2)) / 4, rel=1e-5)
    assert gradient[0, 1].tolist() == gradient[1, 0].tolist() == [0.0, 0.0]
    assert gradient.isfinite().all()


def test_the_mask_counts_not_the_coordinates():
    loss, gradient = loss_and_gradient(
        [[[1.0, 1.0], [0.5, 0.5]]], [[[5.0, 5.0], [0.5, 0.0]]], [[0, 2]]
    )
    assert loss == pytest.approx(0.25 / 2)
    assert gradient[0, 0].tolist() == [0.0, 0.0]


@every_loss
def test_a_batch_without_labels_is_zero_with_finite_gradients(kind):
    loss, gradient = loss_and_gradient([[[0.3, 0.4]]] * 2, [[[NAN, NAN]]] * 2, [[0]] * 2, kind)
    assert loss == 0.0
    assert gradient.tolist() == [[[0.0, 0.0]]] * 2


@every_loss
@given(seed=st.integers(0, 10**6))
def test_it_is_the_mean_of_a_plain_loop(kind, seed):
    rng = torch.Generator().manual_seed(seed)
    predicted, truth = torch.rand(2, 4, 5, 2, generator=rng)
    visibility = torch.randint(0, 3, (4, 5), generator=rng)
    truth[visibility == 0] = NAN
    each = [
        LOSSES[kind](float(predicted[b, k, axis] - truth[b, k, axis]))
        for b in range(4)
        for k in range(5)
        for axis in range(2)
        if visibility[b, k]
    ]
    loss = kind()({"keypoints": predicted}, truth, visibility)
    assert loss.item() == pytest.approx(sum(each) / max(1, len(each)), rel=1e-4)


@every_loss
def test_an_unlabelled_prediction_that_is_not_finite_does_no_harm(kind):
    loss, gradient = loss_and_gradient(
        [[[NAN, 1.0], [0.5, 0.5]]], [[[NAN, NAN], [0.5, 0.0]]], [[0, 2]], kind
    )
    assert loss == pytest.approx(LOSSES[kind](0.5) / 2, rel=1e-5)
    assert gradient[0, 0].tolist() == [0.0, 0.0]


@every_loss
def test_a_labelled_nan_is_not_hidden(kind):
    loss, _ = loss_and_gradient([[[0.5, 0.5]]], [[[NAN, NAN]]], [[2]], kind)
    assert math.isnan(loss)


def test_wrong_labels_move_squares_and_hardly_l1():
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(200, 4, generator=rng)
    true = 0.5 + 0.1 * features @ torch.randn(4, 2, generator=rng)
    labels = true.clone()
    labels[:30] = 1 - true[:30] + 0.3  # 15 % exchange left and right, and miss
    off = {}
    for kind in (MaskedMSE, MaskedL1):
        weight, bias = torch.zeros(4, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.Adam([weight, bias], lr=0.01)
        for _ in range(300):
            output = {"keypoints": (features @ weight + bias).unsqueeze(1)}
            optimizer.zero_grad()
            kind()(output, labels.unsqueeze(1), torch.full((200, 1), 2)).backward()
            optimizer.step()
        off[kind] = (features @ weight + bias - true).norm(dim=1).mean().item()
    assert off[MaskedL1] < 0.02 < 0.05 < off[MaskedMSE]
