"""The pyramid: sizes, the level at which a feature map joins, and strides out of reach."""

import pytest
import torch
from torch import nn

from convpose.errors import ConfigError
from convpose.models.keypoints import Pyramid

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


@pytest.mark.parametrize("stride", STRIDES)
def test_the_map_has_the_stride_that_is_asked_for(stride):
    merged = Pyramid(CHANNELS, STRIDES, 6, stride)(maps())
    assert merged.shape == (2, 6, 64 // stride, 64 // stride)


@pytest.mark.parametrize("stride", [1, 4, 32])
def test_one_coarse_map_is_doubled_to_the_stride(stride):
    merged = Pyramid((7,), (32,), 6, stride)(maps((32,), (7,)))
    assert merged.shape == (2, 6, 64 // stride, 64 // stride)


def test_a_gap_between_the_strides_is_doubled_across():
    merged = Pyramid((2, 7), (4, 32), 6, 4)(maps((4, 32), (2, 7)))
    assert merged.shape == (2, 6, 16, 16)


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
