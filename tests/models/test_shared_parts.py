"""Test what heads share: the pyramid of feature maps, and the probe of visibility."""

import math

import pytest
import torch
from torch import nn

from convpose.errors import ConfigError
from convpose.models.keypoints import Pyramid, VisibilityProbe, visibility_loss

STRIDES, CHANNELS = (4, 8, 16, 32), (2, 3, 5, 7)


def maps(strides=STRIDES, channels=CHANNELS, input_px=64):
    return [
        torch.randn(2, c, input_px // s, input_px // s)
        for s, c in zip(strides, channels, strict=True)
    ]


def transparent(channels, strides, stride):
    """A pyramid whose convolutions change nothing: what is left is doubling and adding."""
    pyramid = Pyramid(channels, strides, 1, stride)
    pyramid.mix = nn.ModuleList(nn.Identity() for _ in pyramid.mix)
    for lateral in pyramid.lateral:
        if isinstance(lateral, nn.Conv2d):
            nn.init.ones_(lateral.weight)
            nn.init.zeros_(lateral.bias)
    return pyramid


@pytest.mark.parametrize(
    ("channels", "strides", "stride"),
    [
        *((CHANNELS, STRIDES, stride) for stride in STRIDES),
        *(((7,), (32,), stride) for stride in (1, 4, 32)),  # one coarse map
        ((2, 7), (4, 32), 4),  # a gap between the strides
    ],
)
def test_the_map_has_the_stride_that_is_asked_for(channels, strides, stride):
    merged = Pyramid(channels, strides, 6, stride)(maps(strides, channels))
    assert merged.shape == (2, 6, 64 // stride, 64 // stride)


def test_each_map_joins_at_its_own_level():
    """Against a sum of the maps, each repeated to the finest size by itself."""
    strides, features = (4, 8, 32), maps((4, 8, 32), (1, 1, 1))
    merged = transparent((1, 1, 1), strides, 4)(features)
    expected = sum(
        f.repeat_interleave(s // 4, dim=2).repeat_interleave(s // 4, dim=3)
        for s, f in zip(strides, features, strict=True)
    )
    torch.testing.assert_close(merged, expected)


def test_maps_finer_than_the_stride_are_not_looked_at():
    pyramid, features = Pyramid(CHANNELS, STRIDES, 6, 16).eval(), maps()
    changed = [torch.full_like(features[0], float("nan")), features[1] + 9, *features[2:]]
    assert torch.equal(pyramid(features), pyramid(changed))
    assert [tuple(m.weight.shape[:2]) for m in pyramid.lateral] == [(6, 7), (6, 5)]


def test_every_map_that_is_used_learns():
    features = [f.requires_grad_() for f in maps()]
    Pyramid(CHANNELS, STRIDES, 6, 4)(features).square().sum().backward()
    assert all(f.grad.abs().sum() > 0 for f in features)


@pytest.mark.parametrize("stride", [64, 3, 5, 24, 0, -4])
def test_a_stride_out_of_reach(stride):
    message = rf"^head\.stride={stride}: expected 32 or a half, quarter … of it$"
    with pytest.raises(ConfigError, match=message):
        Pyramid(CHANNELS, STRIDES, 6, stride)


def test_a_stride_that_does_not_halve_evenly():
    with pytest.raises(ConfigError, match=r"^head\.stride=6: expected 28 or a half"):
        Pyramid((3,), (28,), 6, 6)
    assert Pyramid((3,), (28,), 6, 7)([torch.zeros(2, 3, 2, 2)]).shape == (2, 6, 8, 8)


def test_the_features_do_not_feel_the_probe():
    features = [torch.randn(4, 2, 8, 8, requires_grad=True), torch.randn(4, 6, 2, 2)]
    features[1].requires_grad_()
    probe = VisibilityProbe(6, 3)
    visibility_loss(probe(features), torch.full((4, 3), 2)).backward()
    assert all(f.grad is None for f in features)
    assert probe.linear.weight.grad.abs().sum() > 0


def test_the_probe_reads_the_mean_of_the_coarsest_map():
    features, probe = [torch.randn(4, 2, 8, 8), torch.randn(4, 6, 2, 2)], VisibilityProbe(6, 3)
    mean = features[1].flatten(2).sum(2) / 4
    expected = mean @ probe.linear.weight.T + probe.linear.bias
    torch.testing.assert_close(probe(features), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert probe(features).dtype is torch.float32


def test_the_probe_s_loss_by_hand():
    logits = torch.tensor([[math.log(3), math.log(3), 50.0]])  # probability of visible: ¾, ¾
    loss = visibility_loss(logits, torch.tensor([[2, 1, 0]]))
    assert loss.item() == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_unlabelled_keypoints_get_no_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    visibility = torch.tensor([[2, 0, 1, 0], [0, 0, 0, 0], [1, 2, 0, 2]])
    visibility_loss(logits, visibility).backward()
    assert ((logits.grad != 0) == (visibility > 0)).all()
    nothing = visibility_loss(logits, torch.zeros(3, 4))
    assert nothing.item() == torch.autograd.grad(nothing, logits)[0].abs().sum() == 0


def test_the_probe_learns_what_the_features_show():
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
