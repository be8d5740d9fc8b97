"""Augmentation draws what its keys say, from the sample's generator alone."""

import pickle
import random
from pathlib import Path

import albumentations
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import composed

from convpose.config.instantiate import build
from convpose.data.augment import MIRROR, Augment
from convpose.errors import ConfigError
from convpose.geometry import box_to_affine, compose, identity, invert, transform

BOX = box_to_affine(np.array([10.0, 20.0, 110.0, 120.0]))
YAMLS = sorted((Path(__file__).parents[2] / "conf" / "augment").glob("*.yaml"))


def changes(augment, count=400, unit_to_px=BOX):
    """Affines (N, 2, 3) that the draws apply to points in px, and a mask (N,) of mirrored ones."""
    drawn = [augment.sample_crop(unit_to_px, np.random.default_rng(i)) for i in range(count)]
    unmirrored = [compose(a, MIRROR) if mirrored else a for a, mirrored in drawn]
    undo = invert(unit_to_px)
    return np.stack([compose(a, undo) for a in unmirrored]), np.array([m for _, m in drawn])


def zoom_and_turn(similarities):
    return (
        np.hypot(similarities[:, 0, 0], similarities[:, 1, 0]),
        np.degrees(np.arctan2(similarities[:, 1, 0], similarities[:, 0, 0])),
    )


class TestGeometry:
    def test_none_changes_nothing(self):
        affine, mirrored = Augment().sample_crop(BOX, np.random.default_rng(0))
        assert affine == pytest.approx(BOX, abs=1e-12)
        assert not mirrored

    def test_scale_is_a_factor_in_both_directions(self):
        zoom, turn = zoom_and_turn(changes(Augment(scale=0.2))[0])
        assert np.log(zoom).min() == pytest.approx(-0.2, abs=0.01)
        assert np.log(zoom).max() == pytest.approx(0.2, abs=0.01)
        assert np.abs(turn).max() == 0

    def test_rotation_reaches_its_limit_both_ways_about_the_centre(self):
        done, _ = changes(Augment(rotation_deg=30))
        zoom, turn = zoom_and_turn(done)
        assert zoom == pytest.approx(1)
        assert (turn.min(), turn.max()) == pytest.approx((-30, 30), abs=0.5)
        centre = np.array([[60.0, 70.0]])
        assert transform(done, np.tile(centre, (400, 1, 1))) == pytest.approx(
            np.tile(centre, (400, 1, 1))
        )

    def test_180_degrees_are_the_full_circle(self):
        _, turn = zoom_and_turn(changes(Augment(rotation_deg=180))[0])
        assert np.histogram(turn, 8, (-180, 180))[0].min() > 25  # of 50 each

    def test_a_share_is_turned(self):
        _, turn = zoom_and_turn(changes(Augment(rotation_deg=45, rotation_probability=0.3))[0])
        assert (turn != 0).mean() == pytest.approx(0.3, abs=0.07)

    def test_shift_is_a_fraction_of_each_side(self):
        wide = box_to_affine(np.array([0.0, 0.0, 200.0, 50.0]))
        done, _ = changes(Augment(shift=0.1), unit_to_px=wide)
        furthest = np.abs(done[:, :, 2]).max(axis=0)
        assert furthest == pytest.approx(np.array([20, 5]), rel=0.02)

    def test_a_share_is_mirrored_exactly(self):
        augment = Augment(mirror_probability=0.5)
        assert changes(augment)[1].mean() == pytest.approx(0.5, abs=0.07)
        affine, mirrored = Augment(mirror_probability=1).sample_crop(BOX, np.random.default_rng(0))
        assert mirrored
        assert np.array_equal(affine, compose(BOX, MIRROR))
        assert transform(affine, np.array([[0.0, 0.5]])).tolist() == [[110.0, 70.0]]

    @settings(max_examples=20)
    @given(st.integers(0, 2**32), st.floats(0, 1), st.floats(0, 180), st.floats(0, 0.5))
    def test_one_similarity_never_distorts(self, seed, scale, rotation_deg, shift):
        augment = Augment(scale, rotation_deg, 1.0, shift, 0.5)
        affine, _ = augment.sample_crop(BOX, np.random.default_rng(seed))
        gram = affine[:, :2] @ affine[:, :2].T
        assert gram == pytest.approx(gram[0, 0] * np.eye(2), abs=1e-9 * gram[0, 0])


