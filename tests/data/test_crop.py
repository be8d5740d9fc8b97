"""The crop sees what its mode says, and unlabelled joints never move it."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from fake_source import K, annotation
from hypothesis import given
from hypothesis import strategies as st

from convpose.data.crop import Crop, Mode, found_box_px, joints_box_px
from convpose.errors import ConfigError, DataError
from convpose.geometry import invert, transform

CORNERS = np.array([[0.0, 0.0], [1.0, 1.0]])
JOINTS = [[10, 20], [30, 60], [20, 40]]


def corners_px(crop, some):
    return transform(crop.unit_to_px(some), CORNERS).tolist()


def test_the_data_set_s_own_box_goes_before_the_joints():
    own = replace(annotation(JOINTS, [2, 1, 2]), box_px=np.array([10.0, 20.0, 50.0, 40.0]))
    expected = np.array([[80, 0, 30 - 40], [0, 80, 30 - 40]])
    np.testing.assert_allclose(Crop("box", 2.0).unit_to_px(own), expected)
    whole = Crop("image").unit_to_px(own)
    np.testing.assert_array_equal(whole, Crop("image").unit_to_px(annotation(JOINTS, [2, 1, 2])))


def test_image_is_the_whole_frame_to_its_edges():
    some = annotation(JOINTS, size_px=(60, 80))
    assert corners_px(Crop("image"), some) == [[-0.5, -0.5], [59.5, 79.5]]


def test_letterbox_is_the_square_around_the_frame():
    upright, lying = annotation(JOINTS, size_px=(60, 80)), annotation(JOINTS, size_px=(80, 60))
    assert corners_px(Crop("letterbox"), upright) == [[-10.5, -0.5], [69.5, 79.5]]
    assert corners_px(Crop("letterbox"), lying) == [[-0.5, -10.5], [79.5, 69.5]]


def test_box_is_a_square_of_the_longer_side():
    some = annotation(JOINTS)  # 20 wide, 40 high, around (20, 40)
    assert corners_px(Crop("box"), some) == [[-5, 15], [45, 65]]
    assert corners_px(Crop("box", box_scale=1), some) == [[0, 20], [40, 60]]


joints = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=2, max_size=K, unique=True
)


@given(joints)
def test_box_holds_all_joints_with_a_tenth_to_spare(points):
    some = annotation(points)
    unit = transform(invert(Crop("box").unit_to_px(some)), some.keypoints_px.astype(np.float64))
    assert unit.min() == pytest.approx(0.1)
    assert unit.max() == pytest.approx(0.9)


@pytest.mark.parametrize("mode", get_args(Mode))
@given(garbage=st.floats(width=32))
def test_unlabelled_garbage_never_changes_a_crop(mode, garbage):
    clean = annotation([*JOINTS, [0, 0]], [2, 1, 2, 0])
    dirty = annotation([*JOINTS, [0, 0]], [2, 1, 2, 0])
    dirty.keypoints_px[3] = garbage
    assert np.array_equal(Crop(mode).unit_to_px(clean), Crop(mode).unit_to_px(dirty))
    assert np.array_equal(joints_box_px(dirty), [[10, 20], [30, 60]])


def test_occluded_joints_count():
    low, high = joints_box_px(annotation(JOINTS, [2, 1, 2]))
    assert (low.tolist(), high.tolist()) == ([10, 20], [30, 60])


def test_joints_on_one_line_still_make_a_square():
    assert corners_px(Crop("box"), annotation([[50, 10], [50, 90]])) == [[0, 0], [100, 100]]
    assert corners_px(Crop("box"), annotation([[10, 50], [90, 50]])) == [[0, 0], [100, 100]]


@pytest.mark.parametrize(
    ("points", "visibility", "count"),
    [
        ([[1, 2], [3, 4]], [0, 0], 0),
        ([[1, 2], [3, 4]], [2, 0], 1),
        ([[3, 4], [3, 4]], [2, 2], 2),
    ],
)
def test_too_few_joints_span_no_box(points, visibility, count):
    some = annotation(points, visibility, image_id="im00042")
    with pytest.raises(DataError, match=rf"im00042: {count} labelled joints span no box; leave"):
        Crop("box").unit_to_px(some)
    assert corners_px(Crop("image"), some)[0] == [-0.5, -0.5]  # the frame needs none


def test_each_data_set_may_have_its_own_crop():
    crop = Crop({"lsp": "letterbox", "lspet": "box"})
    lsp, lspet = annotation(JOINTS, dataset="lsp"), annotation(JOINTS, dataset="lspet")
    assert np.array_equal(crop.unit_to_px(lsp), Crop("letterbox").unit_to_px(lsp))
    assert np.array_equal(crop.unit_to_px(lspet), Crop("box").unit_to_px(lspet))
    assert str(crop) == "lsp:letterbox+lspet:box"
    assert str(Crop("box")) == "box"


def test_a_data_set_without_a_crop_is_named():
    crop = Crop({"lsp": "image"})
    with pytest.raises(ConfigError, match=r"data\.crop names lsp but not coco; type \+data\.crop"):
        crop.unit_to_px(annotation(JOINTS, dataset="coco"))


@pytest.mark.parametrize(
    ("points", "scores", "box"),
    [
        ([[10, 20], [40, 90], [30, 50]], [0.9, 0.3, 0.5], [10, 20, 40, 90]),
        ([[10, 20], [40, 90], [30, 50], [0, 0]], [0.9, 0.3, 0.5, 0.2], [10, 20, 40, 90]),
        ([[-9, 20], [40, 130], [230, 50]], [0.9, 0.9, 0.9], [-0.5, 20, 199.5, 99.5]),
        ([[10, 20], [40, 90], [30, 50]], [0.9, 0.2, 0.5], None),  # two are too few
        ([[10, 20], [29, 39], [15, 35]], [0.9, 0.9, 0.9], None),  # in one place: below 20 px
    ],
)
def test_the_box_of_what_was_found(points, scores, box):
    """Use a frame of 200 × 100 px."""
    found = found_box_px(np.array(points, np.float32), np.array(scores, np.float32), (200, 100))
    assert (found is None) if box is None else found.tolist() == box
