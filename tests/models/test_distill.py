"""Distillation: what the target is where label and teacher agree, differ, or one is missing."""

import math

import pytest
import torch
from torch import nn

from convpose.models.keypoints.distill import Distillation
from convpose.models.keypoints.heatmap import HeatmapCrossEntropy, gaussian
from convpose.models.pose_model import PoseModel

NAN = math.nan
SIDE = 16
TAUGHT = torch.tensor([[[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]]])  # (1, 4, 2)


class Teacher(nn.Module):
    """Says the same of every crop."""

    def __init__(self, score=0.9, side=SIDE):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.score, self.side = score, side

    def forward(self, image):
        assert not self.training
        logits = gaussian(TAUGHT.expand(len(image), -1, -1), self.side, 1.0).clamp(min=1e-9).log()
        scores = torch.full((len(image), 4), self.score)
        return {
            "keypoints": TAUGHT.expand(len(image), -1, -1),
            "scores": scores,
            "heatmap_logits": logits,
        }


def loss_of(keypoints, logits, visibility=2, teacher=None, **keys):
    loss = Distillation("run", teacher or Teacher(), **keys)
    shape = keypoints.shape[:2]
    visible = torch.full(shape, visibility) if isinstance(visibility, int) else visibility
    image = torch.zeros(len(keypoints), 3, 8, 8, dtype=torch.uint8)
    return loss({"heatmap_logits": logits}, keypoints, visible, image)


def entropy(target, logits):
    """(K,) cross-entropy, cell by cell."""
    log = logits.flatten(2).log_softmax(dim=2)
    return -(target.flatten(2) * log).sum(dim=2)[0]


@pytest.fixture
def logits():
    return torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_without_an_image_it_is_the_heatmap_loss(logits):
    """Ask nothing of the teacher in validation."""
    keypoints, visible = torch.rand(1, 4, 2), torch.full((1, 4), 2)
    keypoints[0, 1], visible[0, 1] = NAN, 0
    output = {"heatmap_logits": logits}
    expected = HeatmapCrossEntropy()(output, keypoints, visible)
    torch.testing.assert_close(Distillation("run", Teacher())(output, keypoints, visible), expected)


def test_where_both_agree_the_target_is_their_mixture(logits):
    close = TAUGHT + 0.02
    label = entropy(gaussian(close, SIDE, 1.0), logits)
    taught = entropy(gaussian(TAUGHT, SIDE, 1.0), logits)
    expected = (0.7 * label + 0.3 * taught).mean()
    torch.testing.assert_close(loss_of(close, logits, share=0.3), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("apart", ["label", "mask", "teacher", "mix"])
def test_where_they_are_apart(logits, apart):
    """Joint 0 lies 0.3 of the pose's side away, and 0.15 is the bound."""
    keypoints = TAUGHT.clone()
    keypoints[0, 0, 0] += 0.3 * 0.6
    label = entropy(gaussian(keypoints, SIDE, 1.0), logits)
    taught = entropy(gaussian(TAUGHT, SIDE, 1.0), logits)
    first = {"label": label[0], "teacher": taught[0], "mix": (label[0] + taught[0]) / 2}
    others = ((label + taught) / 2)[1:]
    each = others if apart == "mask" else torch.cat([first[apart][None], others])
    found = loss_of(keypoints, logits, apart=apart)
    torch.testing.assert_close(found, each.mean(), rtol=1e-4, atol=1e-4)


def test_a_teacher_that_is_not_sure_does_not_object(logits):
    keypoints = TAUGHT + 0.2
    unsure = loss_of(keypoints, logits, teacher=Teacher(score=0.4), apart="mask")
    assert unsure > 0
    torch.testing.assert_close(unsure, loss_of(keypoints, logits, apart="mix"))


def test_an_unlabelled_keypoint_is_the_teacher_s_by_its_score(logits):
    keypoints, visible = TAUGHT.clone(), torch.tensor([[0, 2, 2, 2]])
    keypoints[0, 0] = NAN
    each = entropy(gaussian(TAUGHT, SIDE, 1.0), logits)
    weight = torch.tensor([0.4, 1, 1, 1])
    found = loss_of(keypoints, logits, visible, Teacher(score=0.4))
    torch.testing.assert_close(found, (each * weight).sum() / weight.sum(), rtol=1e-4, atol=1e-4)


def test_a_label_outside_the_crop_teaches_nothing(logits):
    keypoints = TAUGHT.clone()
    keypoints[0, 0] = 1.5
    each = entropy(gaussian(TAUGHT, SIDE, 1.0), logits)
    torch.testing.assert_close(loss_of(keypoints, logits), each[1:].mean(), rtol=1e-4, atol=1e-4)


def test_a_teacher_with_finer_heatmaps(logits):
    """Their mass is kept, and their place."""
    each = entropy(gaussian(TAUGHT, SIDE, 1.0), logits)
    finer = loss_of(TAUGHT, logits, teacher=Teacher(side=2 * SIDE), share=1.0)
    torch.testing.assert_close(finer, each.mean(), rtol=0.05, atol=0.05)


def test_neither_optimizer_nor_checkpoint_has_the_teacher():
    teacher = Teacher()
    loss = Distillation("run", teacher)
    assert not list(loss.parameters())
    assert not loss.state_dict()


def test_a_model_shows_it_the_image_in_training_only():
    seen = []

    class Loss(nn.Module):
        sees_image = True

        def forward(self, output, keypoints, visibility, image=None):
            seen.append(image is not None)
            return output["keypoints"].sum()

    class Backbone(nn.Module):
        pixel_mean = pixel_std = (0.5, 0.5, 0.5)

        def forward(self, image):
            return [image]

    class Head(nn.Module):
        def forward(self, features):
            points = torch.zeros(len(features[0]), 4, 2)
            return {"keypoints": points, "scores": points[..., 0]}

    model = PoseModel(Backbone(), Head(), 4)
    batch = (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TAUGHT, torch.full((1, 4), 2))
    model.train().forward_with_loss(*batch, Loss())
    model.eval().forward_with_loss(*batch, Loss())
    assert seen == [True, False]
