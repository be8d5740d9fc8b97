"""One coordinate convention: affines agree with each other, and pixels agree with affines."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convpose.geometry import (
    box_to_affine,
    compose,
    identity,
    invert,
    pixel_to_unit,
    similarity,
    transform,
    warp,
)

MIRROR = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
WHOLE = np.eye(2, 3)
GREY = 114


def floats(low, high):
    return st.floats(low, high, allow_subnormal=False)


similarities = st.builds(
    similarity,
    centre_px=st.tuples(floats(-500, 500), floats(-500, 500)),
    scale=floats(0.1, 10),
    rotation_deg=floats(-360, 360),
    shift_px=st.tuples(floats(-300, 300), floats(-300, 300)),
)
boxes = st.builds(
    lambda x, y, w, h: np.array([x, y, x + w, y + h]),
    floats(-300, 300),
    floats(-300, 300),
    floats(1, 600),
    floats(1, 600),
)
affines = st.builds(
    lambda s, box, mirrored: compose(compose(s, box_to_affine(box)), MIRROR if mirrored else WHOLE),
    similarities,
    boxes,
    st.booleans(),
)
points = st.lists(st.tuples(floats(-1000, 1000), floats(-1000, 1000)), min_size=1, max_size=14).map(
    np.array
)


class TestAlgebra:
    @given(affines, points)
    def test_px_to_unit_and_back_is_the_same_point(self, unit_to_px, points_px):
        unit = transform(invert(unit_to_px), points_px)
        assert transform(unit_to_px, unit) == pytest.approx(points_px, abs=1e-7)

    @given(affines)
    def test_an_inverse_undoes_from_both_sides(self, affine):
        assert compose(affine, invert(affine)) == pytest.approx(identity(), abs=1e-8)
        scaled = compose(invert(affine), affine)
        assert scaled[:, :2] == pytest.approx(np.eye(2), abs=1e-8)

    @given(affines, similarities, points)
    def test_compose_applies_the_inner_first(self, outer, inner, some):
        step_by_step = transform(outer, transform(inner, some))
        assert transform(compose(outer, inner), some) == pytest.approx(step_by_step, rel=1e-9)

    def test_mirror_twice_is_the_identity(self):
        assert (compose(MIRROR, MIRROR) == identity()).all()

    @given(similarities)
    def test_a_similarity_scales_all_directions_alike(self, affine):
        gram = affine[:, :2] @ affine[:, :2].T
        assert gram == pytest.approx(gram[0, 0] * np.eye(2), abs=1e-9 * gram[0, 0])

    def test_a_quarter_turn_is_clockwise_on_the_screen(self):
        right, down = np.array([[3.0, 0.0]]), np.array([[0.0, 3.0]])
        assert transform(similarity((0, 0), rotation_deg=90), right) == pytest.approx(down)

    def test_scale_and_shift_about_a_centre(self):
        affine = similarity((10, 20), scale=2, shift_px=(1, -1))
        assert transform(affine, np.array([[13.0, 24.0]])) == pytest.approx(
            np.array([[10 + 2 * 3 + 1, 20 + 2 * 4 - 1]])
        )

    def test_a_box_by_its_edges(self):
        affine = box_to_affine(np.array([-0.5, 9.5, 99.5, 29.5]))
        corners_and_centre = np.array([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]])
        expected = [[-0.5, 9.5], [99.5, 29.5], [49.5, 19.5]]
        assert transform(affine, corners_and_centre).tolist() == expected

    def test_pixel_centres_sit_at_half_cells(self):
        pixels = np.array([[0.0, 3.0], [-0.5, 3.5]])
        assert transform(pixel_to_unit(4), pixels).tolist() == [[0.125, 0.875], [0.0, 1.0]]

    def test_a_flat_affine_has_no_inverse(self):
        with pytest.raises(np.linalg.LinAlgError):
            invert(np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]]))


class TestTransform:
    @given(affines, points)
    def test_numpy_and_torch_agree(self, affine, some):
        moved = transform(torch.from_numpy(affine), torch.from_numpy(some))
        assert moved.numpy() == pytest.approx(transform(affine, some), rel=1e-12)

    def test_each_affine_of_a_batch_moves_its_own_points(self):
        rng = np.random.default_rng(0)
        batch, some = rng.normal(size=(3, 2, 3)), rng.normal(size=(3, 5, 2))
        for moved, affine, own in zip(transform(batch, some), batch, some, strict=True):
            by_loop = [[row[:2] @ p + row[2] for row in affine] for p in own]
            assert moved == pytest.approx(np.array(by_loop), rel=1e-12)

    def test_nan_stays_nan_and_spreads_nowhere(self):
        some = np.array([[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])
        moved = transform(box_to_affine(np.array([0.0, 0.0, 10.0, 10.0])), some)
        assert np.array_equal(moved, [[10, 20], [np.nan, np.nan], [30, 40]], equal_nan=True)

    def test_bf16_autocast_changes_nothing(self):
        rng = np.random.default_rng(0)
        affine = torch.from_numpy(rng.normal(0, 200, (8, 2, 3))).float()
        some = torch.from_numpy(rng.uniform(0, 1, (8, 14, 2))).float()
        expected = transform(affine, some)
        with torch.autocast("cpu", torch.bfloat16):
            moved = transform(affine, some)
        assert moved.dtype is torch.float32
        assert torch.equal(moved, expected)


def whole(width, height):
    return box_to_affine(np.array([-0.5, -0.5, width - 0.5, height - 0.5]))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blob(size_px, centre_px, sigma_px):
    y, x = np.mgrid[:size_px, :size_px]
    bell = np.exp(-((x - centre_px[0]) ** 2 + (y - centre_px[1]) ** 2) / (2 * sigma_px**2))
    return np.repeat(np.rint(240 * bell).astype(np.uint8)[..., None], 3, axis=2)


def centroid(crop, near_px, radius_px):
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]]
    weight = crop[..., 0] * (np.hypot(x - near_px[0], y - near_px[1]) < radius_px)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


class TestWarp:
    def test_the_whole_image_at_its_own_size_is_a_copy(self):
        image = noise(64, 64)
        assert np.array_equal(warp(image, whole(64, 64), 64), image)

    def test_a_box_cuts_exactly_its_pixels_and_pads_with_grey(self):
        image = noise(40, 50)
        crop = warp(image, box_to_affine(np.array([41.5, 3.5, 57.5, 19.5])), 16)  # x 42 … 57
        assert np.array_equal(crop[:, :8], image[4:20, 42:50])
        assert (crop[:, 8:] == GREY).all()

    @settings(max_examples=40)
    @given(
        size_px=st.integers(60, 600),
        crop_px=st.integers(32, 128),
        x=floats(0.35, 0.65),
        y=floats(0.35, 0.65),
        zoom=floats(0.8, 1.25),
        rotation_deg=floats(-180, 180),
        mirror=st.booleans(),
    )
    def test_a_blob_lands_where_the_affine_says(
        self, size_px, crop_px, x, y, zoom, rotation_deg, mirror
    ):
        centre = np.array([x, y]) * size_px
        image = blob(size_px, centre, sigma_px=2 * max(1.0, size_px / crop_px))
        middle = ((size_px - 1) / 2, (size_px - 1) / 2)
        change = similarity(middle, zoom, rotation_deg)
        unit_to_px = compose(change, whole(size_px, size_px))
        unit_to_px = compose(unit_to_px, MIRROR) if mirror else unit_to_px
        expected = transform(invert(unit_to_px), centre[None])[0] * crop_px - 0.5
        found = centroid(warp(image, unit_to_px, crop_px), expected, radius_px=7)
        assert found == pytest.approx(expected, abs=0.1)

    def test_a_mirrored_crop_is_the_flipped_crop(self):
        image = noise(70, 90)
        for box in ([-0.5, -0.5, 63.5, 63.5], [10.5, -7.5, 42.5, 24.5], [3.5, 2.5, 131.5, 130.5]):
            unit_to_px = box_to_affine(np.array(box))
            mirrored = warp(image, compose(unit_to_px, MIRROR), 32)
            assert np.array_equal(mirrored, warp(image, unit_to_px, 32)[:, ::-1])

    @settings(max_examples=20)
    @given(floats(-180, 180), floats(0.5, 2), st.integers(16, 80))
    def test_also_when_it_is_turned_but_for_a_rounded_grey_level(self, rotation_deg, zoom, side):
        unit_to_px = compose(similarity((30, 40), zoom, rotation_deg), whole(60, 80))
        image = noise(80, 60)
        mirrored = warp(image, compose(unit_to_px, MIRROR), side).astype(int)
        assert np.abs(mirrored - warp(image, unit_to_px, side)[:, ::-1]).max() <= 1

    @pytest.mark.parametrize("size_px", [512, 509])
    @pytest.mark.parametrize("factor", [2.5, 4, 7.9, 16])
    def test_shrinking_averages_fine_stripes_instead_of_picking_some(self, size_px, factor):
        stripes = np.zeros((size_px, size_px, 3), np.uint8)
        stripes[:, ::2] = 200
        crop = warp(stripes, whole(size_px, size_px), round(size_px / factor))
        inner = crop[2:-2, 2:-2].astype(int)
        assert np.abs(inner - 100).max() <= 2

    @pytest.mark.parametrize("size_px", [511, 640, 999])
    def test_shrinking_much_does_not_shift(self, size_px):
        centre = np.array([0.4, 0.6]) * size_px
        crop = warp(blob(size_px, centre, size_px / 12), whole(size_px, size_px), 32)
        expected = (centre + 0.5) / size_px * 32 - 0.5
        assert centroid(crop, expected, 12) == pytest.approx(expected, abs=0.03)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2)])
    def test_tiny_and_thin_images_pass(self, shape):
        image = np.full((*shape, 3), 50, np.uint8)
        crop = warp(image, whole(shape[1], shape[0]), 33)
        assert crop.shape == (33, 33, 3)
        assert crop[16, 16].tolist() == [50, 50, 50]

    def test_the_source_is_left_alone(self):
        image = noise(300, 300)
        before = image.copy()
        warp(image, whole(300, 300), 32)
        assert np.array_equal(image, before)

    def test_its_convention_is_that_of_opencv(self):
        image = noise(50, 60)
        to_px = np.array([[0.9, 0.2, 3.0], [-0.2, 0.9, 8.0]])
        unit_to_px = compose(to_px, invert(pixel_to_unit(32)))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected = cv2.warpAffine(image, to_px, (32, 32), flags=flags, borderValue=(GREY,) * 3)
        assert np.abs(warp(image, unit_to_px, 32).astype(int) - expected).max() <= 1
