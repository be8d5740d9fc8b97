"""Cross-entropy of heatmaps: by hand, against a loop, and nothing from what does not count."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convpose.models.keypoints import inside_crop
from convpose.models.keypoints.heatmap import HeatmapCrossEntropy, gaussian

NAN = math.nan


def loss_and_gradient(logits, keypoints, visibility, sigma=1.0):
    logits = logits.clone().requires_grad_()
    output = {"heatmap_logits": logits}
    loss = HeatmapCrossEntropy(sigma)(output, torch.tensor(keypoints), torch.tensor(visibility))
    loss.backward()
    return loss.item(), logits.grad


class TestTarget:
    def test_by_hand(self):
        # two cells at ±½ of the crop's centre: equal along x; along y half a cell off, σ = 1 cell:
        # distances 0 and 1, shares 1 : e^-½
        target = gaussian(torch.tensor([[[0.5, 0.25]]]), 2, 1.0)[0, 0]
        first = 1 / (1 + math.exp(-0.5))
        torch.testing.assert_close(
            target, torch.tensor([[first / 2, first / 2], [(1 - first) / 2, (1 - first) / 2]])
        )

    @given(st.floats(0, 1), st.floats(0, 1), st.floats(0.3, 5))
    def test_its_sum_is_one_also_at_the_border(self, x, y, sigma):
        target = gaussian(torch.tensor([[[x, y]]]), 12, sigma)
        assert target.sum().item() == pytest.approx(1.0, abs=1e-5)

    def test_x_is_the_last_axis(self):
        target = gaussian(torch.tensor([[[0.9, 0.1]]]), 10, 0.5)[0, 0]
        assert target[0, 8:].sum() > 0.4
        assert target[8:].sum() < 1e-6

    def test_against_a_loop(self):
        side, sigma, (x, y) = 6, 1.3, (0.31, 0.77)
        target = gaussian(torch.tensor([[[x, y]]]), side, sigma)[0, 0]
        plain = [
            [
                math.exp(
                    -((column + 0.5 - x * side) ** 2 + (row + 0.5 - y * side) ** 2) / 2 / sigma**2
                )
                for column in range(side)
            ]
            for row in range(side)
        ]
        total = sum(map(sum, plain))
        torch.testing.assert_close(target, torch.tensor(plain) / total)


def test_inside_is_labelled_and_within_the_crop():
    keypoints = torch.tensor(
        [[[0.0, 0.0], [1.0, 0.5], [0.5, -0.01], [NAN, NAN], [0.99, 0.99], [0.3, 0.3]]]
    )
    safe, inside = inside_crop(keypoints, torch.tensor([[1, 2, 2, 0, 2, 0]]))
    assert inside.tolist() == [[True, False, False, False, True, False]]
    assert safe[0, 1:4].unique().tolist() == [0.5]
    assert torch.equal(safe[0, [0, 4]], keypoints[0, [0, 4]])


def test_flat_maps_cost_the_logarithm_of_the_cells():
    loss, _ = loss_and_gradient(torch.zeros(2, 1, 4, 4), [[[0.3, 0.6]]] * 2, [[2]] * 2)
    assert loss == pytest.approx(math.log(16))


def test_by_hand():
    # the target of a keypoint in the middle of two by two cells is a quarter each
    logits = torch.tensor([[[[math.log(4), 0.0], [0.0, math.log(2)]]]])  # softmax 4 1 1 2 / 8
    loss, gradient = loss_and_gradient(logits, [[[0.5, 0.5]]], [[2]])
    assert loss == pytest.approx((math.log(2) + 2 * math.log(8) + math.log(4)) / 4)
    expected = torch.tensor([[[[0.25, -0.125], [-0.125, 0.0]]]])  # softmax less target
    torch.testing.assert_close(gradient, expected)


@given(st.integers(0, 10**6))
def test_it_is_the_mean_of_a_plain_loop(seed):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 4, generator=rng)
    keypoints = torch.rand(2, 3, 2, generator=rng) * 1.5 - 0.25
    visibility = torch.randint(0, 3, (2, 3), generator=rng)
    losses = []
    for b in range(2):
        for k in range(3):
            x, y = keypoints[b, k].tolist()
            if not (visibility[b, k] and 0 <= x < 1 and 0 <= y < 1):
                continue
            target = gaussian(keypoints[b, k].view(1, 1, 2), 4, 1.0).flatten()
            heatmap = logits[b, k].flatten().softmax(0)
            losses.append(-sum(t * math.log(h) for t, h in zip(target, heatmap, strict=True)))
    keypoints[visibility == 0] = NAN
    loss = HeatmapCrossEntropy()({"heatmap_logits": logits}, keypoints, visibility)
    assert loss.item() == pytest.approx(float(sum(losses)) / max(1, len(losses)), rel=1e-5)


def test_what_does_not_count_adds_nothing_and_gets_no_gradient():
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 4, 4)
    keypoints = [[[0.3, 0.6], [NAN, NAN], [1.2, 0.5], [0.4, 0.4]]]
    loss, gradient = loss_and_gradient(logits, keypoints, [[2, 0, 2, 0]])
    alone, _ = loss_and_gradient(logits[:, :1], [[[0.3, 0.6]]], [[2]])
    assert loss == pytest.approx(alone)
    assert gradient[0, 1:].unique().tolist() == [0.0]
    assert gradient[0, 0].abs().sum() > 0
    assert gradient.isfinite().all()


def test_a_batch_without_labels_is_zero_with_finite_gradients():
    loss, gradient = loss_and_gradient(torch.randn(2, 1, 4, 4), [[[NAN, NAN]]] * 2, [[0]] * 2)
    assert loss == 0.0
    assert gradient.unique().tolist() == [0.0]
