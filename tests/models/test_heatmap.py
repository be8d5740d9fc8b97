"""Heatmaps: drawn, decoded at their peak and at their mean, and what they cost, by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convpose.models.keypoints.heatmap import (
    HeatmapCrossEntropy,
    HeatmapHead,
    IntegralHead,
    IntegralLoss,
    decode,
    gaussian,
    jensen_shannon,
    summit,
)

NAN = math.nan
SIDE = 16
some_examples = settings(max_examples=20)
unit = st.floats(0, 1, exclude_max=True)


def head(kind=HeatmapHead, **keys):
    torch.manual_seed(0)
    return kind((4, 8), (16, 32), 64, 3, **{"channels": 6, **keys})


INTEGRAL = head(IntegralHead)


def features():
    return [torch.randn(5, 4, 4, 4), torch.randn(5, 8, 2, 2)]


def cells(places, side=SIDE):
    """Logits of a map that has these shares in these cells (x, y), and nothing elsewhere."""
    logits = torch.full((1, 1, side, side), -200.0)
    for (x, y), share in places.items():
        logits[0, 0, y, x] = math.log(share)
    return logits


def bell(keypoint, sigma=1.0, side=SIDE):
    return gaussian(torch.tensor([[keypoint]]), side, sigma).clamp(min=1e-30).log()


class TestDraw:
    @some_examples
    @given(unit, unit, st.floats(0.3, 5))
    def test_a_gaussian_with_the_sum_one_also_at_the_border(self, x, y, sigma):
        target = gaussian(torch.tensor([[[x, y]]]), 6, sigma)[0, 0]
        plain = torch.tensor(
            [
                [-((i + 0.5 - x * 6) ** 2 + (j + 0.5 - y * 6) ** 2) / 2 / sigma**2]
                for j in range(6)
                for i in range(6)
            ]
        )
        torch.testing.assert_close(target.flatten(), plain[:, 0].softmax(0), atol=1e-5, rtol=1e-4)

    def test_by_hand(self):
        # two by two cells at ±½ of the crop's centre: equal along x; along y half a cell off,
        # σ = 1 cell: distances 0 and 1, shares 1 : e^-½
        target = gaussian(torch.tensor([[[0.5, 0.25]]]), 2, 1.0)[0, 0]
        first = 1 / (1 + math.exp(-0.5))
        expected = torch.tensor([[first / 2] * 2, [(1 - first) / 2] * 2])
        torch.testing.assert_close(target, expected)


class TestPeak:
    @pytest.mark.parametrize(("x", "y"), [(5, 9), (0, 0), (15, 0), (0, 15), (15, 15), (1, 14)])
    def test_a_single_cell_is_its_centre(self, x, y):
        keypoints, scores = decode(cells({(x, y): 1.0}), window=2)
        assert keypoints[0, 0].tolist() == pytest.approx([(x + 0.5) / 16, (y + 0.5) / 16])
        assert scores.item() == pytest.approx(1.0)

    @some_examples
    @given(unit, unit, st.sampled_from([0.7, 1.0, 1.5, 2.0]))
    def test_a_gaussian_is_found_to_a_tenth_of_a_cell_anywhere(self, x, y, sigma):
        keypoints, _ = decode(bell((x, y), sigma), window=2)
        assert (keypoints[0, 0] * SIDE).tolist() == pytest.approx([x * SIDE, y * SIDE], abs=0.1)

    def test_the_score_is_the_share_around_the_peak(self):
        logits = cells({(2, 2): 0.4, (3, 4): 0.2, (2, 5): 0.3, (7, 7): 0.1}, side=8)
        for window, share in ((0, 0.4), (1, 0.4), (2, 0.6), (3, 0.9), (7, 1.0)):
            assert decode(logits, window)[1].item() == pytest.approx(share)

    @some_examples
    @given(st.floats(0.25, 0.75), st.floats(0.25, 0.75), st.sampled_from([0.7, 1.0, 1.5, 2.0]))
    def test_a_blur_moves_a_gaussian_at_the_border_alone(self, x, y, sigma):
        keypoints, _ = decode(bell((x, y), sigma), 2, blur=3)
        assert (keypoints[0, 0] * SIDE).tolist() == pytest.approx([x * SIDE, y * SIDE], abs=0.1)
        edge = decode(bell((x, 0.0), sigma), 2, blur=3)[0][0, 0, 1] * SIDE
        assert 0 < edge < 2, "cells inward"

    def test_a_blurred_peak_counts_its_surroundings(self):
        logits = cells({(3, 3): 0.3, (10, 10): 0.25, (11, 10): 0.2, (10, 11): 0.2, (9, 9): 0.05})
        for blur, cell in ((0, 3), (3, 10)):
            (x, y), score = decode(logits, 2, blur)[0][0, 0] * SIDE, decode(logits, 2, blur)[1]
            assert (int(x), int(y)) == (cell, cell)
            assert score.item() == pytest.approx(0.3 if blur == 0 else 0.7)

    def test_two_peaks_are_not_averaged(self):
        logits = torch.logaddexp(bell((0.2, 0.3)) + 0.1, bell((0.8, 0.3)))
        keypoints, scores = decode(logits, window=2)
        assert keypoints[0, 0].tolist() == pytest.approx([0.2, 0.3], abs=0.1 / SIDE)
        assert 0.4 < scores.item() < 0.6

    @pytest.mark.parametrize(("size", "surest"), [(0, 25 / 64), (1e4, 1.0)])
    def test_flat_maps_and_huge_logits_give_a_place_in_the_crop(self, size, surest):
        keypoints, scores = decode(torch.randn(2, 3, 8, 8) * size, window=2)
        assert ((keypoints >= 0) & (keypoints <= 1)).all()
        assert ((scores >= 0) & (scores <= surest + 1e-6)).all()

    @some_examples
    @given(st.integers(0, 10**6))
    def test_each_map_by_itself_and_mirrored(self, seed):
        logits = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(seed))
        (keypoints, scores), (mirrored, same) = decode(logits, 2), decode(logits.flip(3), 2)
        alone = decode(logits[1:, :1], 2)
        torch.testing.assert_close(alone[0][0, 0], keypoints[1, 0])
        torch.testing.assert_close(alone[1][0, 0], scores[1, 0])
        mirrored[..., 0] = 1 - mirrored[..., 0]
        torch.testing.assert_close(mirrored, keypoints)
        torch.testing.assert_close(same, scores)

    @pytest.mark.parametrize("step", [1, 3])
    @pytest.mark.parametrize("place", [0.4, 5.5, 7.9, 14.8])
    def test_the_summit_of_a_gaussian_is_exact(self, place, step):
        profile = torch.exp(-((torch.arange(16) + 0.5 - place) ** 2) / 8)
        found = summit(profile, profile.argmax(keepdim=True), step)
        assert found.item() * 16 == pytest.approx(place, abs=1e-3)


class TestMean:
    def test_by_hand(self):
        keypoints, _ = INTEGRAL.decode(cells({(0, 0): 0.25, (3, 2): 0.75}, side=4))
        x, y = (0.125 + 3 * 0.875) / 4, (0.125 + 3 * 0.625) / 4
        assert keypoints[0, 0].tolist() == pytest.approx([x, y])

    @some_examples
    @given(st.floats(0.2, 0.8), st.floats(0.2, 0.8))
    def test_a_gaussian_s_mean_is_where_it_is(self, x, y):
        keypoints, _ = INTEGRAL.decode(bell((x, y)))
        assert keypoints[0, 0].tolist() == pytest.approx([x, y], abs=0.02 / 16)

    @pytest.mark.parametrize(("at", "inward"), [(0.0, 0.834), (0.5, 0.52), (1.5, 0.13), (3, 0)])
    def test_at_the_border_a_gaussian_is_cut_and_its_mean_moves_inward(self, at, inward):
        x, y = (16 * INTEGRAL.decode(bell((at / 16, 1 - at / 16)))[0][0, 0]).tolist()
        assert (x - at, 16 - at - y) == pytest.approx((inward, inward), abs=0.01)

    def test_the_score_is_the_share_around_the_keypoint(self):
        flat = torch.zeros(1, 1, 15, 15)
        for window, seen in ((0, 1), (1, 3), (2, 5), (3, 7)):  # the keypoint is a cell's centre
            score = head(IntegralHead, window=window).decode(flat)[1].item()
            assert score == pytest.approx(seen**2 / 225)
        for places, score in (({(1, 8): 0.5, (14, 8): 0.5}, 0.0), ({(14, 8): 1.0}, 1.0)):
            assert INTEGRAL.decode(cells(places))[1].item() == pytest.approx(score, abs=1e-6)

    def test_every_cell_feels_the_keypoint(self):
        logits = torch.randn(1, 1, 6, 6, requires_grad=True)
        keypoints, _ = INTEGRAL.decode(logits)
        keypoints[0, 0, 0].backward()
        heatmap = logits.detach().flatten().softmax(0).view(6, 6)
        centre = (torch.arange(6) + 0.5) / 6
        expected = heatmap * (centre - keypoints[0, 0, 0].detach())  # p (c - mean)
        torch.testing.assert_close(logits.grad[0, 0], expected)


class TestHeads:
    @pytest.mark.parametrize("kind", [HeatmapHead, IntegralHead])
    @pytest.mark.parametrize("stride", [4, 16])
    def test_keypoints_are_the_maps_decoded(self, kind, stride):
        some = head(kind, stride=stride, window=1)
        output = some(features())
        assert output["heatmap_logits"].shape == (5, 3, 64 // stride, 64 // stride)
        assert output["visibility_logits"].shape == (5, 3)
        decoded = some.decode(output["heatmap_logits"])
        assert torch.equal(output["keypoints"], decoded[0])
        assert torch.equal(output["scores"], decoded[1])


def cost(logits, keypoints, visibility):
    logits = logits.clone().requires_grad_()
    output = {"heatmap_logits": logits}
    loss = HeatmapCrossEntropy()(output, torch.tensor(keypoints), torch.tensor(visibility))
    loss.backward()
    return loss.item(), logits.grad


class TestCrossEntropy:
    def test_flat_maps_cost_the_logarithm_of_the_cells(self):
        loss, _ = cost(torch.zeros(2, 1, 4, 4), [[[0.3, 0.6]]] * 2, [[2]] * 2)
        assert loss == pytest.approx(math.log(16))

    def test_by_hand(self):
        # the target of a keypoint in the middle of two by two cells is a quarter each
        logits = torch.tensor([[[[math.log(4), 0.0], [0.0, math.log(2)]]]])  # softmax 4 1 1 2 / 8
        loss, gradient = cost(logits, [[[0.5, 0.5]]], [[2]])
        assert loss == pytest.approx((math.log(2) + 2 * math.log(8) + math.log(4)) / 4)
        expected = torch.tensor([[[[0.25, -0.125], [-0.125, 0.0]]]])  # softmax less target
        torch.testing.assert_close(gradient, expected)

    @some_examples
    @given(st.integers(0, 10**6))
    def test_it_is_the_mean_of_a_plain_loop_over_what_the_crop_shows(self, seed):
        rng = torch.Generator().manual_seed(seed)
        logits = torch.randn(2, 3, 4, 4, generator=rng)
        keypoints = torch.rand(2, 3, 2, generator=rng) * 1.5 - 0.25
        visibility = torch.randint(0, 3, (2, 3), generator=rng)
        inside = ((keypoints >= 0) & (keypoints < 1)).all(-1) & (visibility > 0)
        losses = []
        for b, k in inside.nonzero().tolist():
            target = gaussian(keypoints[b, k].view(1, 1, 2), 4, 1.0).flatten()
            heatmap = logits[b, k].flatten().softmax(0)
            losses.append(-sum(t * math.log(h) for t, h in zip(target, heatmap, strict=True)))
        keypoints[visibility == 0] = NAN
        loss, gradient = cost(logits, keypoints.tolist(), visibility.tolist())
        assert loss == pytest.approx(float(sum(losses)) / max(1, len(losses)), rel=1e-5)
        assert torch.equal(gradient.abs().sum(dim=(2, 3)) > 0, inside)


class TestDivergence:
    def test_by_hand(self):
        p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
        m = torch.tensor([0.375, 0.625])
        expected = ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2
        assert jensen_shannon(p.log(), q.log()).item() == pytest.approx(expected.item(), rel=1e-4)

    def test_its_bounds(self):
        here, there = torch.tensor([0.0, -300.0]), torch.tensor([-300.0, 0.0])
        assert jensen_shannon(here, here).item() == pytest.approx(0.0)
        assert jensen_shannon(here, there).item() == pytest.approx(math.log(2))

    @some_examples
    @given(st.integers(0, 10**6))
    def test_it_is_symmetric_and_never_below_zero(self, seed):
        logits = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(seed)) * 9
        p, q = logits.log_softmax(-1)
        torch.testing.assert_close(jensen_shannon(p, q), jensen_shannon(q, p))
        assert (jensen_shannon(p, q) > -1e-6).all()

    def test_far_off_it_still_has_a_finite_gradient(self):
        logits = torch.full((64,), -1e4, requires_grad=True)
        far = torch.zeros(64)
        far[5] = 1e4
        jensen_shannon((logits + far).log_softmax(0), -(torch.arange(64.0) ** 2)).backward()
        assert logits.grad.isfinite().all()


class TestIntegralLoss:
    def output(self, keypoints, logits=None):
        logits = torch.zeros(1, len(keypoints), 4, 4) if logits is None else logits
        return {"keypoints": torch.tensor([keypoints]), "heatmap_logits": logits}

    def test_without_the_divergence_it_is_l1_inside_the_crop(self):
        output = self.output([[0.3, 0.4], [0.5, 0.5], [9.0, 9.0], [0.1, 0.1]])
        truth = torch.tensor([[[0.1, 0.5], [0.5, 0.9], [NAN, NAN], [1.2, 0.1]]])
        loss = IntegralLoss(weight=0)(output, truth, torch.tensor([[2, 1, 0, 2]]))
        assert loss.item() == pytest.approx((0.15 + 0.2) / 2)

    def test_the_divergence_is_that_of_the_heatmap_from_a_gaussian(self):
        logits, truth = torch.randn(1, 1, 4, 4), torch.tensor([[[0.3, 0.8]]])
        output = self.output([[0.3, 0.8]], logits)
        loss = IntegralLoss(weight=2.0, sigma=0.8)(output, truth, torch.tensor([[2]]))
        target = gaussian(truth, 4, 0.8).flatten().log()
        expected = 2 * jensen_shannon(logits.flatten().log_softmax(0), target)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)

    def test_a_perfect_heatmap_costs_nothing(self):
        truth = torch.tensor([[[0.41, 0.57]]])
        output = self.output([[0.41, 0.57]], bell((0.41, 0.57)))
        loss = IntegralLoss()(output, truth, torch.tensor([[2]]))
        assert loss.item() == pytest.approx(0.0, abs=1e-5)
