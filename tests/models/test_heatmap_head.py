"""The heatmap head, and what `decode` makes of maps whose peak is known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convpose.errors import ConfigError
from convpose.models.keypoints import check_input
from convpose.models.keypoints.heatmap import HeatmapHead, decode, gaussian, summit

SIDE = 16


def delta(x, y, side=SIDE):
    """Logits of a map that is all in one cell."""
    logits = torch.full((1, 1, side, side), -200.0)
    logits[0, 0, y, x] = 0.0
    return logits


def bell(keypoint, sigma=1.0, side=SIDE):
    return gaussian(torch.tensor([[keypoint]]), side, sigma).log()


class TestDecode:
    @pytest.mark.parametrize(("x", "y"), [(5, 9), (0, 0), (15, 0), (0, 15), (15, 15), (1, 14)])
    def test_a_single_cell_is_its_centre(self, x, y):
        keypoints, scores = decode(delta(x, y), window=2)
        assert keypoints[0, 0].tolist() == pytest.approx([(x + 0.5) / 16, (y + 0.5) / 16])
        assert scores.item() == pytest.approx(1.0)

    @given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
    def test_a_gaussian_is_found_to_a_tenth_of_a_cell_anywhere(self, x, y):
        keypoints, _ = decode(bell((x, y)), window=2)
        assert (keypoints[0, 0] * SIDE).tolist() == pytest.approx([x * SIDE, y * SIDE], abs=0.1)

    @pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5, 2.0])
    def test_whatever_its_width(self, sigma):
        keypoints, _ = decode(bell((0.413, 0.021), sigma), window=2)
        assert keypoints[0, 0].tolist() == pytest.approx([0.413, 0.021], abs=0.05 / SIDE)

    def test_the_score_is_the_share_around_the_peak(self):
        logits = torch.full((1, 1, 8, 8), -200.0)
        for (x, y), share in {(2, 2): 0.4, (3, 4): 0.2, (2, 5): 0.3, (7, 7): 0.1}.items():
            logits[0, 0, y, x] = torch.tensor(share).log()
        for window, share in ((0, 0.4), (1, 0.4), (2, 0.6), (3, 0.9), (7, 1.0)):
            assert decode(logits, window)[1].item() == pytest.approx(share)

    def test_two_peaks_are_not_averaged(self):
        logits = torch.logaddexp(bell((0.2, 0.3)) + 0.1, bell((0.8, 0.3)))
        keypoints, scores = decode(logits, window=2)
        assert keypoints[0, 0].tolist() == pytest.approx([0.2, 0.3], abs=0.1 / SIDE)
        assert 0.4 < scores.item() < 0.6

    def test_a_flat_map_is_finite_and_sure_of_nothing(self):
        keypoints, scores = decode(torch.zeros(1, 1, 16, 16), window=2)
        assert ((keypoints >= 0) & (keypoints <= 1)).all()
        assert scores.item() <= 25 / 256 + 1e-6

    def test_huge_logits_are_finite(self):
        keypoints, scores = decode(torch.randn(2, 3, 8, 8) * 1e4, window=2)
        assert ((keypoints >= 0) & (keypoints <= 1)).all()
        assert ((scores >= 0) & (scores <= 1)).all()

    def test_each_map_by_itself(self):
        logits = torch.randn(2, 3, 8, 8)
        keypoints, scores = decode(logits, window=1)
        for b in range(2):
            for k in range(3):
                one = decode(logits[b : b + 1, k : k + 1], window=1)
                torch.testing.assert_close(one[0][0, 0], keypoints[b, k])
                torch.testing.assert_close(one[1][0, 0], scores[b, k])

    @given(st.integers(0, 10**6))
    def test_a_mirrored_map_gives_the_mirrored_keypoint(self, seed):
        logits = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        (keypoint, score), (mirrored, same) = decode(logits, 2), decode(logits.flip(3), 2)
        mirrored[..., 0] = 1 - mirrored[..., 0]
        torch.testing.assert_close(mirrored, keypoint)
        torch.testing.assert_close(same, score)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("place", [0.4, 5.5, 7.9, 14.8])
def test_the_summit_of_a_gaussian_is_exact(place, step):
    cells = torch.arange(16) + 0.5
    profile = torch.exp(-((cells - place) ** 2) / 8)
    found = summit(profile, profile.argmax(keepdim=True), step)
    assert found.item() * 16 == pytest.approx(place, abs=1e-3)


class TestHead:
    def head(self, **keys):
        torch.manual_seed(0)
        return HeatmapHead((4, 8), (16, 32), 64, 3, **{"channels": 6, **keys})

    def features(self):
        return [torch.randn(5, 4, 4, 4), torch.randn(5, 8, 2, 2)]

    @pytest.mark.parametrize("stride", [4, 8, 16])
    def test_shapes(self, stride):
        output = self.head(stride=stride)(self.features())
        assert output["heatmap_logits"].shape == (5, 3, 64 // stride, 64 // stride)
        assert output["keypoints"].shape == (5, 3, 2)
        assert output["scores"].shape == output["visibility_logits"].shape == (5, 3)

    def test_its_keypoints_are_its_maps_decoded(self):
        output = self.head(window=1)(self.features())
        keypoints, scores = decode(output["heatmap_logits"], 1)
        assert torch.equal(output["keypoints"], keypoints)
        assert torch.equal(output["scores"], scores)

    def test_fewer_than_three_cells_are_no_map(self):
        message = r"^data\.input_size_px=64 head\.stride=32: expected at least three cells a side, "
        with pytest.raises(ConfigError, match=message + r"an input of 96 px or a smaller stride$"):
            self.head(stride=32)


@pytest.mark.parametrize(
    ("size_px", "nearest"), [(100, "96 or 128"), (16, "32 or 32"), (225, "224 or 256")]
)
def test_an_input_that_does_not_divide(size_px, nearest):
    message = f"^data.input_size_px={size_px}: expected a multiple of 32 for this head, {nearest}$"
    with pytest.raises(ConfigError, match=message):
        check_input(size_px, (4, 32))
    check_input(96, (4, 32))
