"""Residual log-likelihood: the flow is a density, sigma is bounded, the loss by hand."""

import math

import pytest
import torch
from tiny import saved, tiny_run

from convpose.models.keypoints.regression import (
    SMALLEST_SIGMA,
    RealNvp,
    ResidualLogLikelihood,
    RleHead,
)

NAN = math.nan


def disturbed(couplings=4, seed=0, size=0.3):
    """A flow that is no longer the normal distribution that it starts as."""
    torch.manual_seed(seed)
    flow = RealNvp(16, couplings)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return flow


class TestFlow:
    def test_it_starts_as_the_normal_distribution(self):
        points = torch.randn(5, 3, 2) * 3
        normal = torch.distributions.Normal(0.0, 1.0)
        torch.testing.assert_close(RealNvp(8, 3)(points), normal.log_prob(points).sum(-1))

    @pytest.mark.parametrize("couplings", [1, 2, 5])
    def test_whatever_it_has_learned_its_density_sums_to_one(self, couplings):
        axis = torch.linspace(-30, 30, 301)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1)
        flow = disturbed(couplings)
        with torch.no_grad():
            density = flow(grid).exp()
        assert not torch.allclose(density, RealNvp(8, 1)(grid).exp(), atol=1e-3)
        assert density.sum().item() * 0.2**2 == pytest.approx(1.0, abs=0.01)

    def test_it_learns_a_distribution_that_is_not_normal(self):
        torch.manual_seed(0)
        flow = RealNvp(32, 4)
        optimizer = torch.optim.Adam(flow.parameters(), 2e-2)
        ring = torch.nn.functional.normalize(torch.randn(256, 2), dim=1) * 2
        ring = ring + 0.1 * torch.randn_like(ring)
        before = flow(ring).mean().item()
        for _ in range(60):
            optimizer.zero_grad()
            (-flow(ring).mean()).backward()
            optimizer.step()
        assert flow(ring).mean().item() > before + 0.7
        assert flow(torch.zeros(1, 2)).item() < flow(ring).mean().item() - 1

    def test_it_stays_in_float32_under_autocast(self):
        flow, points = disturbed(), torch.randn(7, 2)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(flow(points), flow(points.double()))


class TestHead:
    def head(self, **keys):
        torch.manual_seed(0)
        return RleHead((4, 8), (16, 32), 64, 3, **{"channels": 6, **keys})

    def features(self, size=1.0):
        return [torch.randn(5, 4, 4, 4), size * torch.randn(5, 8, 2, 2)]

    def test_sigma_is_bounded_and_the_score_is_what_it_leaves(self):
        head = self.head().eval()
        with torch.no_grad():
            head.output.weight.mul_(1e5)
        output = head(self.features())
        assert output["sigma"].shape == (5, 3, 2)
        assert output["visibility_logits"].shape == (5, 3)
        assert output["sigma"].min().item() == pytest.approx(SMALLEST_SIGMA)
        assert output["sigma"].max().item() == pytest.approx(1.0)
        expected = 1 - (output["sigma"][..., 0] + output["sigma"][..., 1]) / 2
        torch.testing.assert_close(output["scores"], expected)

    def test_statistics_move_the_keypoints_and_leave_sigma(self):
        head, maps = self.head().eval(), self.features()
        before = head(maps)
        mean, std = torch.rand(3, 2), torch.rand(3, 2) + 0.1
        head.set_statistics(mean, std)
        after = head(maps)
        expected = mean + std * (before["keypoints"] - 0.5)
        torch.testing.assert_close(after["keypoints"], expected)
        assert torch.equal(after["sigma"], before["sigma"])
        plain = self.head(standardize=False)
        plain.set_statistics(mean, std)
        assert plain.centre.unique().tolist() == [0.5]

    def test_it_knows_where_things_are(self):
        """The same features elsewhere are another pose: they are not averaged."""
        head, (fine, coarse) = self.head().eval(), self.features()
        assert not torch.allclose(
            head([fine, coarse])["keypoints"], head([fine, coarse.flip(3)])["keypoints"]
        )


class TestLoss:
    def loss(self, predicted, sigma, truth, visibility):
        output = {"keypoints": torch.tensor(predicted), "sigma": torch.tensor(sigma)}
        some = ResidualLogLikelihood(8, 2)
        return some(output, torch.tensor(truth), torch.tensor(visibility))

    def test_by_hand(self):
        # e = (2, -1): Laplace |e| + ln 2 + ln σ and normal e²/2 + ln √2π + ln σ, both a coordinate
        sigma = [[[0.1, 0.2]]]
        loss = self.loss([[[0.5, 0.1]]], sigma, [[[0.3, 0.3]]], [[2]])
        scales = 2 * (math.log(0.1) + math.log(0.2))
        expected = (3 + 2 * math.log(2)) + (4 + 1) / 2 + math.log(2 * math.pi) + scales
        assert loss.item() == pytest.approx(expected, rel=1e-5)

    def test_unlabelled_keypoints_do_not_count_and_those_outside_do(self):
        predicted = [[[0.3, 0.4], [NAN, 9.0], [0.9, 0.5]]]
        sigma = [[[0.1, 0.1], [NAN, 0.5], [0.3, 0.2]]]
        truth = [[[0.2, 0.4], [NAN, NAN], [1.3, 0.5]]]
        loss = self.loss(predicted, sigma, truth, [[2, 0, 1]])
        alone = [
            self.loss([[predicted[0][k]]], [[sigma[0][k]]], [[truth[0][k]]], [[1]]) for k in (0, 2)
        ]
        assert loss.item() == pytest.approx(sum(alone).item() / 2)
        assert alone[1].item() > alone[0].item()

    def test_its_best_sigma_is_the_size_of_the_error(self):
        raw = torch.zeros(2, requires_grad=True)
        truth = 0.5 + torch.tensor([0.02, 0.2]) * torch.randn(400, 1, 2).clamp(-2, 2)
        some, optimizer = ResidualLogLikelihood(8, 1), torch.optim.Adam([raw], 0.1)
        for _ in range(80):
            optimizer.zero_grad()
            output = {"keypoints": torch.full((400, 1, 2), 0.5)}
            output["sigma"] = raw.sigmoid().expand(400, 1, 2)
            some(output, truth, torch.ones(400, 1)).backward()
            optimizer.step()
        small, large = raw.sigmoid().tolist()
        assert 0.01 < small < 0.04
        assert 0.1 < large < 0.4


def test_a_training_moves_the_flow_and_the_checkpoint_keeps_it(tmp_path):
    tiny_run(tmp_path, "head=rle", "optimizer=adamw", "debug=fast", "logger=none")
    state = saved(tmp_path)["state_dict"]
    flow = {k: v for k, v in state.items() if k.startswith("loss.flow.")}
    assert len(flow) == len(list(ResidualLogLikelihood().parameters()))
    last = [v for k, v in flow.items() if k.endswith((".4.weight", ".4.bias"))]
    assert len(last) == 2 * 6
    assert all(v.abs().sum() > 0 for v in last), "they start at zero"
