"""Test-time augmentation: several passes, one answer, in the crop's own coordinates."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convpose.models.keypoints.heatmap import HeatmapHead
from convpose.models.pose_model import PoseModel
from convpose.runtime.pytorch import TestTimeAugmentation, turn_back
from convpose.skeleton import LSP14

K = LSP14.num_keypoints


class BrightestPixel(nn.Module):
    """Finds joint k as the pixel of value 100 + k; its score is what `judge` says of the crop."""

    def __init__(self, judge=None):
        super().__init__()
        self.judge = judge or (lambda image: 0.5)

    def forward(self, image):
        side = image.shape[-1]
        found = torch.stack([(image[:, 0] == 100 + k).flatten(1).int().argmax(1) for k in range(K)])
        x, y = found.T % side, found.T // side
        keypoints = (torch.stack([x, y], dim=-1) + 0.5) / side
        scores = torch.stack([torch.full((K,), self.judge(one)) for one in image])
        return {"keypoints": keypoints, "scores": scores}


def crops(side=24, count=3):
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(count, 3, side, side, dtype=torch.uint8)
    for one in image:
        cells = torch.randperm(side * side, generator=generator)[:K]
        one.view(3, -1)[:, cells] = torch.arange(100, 100 + K, dtype=torch.uint8)
    return image


@pytest.mark.parametrize("turn", range(4))
def test_the_best_scored_turn_is_kept_and_turned_back(turn):
    image = crops()
    upright = BrightestPixel()(image)["keypoints"]
    corner = torch.zeros(24, 24, dtype=torch.uint8)
    corner[0, 0] = 250
    image[:, 1] = torch.rot90(corner, -turn, dims=(0, 1))  # at the top left after `turn` turns
    network = BrightestPixel(lambda one: 0.9 if one[1, 0, 0] == 250 else 0.1)
    output = TestTimeAugmentation(network, LSP14, mirror=False, quarter_turns=True)(image)
    torch.testing.assert_close(output["keypoints"], upright)
    assert (output["scores"] == 0.9).all()


def test_the_mirror_exchanges_left_and_right():
    image = crops()
    upright = BrightestPixel()(image)["keypoints"]
    # in the mirror image joint k is drawn where the network knows joint mirror[k]
    relabel = torch.arange(256, dtype=torch.uint8)
    relabel[100 : 100 + K] = 100 + torch.tensor(LSP14.mirror, dtype=torch.uint8)

    class LeftRightAware(BrightestPixel):
        def forward(self, crop):
            mirrored = not torch.equal(crop, image)
            return super().forward(relabel[crop.long()] if mirrored else crop)

    options = TestTimeAugmentation(LeftRightAware(), LSP14, mirror=True, quarter_turns=False)
    torch.testing.assert_close(options(image)["keypoints"], upright)


class TwoAnswers(nn.Module):
    """Answers one way to the crop and another to its mirror image."""

    def __init__(self, crop, own, mirrored):
        super().__init__()
        self.crop, self.own, self.mirrored = crop, own, mirrored

    def forward(self, image):
        x, score = self.own if torch.equal(image, self.crop) else self.mirrored
        keypoints = torch.tensor([x, 0.4]).repeat(1, K, 1)
        return {"keypoints": keypoints, "scores": torch.full((1, K), score)}


@pytest.mark.parametrize(
    ("mirrored_x", "expected_x", "expected_score"),
    [
        (0.58, 0.75 * 0.40 + 0.25 * 0.42, 0.5),  # the same place: weighted mean, mean score
        (0.30, 0.40, 0.75),  # two places, 0.40 and 0.70: the surer look is kept
    ],
)
def test_two_looks_at_one_place_are_averaged_and_at_two_places_one_is_kept(
    mirrored_x, expected_x, expected_score
):
    image = crops(count=1)
    network = TwoAnswers(image, (0.40, 0.75), (mirrored_x, 0.25))
    output = TestTimeAugmentation(network, LSP14, mirror=True, quarter_turns=False)(image)
    assert output["keypoints"][..., 0].tolist() == [pytest.approx([expected_x] * K)]
    assert output["scores"].tolist() == [pytest.approx([expected_score] * K)]


ALONE = replace(LSP14, pairs=LSP14.pairs[1:])


def test_a_side_without_a_partner_keeps_its_own_answer():
    image = crops(count=1)
    network = TwoAnswers(image, (0.40, 0.25), (0.30, 0.75))
    output = TestTimeAugmentation(network, ALONE, mirror=True, quarter_turns=False)(image)
    for k in range(K):
        own = LSP14.keypoints[k] in LSP14.pairs[0]
        assert output["keypoints"][0, k, 0].item() == pytest.approx(0.40 if own else 0.70)
        assert output["scores"][0, k].item() == pytest.approx(0.25 if own else 0.75)


def test_heatmaps_are_averaged():
    """Find the one place of each keypoint that both looks see; each sees another one, too."""
    seen = torch.full((K, 8, 8), -9.0)
    seen[:, 3, 1] = 1.0
    own, other = seen.clone(), seen.clone()
    own[:, 5, 6], other[:, 0, 3] = 2.0, 2.0
    image = crops(count=1)

    class Heatmaps(PoseModel):
        def forward_uncalibrated(self, crop):
            logits = own if torch.equal(crop, image) else other[list(LSP14.mirror)].flip(2)
            keypoints, scores = self.head.decode(logits[None])
            return {"keypoints": keypoints, "scores": scores, "heatmap_logits": logits[None]}

    head = HeatmapHead((4, 8), (4, 8), 32, K)
    backbone = nn.Identity()
    backbone.pixel_mean = backbone.pixel_std = (0.5, 0.5, 0.5)
    network = Heatmaps(backbone, head, K)
    options = TestTimeAugmentation(network, LSP14, mirror=True, quarter_turns=False)
    output = options(image)
    assert output["keypoints"][0].tolist() == [pytest.approx([1.5 / 8, 3.5 / 8])] * K
    alone = network(image)["keypoints"][0, 0].tolist()
    assert alone == pytest.approx([6.5 / 8, 5.5 / 8])
    output = TestTimeAugmentation(network, ALONE, mirror=True, quarter_turns=False)(image)
    kept = [LSP14.index(name) for name in LSP14.pairs[0]]
    assert output["keypoints"][0, kept].tolist() == [pytest.approx(alone)] * 2


@settings(max_examples=20)
@given(st.integers(0, 3), st.integers(0, 15), st.integers(0, 15))
def test_turning_back(turn, x, y):
    image = torch.zeros(1, 1, 16, 16)
    image[0, 0, y, x] = 1
    at = torch.rot90(image, turn, dims=(2, 3)).flatten().argmax()
    there = torch.tensor([[[(at % 16 + 0.5) / 16, (at // 16 + 0.5) / 16]]])
    back = turn_back(there, turn)[0, 0]
    assert back.tolist() == pytest.approx([(x + 0.5) / 16, (y + 0.5) / 16])


@pytest.mark.parametrize(
    ("mirror", "turns", "passes", "words"),
    [
        (False, False, 1, ""),
        (True, False, 2, "flip test"),
        (False, True, 4, "quarter turns"),
        (True, True, 8, "flip test, quarter turns"),
    ],
)
def test_cost_and_name(mirror, turns, passes, words):
    options = TestTimeAugmentation(BrightestPixel(), LSP14, mirror, turns)
    assert options.passes == passes
    assert str(options) == words
