"""The visibility probe: it learns from the labels there are, and changes nothing else."""

import math

import pytest
import torch

from convpose.models.keypoints import VisibilityProbe, visibility_loss


def test_the_features_do_not_feel_it():
    features = [torch.randn(4, 2, 8, 8, requires_grad=True), torch.randn(4, 6, 2, 2)]
    features[1].requires_grad_()
    probe = VisibilityProbe(6, 3)
    visibility_loss(probe(features), torch.full((4, 3), 2)).backward()
    assert all(f.grad is None for f in features)
    assert probe.linear.weight.grad.abs().sum() > 0


def test_it_reads_the_mean_of_the_coarsest_map():
    features, probe = [torch.randn(4, 2, 8, 8), torch.randn(4, 6, 2, 2)], VisibilityProbe(6, 3)
    mean = features[1].flatten(2).sum(2) / 4
    expected = mean @ probe.linear.weight.T + probe.linear.bias
    torch.testing.assert_close(probe(features), expected)


def test_logits_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        logits = VisibilityProbe(6, 3)([torch.randn(4, 6, 2, 2)])
    assert logits.dtype is torch.float32


def test_the_loss_by_hand():
    logits = torch.tensor([[math.log(3), math.log(3), 50.0]])  # probability of visible: ¾, ¾
    loss = visibility_loss(logits, torch.tensor([[2, 1, 0]]))
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_unlabelled_keypoints_get_no_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    visibility = torch.tensor([[2, 0, 1, 0], [0, 0, 0, 0], [1, 2, 0, 2]])
    visibility_loss(logits, visibility).backward()
    assert ((logits.grad != 0) == (visibility > 0)).all()


def test_without_labels_it_is_zero():
    logits = torch.randn(3, 4, requires_grad=True)
    loss = visibility_loss(logits, torch.zeros(3, 4))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.unique().tolist() == [0.0]


def test_it_learns_what_the_features_show():
    torch.manual_seed(0)
    seen = torch.randint(0, 2, (64, 3))
    features = [seen.float().repeat(1, 2)[:, :, None, None].expand(-1, -1, 2, 2)]
    probe = VisibilityProbe(6, 3)
    optimizer = torch.optim.Adam(probe.parameters(), 0.1)
    for _ in range(50):
        optimizer.zero_grad()
        visibility_loss(probe(features), seen + 1).backward()
        optimizer.step()
    assert torch.equal(probe(features) > 0, seen.bool())