KEYPOINTS = np.random.default_rng(0).uniform(-0.2, 1.2, (14, 2))
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


def pixels(augment, seed=0, keypoints=KEYPOINTS):
    return augment.apply_pixels(IMAGE, keypoints, np.random.default_rng(seed))


def invert_and_hole():
    """Two transforms that happen to half of the samples and leave a trace each."""
    return Augment(
        transforms={
            "invert": albumentations.InvertImg(p=0.5),
            "hole": albumentations.CoarseDropout((1, 1), (4, 4), (4, 4), fill=7, p=0.5),
        }
    )


class TestPixels:
    def test_no_transforms_no_change(self):
        assert np.array_equal(pixels(Augment()), IMAGE)

    def test_the_generator_alone_decides(self):
        augment = Augment(transforms={"light": albumentations.RandomBrightnessContrast(0.5, p=1)})
        first = pixels(augment, seed=3)
        pixels(augment, seed=4)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002  the global state must not matter
        assert np.array_equal(pixels(augment, seed=3), first)
        assert not np.array_equal(pixels(augment, seed=4), first)
        assert np.array_equal(pixels(pickle.loads(pickle.dumps(augment)), seed=3), first)

    def test_transforms_happen_independently_of_each_other(self):
        augment = invert_and_hole()
        happened = []
        for seed in range(300):
            out = pixels(augment, seed)
            inverted = (out == 255 - IMAGE).mean() > 0.5
            hole = ((out == 7).all(axis=-1)).sum() >= 16
            happened.append((inverted, hole))
        both = np.array(happened)
        assert both.mean(axis=0) == pytest.approx(np.array([0.5, 0.5]), abs=0.1)
        assert both.all(axis=1).mean() == pytest.approx(0.25, abs=0.08)

    def test_the_crop_given_is_left_alone(self):
        before = IMAGE.copy()
        pixels(Augment(transforms={"hole": albumentations.CoarseDropout(p=1)}))
        assert np.array_equal(IMAGE, before)

    @pytest.mark.parametrize("labelled", [0, 1, 14])
    def test_occlusion_drops_no_keypoint_and_unlabelled_ones_pass(self, labelled):
        keypoints = KEYPOINTS.copy()
        keypoints[labelled:] = np.nan
        huge = albumentations.CoarseDropout((1, 1), (0.95, 0.95), (0.95, 0.95), fill=0, p=1)
        assert (pixels(Augment(transforms={"huge": huge}), 0, keypoints) == 0).mean() > 0.8

    @pytest.mark.parametrize(
        "transform",
        [
            albumentations.HorizontalFlip(p=1),
            albumentations.Rotate((20, 20), p=1),
            albumentations.Resize(24, 24),
            albumentations.OneOf([albumentations.HorizontalFlip(p=1)], p=1),
            albumentations.RandomCrop(16, 16, p=1),
        ],
        ids=lambda t: type(t).__name__,
    )
    def test_a_transform_that_moves_keypoints_is_refused(self, transform):
        augment = Augment(transforms={"light": albumentations.ToGray(p=1), "mine": transform})
        with pytest.raises(
            ConfigError, match=r"augment\.transforms \(light, mine\): one of them moves or drops"
        ):
            pixels(augment)

    @pytest.mark.parametrize(
        "transform", [albumentations.ToFloat(255), albumentations.Normalize()], ids=["0", "1"]
    )
    def test_a_crop_stays_uint8(self, transform):
        with pytest.raises(ConfigError, match=r"\(mine\): one of them returns float32 of shape"):
            pixels(Augment(transforms={"mine": transform}))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_configured_augmentation_is_repeatable_and_keeps_the_crop(path):
    augment = build(composed("train", f"augment={path.stem}").augment, "augment")
    for seed in range(20):
        first = pixels(augment, seed)
        assert (first.shape, first.dtype) == (IMAGE.shape, np.uint8)
        assert np.array_equal(pixels(augment, seed), first)
    if path.stem == "none":
        assert np.array_equal(first, IMAGE)
        assert augment.sample_crop(BOX, np.random.default_rng(0))[0] == pytest.approx(BOX)
    else:
        similarities, _ = changes(augment, 20)
        assert np.abs(similarities - identity()).max(axis=(1, 2)).min() > 0
