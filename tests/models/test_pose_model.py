"""Pixels in, keypoints and calibrated scores out."""

import math

import pytest
import torch
from torch import nn

from convpose.models.backbones.vgg import VggBn
from convpose.models.keypoints.regression import RegressionHead
from convpose.models.pose_model import PoseModel


class Echo(nn.Module):
    """A backbone that returns what it sees."""

    out_channels, strides = (3,), (1,)
    pixel_mean, pixel_std = (0.5, 0.0, 1.0), (0.25, 1.0, 0.5)

    def forward(self, seen):
        return seen


class Keep(nn.Module):
    """A head that keeps its features, and is as sure of two keypoints as it is told."""

    def __init__(self, scores=(0.5, 0.5)):
        super().__init__()
        self.scores = scores

    def forward(self, features):
        scores = torch.tensor(self.scores).expand(len(features), 2)
        return {"keypoints": features, "scores": scores}


def tiny():
    backbone = VggBn(11, 1 / 8)
    head = RegressionHead(backbone.out_channels, backbone.strides, 64, 14, hidden=64)
    return PoseModel(backbone, head, 14)


def test_pixels_are_normalised_as_the_backbone_wants():
    image = torch.tensor([255, 51, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    seen = PoseModel(Echo(), Keep(), 2)(image)["keypoints"]
    assert seen[1, :, 2, 3].tolist() == pytest.approx([(1 - 0.5) / 0.25, 0.2, (0 - 1) / 0.5])
    assert seen.dtype is torch.float32


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_layout_reaches_the_backbone_and_changes_no_result(channels_last):
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    seen, other = (
        PoseModel(Echo(), Keep(), 2, layout)(image)["keypoints"]
        for layout in (channels_last, not channels_last)
    )
    assert seen.is_contiguous(memory_format=wanted)
    assert torch.equal(seen, other)


def test_statistics_reach_a_head_that_asks_and_a_state_dict_carries_them():
    PoseModel(Echo(), Keep(), 2).set_statistics(torch.zeros(1), torch.zeros(1))  # asks for none
    model, copy = tiny(), tiny()
    model.set_statistics(torch.full((14, 2), 0.3), torch.full((14, 2), 0.1))
    assert model.head.centre.unique().tolist() == pytest.approx([0.3])
    copy.load_state_dict(model.state_dict())
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        poses = [model.eval()(x)["keypoints"] for x in (image, image.flip(-1), image // 2)]
        assert torch.equal(copy.eval()(image)["keypoints"], poses[0])
    assert not torch.equal(poses[0], poses[1]), "a mirrored image is another input"
    assert not torch.equal(poses[0], poses[2]), "and so is a darker one"


@pytest.mark.parametrize(
    ("head_says", "slope", "offset", "expected"),
    [
        ([0.2, 0.9], [1.0, 1.0], [0.0, 0.0], [0.2, 0.9]),  # the head's until they are calibrated
        # odds of 1/3 squared, times 3; and odds of 1 are e of them
        ([0.25, 0.5], [2.0, 7.0], [math.log(3), 1.0], [1 / 4, math.e / (1 + math.e)]),
        ([0.0, 1.0], [3.0, 3.0], [0.0, 0.0], [1e-12, 1 - 1e-12]),  # quite certain, still finite
    ],
)
def test_scores_are_calibrated(head_says, slope, offset, expected):
    model = PoseModel(Echo(), Keep(head_says), 2)
    model.score_slope.copy_(torch.tensor(slope))
    model.score_offset.copy_(torch.tensor(offset))
    scores = model(torch.zeros(3, 3, 4, 4, dtype=torch.uint8))["scores"]
    torch.testing.assert_close(scores, torch.tensor([expected] * 3), atol=1e-6, rtol=1e-4)
