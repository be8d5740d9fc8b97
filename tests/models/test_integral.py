"""Soft-argmax: exact means, gradients everywhere; L1 and Jensen–Shannon by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convpose.models.keypoints.heatmap import IntegralHead, IntegralLoss, gaussian, jensen_shannon

NAN = math.nan


def head(**keys):
    torch.manual_seed(0)
    return IntegralHead((4, 8), (16, 32), 64, 3, **{"channels": 6, **keys})


HEAD = head()


class TestDecode:
    def test_the_mean_by_hand(self):
        logits = torch.full((1, 1, 4, 4), -200.0)
        logits[0, 0, 0, 0], logits[0, 0, 2, 3] = math.log(1), math.log(3)
        keypoints, _ = head().decode(logits)
        x, y = (0.125 + 3 * 0.875) / 4, (0.125 + 3 * 0.625) / 4
        assert keypoints[0, 0].tolist() == pytest.approx([x, y])

    @given(st.floats(0.2, 0.8), st.floats(0.2, 0.8))
    def test_a_gaussian_s_mean_is_where_it_is(self, x, y):
        logits = gaussian(torch.tensor([[[x, y]]]), 16, 1.0).clamp(min=1e-30).log()
        keypoints, _ = HEAD.decode(logits)
        assert keypoints[0, 0].tolist() == pytest.approx([x, y], abs=0.02 / 16)

    @pytest.mark.parametrize(("cells", "inward"), [(0.0, 0.834), (0.5, 0.52), (1.5, 0.13), (3, 0)])
    def test_at_the_border_a_gaussian_is_cut_and_its_mean_moves_inward(self, cells, inward):
        place = torch.tensor([[[cells / 16, 1 - cells / 16]]])
        keypoints, _ = HEAD.decode(gaussian(place, 16, 1.0).clamp(min=1e-30).log())
        x, y = (16 * keypoints[0, 0]).tolist()
        assert (x - cells, 16 - cells - y) == pytest.approx((inward, inward), abs=0.01)

    def test_the_score_is_the_share_around_the_keypoint(self):
        flat = torch.zeros(1, 1, 15, 15)
        for window, cells in ((0, 1), (1, 3), (2, 5), (3, 7)):  # the keypoint is a cell's centre
            assert head(window=window).decode(flat)[1].item() == pytest.approx(cells**2 / 225)
        two = torch.full((1, 1, 16, 16), -200.0)
        two[0, 0, 8, 1] = two[0, 0, 8, 14] = 0.0
        assert head().decode(two)[1].item() == pytest.approx(0.0, abs=1e-6)
        two[0, 0, 8, 1] = -200.0
        assert head().decode(two)[1].item() == pytest.approx(1.0)

    def test_every_cell_feels_the_keypoint(self):
        logits = torch.randn(1, 1, 6, 6, requires_grad=True)
        keypoints, _ = head().decode(logits)
        keypoints[0, 0, 0].backward()
        heatmap = logits.detach().flatten().softmax(0).view(6, 6)
        centre = (torch.arange(6) + 0.5) / 6
        expected = heatmap * (centre - keypoints[0, 0, 0].detach())  # p (c - mean)
        torch.testing.assert_close(logits.grad[0, 0], expected)


def test_head_shapes():
    output = head()([torch.randn(5, 4, 4, 4), torch.randn(5, 8, 2, 2)])
    assert output["heatmap_logits"].shape == (5, 3, 16, 16)
    assert output["keypoints"].shape == (5, 3, 2)
    assert output["scores"].shape == output["visibility_logits"].shape == (5, 3)


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


class TestLoss:
    def output(self, keypoints, logits=None):
        logits = torch.zeros(1, len(keypoints), 4, 4) if logits is None else logits
        return {"keypoints": torch.tensor([keypoints]), "heatmap_logits": logits}

    def test_without_the_divergence_it_is_l1_inside_the_crop(self):
        output = self.output([[0.3, 0.4], [0.5, 0.5], [9.0, 9.0], [0.1, 0.1]])
        truth = torch.tensor([[[0.1, 0.5], [0.5, 0.9], [NAN, NAN], [1.2, 0.1]]])
        loss = IntegralLoss(weight=0)(output, truth, torch.tensor([[2, 1, 0, 2]]))
        assert loss.item() == pytest.approx((0.15 + 0.2) / 2)

    def test_the_divergence_is_that_of_the_heatmap_from_a_gaussian(self):
        logits = torch.randn(1, 1, 4, 4)
        truth = torch.tensor([[[0.3, 0.8]]])
        loss = IntegralLoss(weight=2.0, sigma=0.8)(
            self.output([[0.3, 0.8]], logits), truth, torch.tensor([[2]])
        )
        p, q = logits.flatten().softmax(0), gaussian(truth, 4, 0.8).flatten()
        m = (p + q) / 2
        expected = ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2
        assert loss.item() == pytest.approx(2 * expected.item(), rel=1e-4)

    def test_a_perfect_heatmap_costs_nothing(self):
        truth = torch.tensor([[[0.41, 0.57]]])
        logits = gaussian(truth, 16, 1.0).clamp(min=1e-30).log()
        loss = IntegralLoss()(self.output([[0.41, 0.57]], logits), truth, torch.tensor([[2]]))
        assert loss.item() == pytest.approx(0.0, abs=1e-5)
