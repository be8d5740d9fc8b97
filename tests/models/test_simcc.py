"""Two classifications a keypoint: bins, peaks, and the cross-entropy by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convpose.models.keypoints.heatmap import gaussian_along
from convpose.models.keypoints.simcc import SimccCrossEntropy, SimccHead, decode_axes


def head(**keys):
    torch.manual_seed(0)
    return SimccHead((4, 8), (16, 32), 64, 3, **{"channels": 6, **keys})


def bells(keypoint, bins=128, sigma=4.0):
    return gaussian_along(torch.tensor([[keypoint]]), bins, sigma)


class TestDecode:
    @settings(max_examples=20)
    @given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
    def test_gaussians_are_found_to_a_tenth_of_a_bin_anywhere(self, x, y):
        keypoints, _ = decode_axes(bells((x, y)), window=8)
        assert (keypoints[0, 0] * 128).tolist() == pytest.approx([x * 128, y * 128], abs=0.1)

    def test_a_single_bin_is_its_centre(self):
        logits = torch.full((1, 1, 2, 32), -200.0)
        logits[0, 0, 0, 0] = logits[0, 0, 1, 20] = 0.0
        keypoints, scores = decode_axes(logits, window=3)
        assert keypoints[0, 0].tolist() == pytest.approx([0.5 / 32, 20.5 / 32])
        assert scores.item() == pytest.approx(1.0)

    def test_noise_from_bin_to_bin_is_averaged(self):
        torch.manual_seed(0)
        places = torch.rand(500, 1, 2) * 0.6 + 0.2
        noisy = gaussian_along(places, 128, 4.0) + 0.1 * torch.randn(500, 1, 2, 128)
        off = {w: (decode_axes(noisy, w)[0] - places).abs().mean() for w in (1, 8)}
        assert off[8] < 0.5 * off[1]
        assert off[8] * 128 < 1.0

    def test_the_score_is_the_product_of_both_shares(self):
        logits = torch.full((1, 1, 2, 32), -200.0)
        logits[0, 0, 0, 5], logits[0, 0, 0, 25] = math.log(0.75), math.log(0.25)
        logits[0, 0, 1, 5], logits[0, 0, 1, 8] = math.log(0.6), math.log(0.4)
        assert decode_axes(logits, 2)[1].item() == pytest.approx(0.75 * 0.6)
        assert decode_axes(logits, 3)[1].item() == pytest.approx(0.75)

    def test_any_logits_give_a_place_in_the_crop(self):
        for logits in (torch.zeros(1, 2, 2, 17), torch.randn(4, 2, 2, 17) * 1e4):
            keypoints, scores = decode_axes(logits, 8)
            assert ((keypoints >= 0) & (keypoints <= 1)).all()
            assert ((scores >= 0) & (scores <= 1)).all()


class TestHead:
    @pytest.mark.parametrize(
        ("stride", "split", "bins"), [(8, 2.0, 128), (16, 0.5, 32), (32, 1.25, 80)]
    )
    def test_its_keypoints_are_its_axes_decoded(self, stride, split, bins):
        some = head(stride=stride, split=split, window=5)
        output = some([torch.randn(5, 4, 4, 4), torch.randn(5, 8, 2, 2)])
        assert output["simcc_logits"].shape == (5, 3, 2, bins)
        assert output["visibility_logits"].shape == (5, 3)
        keypoints, scores = decode_axes(output["simcc_logits"], 5)
        assert torch.equal(output["keypoints"], keypoints)
        assert torch.equal(output["scores"], scores)
        assert some.output.weight.shape == (2 * bins, (64 // stride) ** 2), "shared by keypoints"

    @pytest.mark.parametrize(("window", "sigma"), [(4, 4.0), (8, 4.0), (8, 8.0)])
    def test_a_window_of_a_sigma_or_more(self, window, sigma):
        head(window=window).check_loss(SimccCrossEntropy(sigma))
        head(window=window).check_loss(torch.nn.Identity())  # another loss has no sigma


class TestLoss:
    def loss_and_gradient(self, logits, keypoints, visibility, sigma=4.0):
        logits = logits.clone().requires_grad_()
        loss = SimccCrossEntropy(sigma)(
            {"simcc_logits": logits}, torch.tensor(keypoints), torch.tensor(visibility)
        )
        loss.backward()
        return loss.item(), logits.grad

    def test_flat_axes_cost_twice_the_logarithm_of_the_bins(self):
        loss, _ = self.loss_and_gradient(torch.zeros(1, 1, 2, 32), [[[0.3, 0.6]]], [[2]])
        assert loss == pytest.approx(2 * math.log(32))

    def test_by_hand(self):
        # in the middle of two bins the target is a half each; x has ¾ and ¼, y ½ and ½
        logits = torch.tensor([[[[math.log(3), 0.0], [0.0, 0.0]]]])
        loss, gradient = self.loss_and_gradient(logits, [[[0.5, 0.5]]], [[2]])
        assert loss == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2 + math.log(2))
        torch.testing.assert_close(gradient, torch.tensor([[[[0.25, -0.25], [0.0, 0.0]]]]))

    def test_it_is_the_mean_of_a_plain_loop(self):
        torch.manual_seed(3)
        logits, truth = torch.randn(2, 2, 2, 9), torch.rand(2, 2, 2)
        losses = []
        for b in range(2):
            for k in range(2):
                total = 0.0
                for axis in range(2):
                    weights = [
                        math.exp(-((i + 0.5 - float(truth[b, k, axis]) * 9) ** 2) / 2 / 1.5**2)
                        for i in range(9)
                    ]
                    share = logits[b, k, axis].softmax(0).tolist()
                    parts = zip(weights, share, strict=True)
                    total -= sum(w / sum(weights) * math.log(s) for w, s in parts)
                losses.append(total)
        loss, _ = self.loss_and_gradient(logits, truth.tolist(), [[2, 1], [1, 2]], sigma=1.5)
        assert loss == pytest.approx(sum(losses) / 4, rel=1e-5)

    def test_its_least_gradient_is_at_the_target(self):
        _, gradient = self.loss_and_gradient(bells((0.3, 0.7)), [[[0.3, 0.7]]], [[2]])
        assert gradient.abs().max() < 1e-6
