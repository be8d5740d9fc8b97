"""Damage is graded, seeded and where it is said to be."""

import numpy as np
import pytest

from convpose.data.corruption import KINDS, SEVERITIES, Corruption, body_mask
from convpose.geometry import transform
from convpose.skeleton import LSP14

PHOTOMETRIC = [kind for kind in KINDS if kind != "rotation"]


@pytest.fixture(scope="module")
def crop():
    """A smooth coloured crop and a standing person."""
    y, x = np.mgrid[0:96, 0:96]
    image = np.stack([80 + x, 200 - y, 90 + 20 * np.sin(x / 3)], axis=-1).astype(np.uint8)
    legs = [(44, 90), (44, 72), (44, 54), (54, 54), (54, 72), (54, 90)]
    arms = [(34, 52), (36, 40), (42, 28), (56, 28), (62, 40), (64, 52)]
    joints = np.array([*legs, *arms, (49, 24), (49, 10)], float)
    return image, joints / 96


def damaged(kind, severity, crop, seed=0):
    image, joints = crop
    return Corruption(kind, severity, LSP14).apply_pixels(
        image, joints, np.random.default_rng(seed)
    )


@pytest.mark.parametrize("kind", PHOTOMETRIC)
def test_damage_grows_and_repeats_itself(kind, crop):
    before = crop[0].copy()
    change = []
    for severity in SEVERITIES:
        out = damaged(kind, severity, crop)
        assert out.dtype == np.uint8
        assert out.shape == before.shape
        assert np.array_equal(out, damaged(kind, severity, crop)), "seeded"
        change.append(np.abs(out.astype(int) - before).mean())
    assert np.array_equal(crop[0], before), "the given image is left alone"
    assert change[0] > 0
    assert change[-1] > 1.5 * change[0]


def test_unlabelled_joints_are_no_trouble(crop):
    image, joints = crop
    unknown = joints.copy()
    unknown[::2] = np.nan
    for kind in PHOTOMETRIC:
        assert damaged(kind, 5, (image, unknown)).shape == image.shape


def test_joints_are_covered(crop):
    image, joints = crop
    out = damaged("occluded joints", 5, crop)
    changed = (out != image).any(axis=-1)
    at = (joints * 96).astype(int)
    assert sum(changed[y, x] for x, y in at) >= 8


def test_regions_cover_what_they_say(crop):
    changed = (damaged("occluded regions", 4, crop) != crop[0]).any(axis=-1).mean()
    assert 0.25 < changed < 0.6


def test_clutter_spares_the_body_and_clothing_the_background(crop):
    image, joints = crop
    body = body_mask(joints, 96, LSP14)
    assert 0.1 < body.mean() < 0.6
    cluttered = (damaged("background clutter", 5, crop) != image).any(axis=-1)
    assert not cluttered[body].any()
    assert cluttered[~body].mean() > 0.8
    dressed = (damaged("clothing colour", 5, crop) != image).any(axis=-1)
    assert not dressed[~body].any()
    assert dressed[body].mean() > 0.9


def test_rotation_turns_the_crop_about_its_centre():
    unit_to_px = np.array([[80.0, 0, 10], [0, 80.0, 20]])
    rotation = Corruption("rotation", 4, LSP14)
    for seed in range(4):
        turned, mirrored = rotation.sample_crop(unit_to_px, np.random.default_rng(seed))
        assert not mirrored
        corner = transform(turned, np.array([[0.5, 0.5], [1.0, 0.5]]))
        assert corner[0].tolist() == pytest.approx([50, 60])
        assert abs(corner[1] - corner[0]).tolist() == pytest.approx([0, 40])
    still, _ = Corruption("blur", 4, LSP14).sample_crop(unit_to_px, np.random.default_rng(0))
    assert np.array_equal(still, unit_to_px)
