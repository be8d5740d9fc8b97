"""Drawings are checked by the colours of pixels where something must, or must not, be."""

import math

import numpy as np
import pytest

from convpose.plot.skeletons import (
    COLOURED,
    GROUND_TRUTH,
    draw_pose,
    draw_truth_and_prediction,
    enlarge,
    grid,
)
from convpose.skeleton import LSP14

BACKGROUND = (90, 120, 90)
WRIST = LSP14.index("left_wrist")


def blank(height: int = 200, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), BACKGROUND, dtype=np.uint8)


def a_pose() -> np.ndarray:
    """Fourteen points far enough apart to look at each alone."""
    return np.array(
        [
            *([50, 180], [50, 150], [60, 110], [90, 110], [100, 150], [100, 180]),
            *([20, 90], [30, 60], [55, 50], [95, 50], [120, 60], [130, 90]),
            *([75, 45], [75, 15]),
        ],
        dtype=np.float64,
    )


def pixel(image: np.ndarray, point) -> tuple[int, int, int]:
    x, y = np.rint(point).astype(int)
    return tuple(image[y, x].tolist())


def changed(image: np.ndarray) -> np.ndarray:
    return (image != BACKGROUND).any(axis=-1)


def test_every_joint_has_the_colour_of_its_side() -> None:
    drawn = draw_pose(blank(), a_pose(), LSP14)
    for name, point in zip(LSP14.keypoints, a_pose(), strict=True):
        side = {"left": COLOURED.left, "right": COLOURED.right}.get(name.split("_")[0])
        assert pixel(drawn, point) == (side or COLOURED.neutral), name


def test_limbs_run_between_their_joints_and_the_torso_is_neutral() -> None:
    drawn, points = draw_pose(blank(), a_pose(), LSP14), a_pose()
    for a, b, colour in (
        ("left_elbow", "left_wrist", COLOURED.left),
        ("right_knee", "right_ankle", COLOURED.right),
        ("right_hip", "right_shoulder", COLOURED.neutral),
        ("neck", "head_top", COLOURED.neutral),
    ):
        middle = (points[LSP14.index(a)] + points[LSP14.index(b)]) / 2
        assert pixel(drawn, middle) == colour, (a, b)


def test_arguments_are_not_changed() -> None:
    image, points = blank(), a_pose()
    visibility = np.full(14, 2)
    draw_truth_and_prediction(image, points, points, LSP14, visibility)
    assert not changed(image).any()
    assert np.array_equal(points, a_pose())
    assert (visibility == 2).all()


@pytest.mark.parametrize("how", ["nan", "visibility"])
def test_an_unlabelled_keypoint_and_its_limbs_are_absent(how: str) -> None:
    points, visibility = a_pose(), np.full(14, 2)
    if how == "nan":
        points[WRIST] = math.nan
    else:
        visibility[WRIST] = 0
    drawn = draw_pose(blank(), points, LSP14, visibility)
    x, y = a_pose()[WRIST].astype(int)
    assert not changed(drawn)[y - 10 : y + 10, x - 10 : x + 10].any()
    assert pixel(drawn, a_pose()[LSP14.index("left_elbow")]) == COLOURED.left


def test_an_occluded_keypoint_is_a_ring() -> None:
    visibility = np.full(14, 2)
    visibility[WRIST] = 1
    image = blank(800, 640)
    drawn = draw_pose(image, a_pose() * 4, LSP14, visibility)
    point, width = a_pose()[WRIST] * 4, COLOURED.width_px(image)
    ring = 0.85 * COLOURED.joint * width
    assert pixel(drawn, point) == COLOURED.rim
    assert pixel(drawn, point + np.array([ring, 0])) == COLOURED.left
    assert pixel(drawn, a_pose()[LSP14.index("right_wrist")] * 4) == COLOURED.right


def test_all_unlabelled_draws_nothing() -> None:
    image = blank()
    drawn = draw_pose(image, np.full((14, 2), np.nan), LSP14)
    assert not changed(drawn).any()
    assert not np.shares_memory(drawn, image)


def test_keypoints_outside_and_far_away_do_not_crash() -> None:
    points = a_pose()
    points[0], points[5], points[11] = (-40, 500), (1e30, -1e30), (1e9, 3)
    drawn = draw_pose(blank(), points, LSP14)
    assert changed(drawn).any()
    draw_truth_and_prediction(blank(), a_pose(), points, LSP14)


def test_a_low_score_fades() -> None:
    scores = np.ones(14)
    scores[WRIST] = 0.4
    drawn = draw_pose(blank(), a_pose(), LSP14, scores=scores)
    expected = 0.4 * np.array(COLOURED.left) + 0.6 * np.array(BACKGROUND)
    elbow = a_pose()[LSP14.index("left_elbow")]
    between = (a_pose()[WRIST] + elbow) / 2  # the forearm has the lower score of its ends
    assert np.abs(np.array(pixel(drawn, between)) - expected).max() <= 1
    assert pixel(drawn, elbow) == COLOURED.left


def test_lines_grow_with_the_image() -> None:
    small = changed(draw_pose(blank(600, 480), a_pose() * 3, LSP14)).mean()
    large = changed(draw_pose(blank(1800, 1440), a_pose() * 9, LSP14)).mean()
    assert large == pytest.approx(small, rel=0.15)


def test_truth_lies_white_and_dashed_over_the_prediction() -> None:
    truth, predicted = a_pose(), a_pose() + np.array([12.0, 0.0])
    truth[0] = np.nan
    drawn = draw_truth_and_prediction(blank(), predicted, truth, LSP14)
    assert pixel(drawn, truth[WRIST]) == GROUND_TRUTH.left == (255, 255, 255)
    assert pixel(drawn, predicted[WRIST]) == COLOURED.left
    assert pixel(drawn, predicted[0]) == COLOURED.right
    a, b = truth[LSP14.index("left_shoulder")], truth[LSP14.index("left_hip")]
    along = [pixel(drawn, a + (b - a) * t) for t in np.linspace(0.1, 0.9, 50)]
    white = sum(colour == (255, 255, 255) for colour in along)
    assert 10 < white < 45


def test_enlarge_moves_points_with_the_pixels() -> None:
    image = np.zeros((40, 30, 3), dtype=np.uint8)
    image[20, 10] = 255
    large, (point,) = enlarge(image, np.array([[10.0, 20.0]]), side_px=320)
    assert large.shape == (320, 240, 3)
    assert point.tolist() == [83.5, 163.5]  # the middle of an 8×8 block of pixels
    assert np.argwhere(large[..., 0] == large.max()).mean(axis=0)[::-1] == pytest.approx(point)
    same, points = enlarge(large, np.array([[10.0, 20.0]]), side_px=100)
    assert same.shape == large.shape
    assert points.tolist() == [[10.0, 20.0]]


def test_grid_places_images_in_reading_order() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    images = [np.full((60 + 10 * i, 80, 3), c, np.uint8) for i, c in enumerate(colours)]
    sheet = grid(images, columns=2)
    found = [np.argwhere((sheet == colour).all(axis=-1)) for colour in colours]
    assert [len(where) for where in found] == [60 * 80, 70 * 80, 80 * 80]
    (ay, ax), (by, bx), (cy, cx) = (where.mean(axis=0) for where in found)
    assert ax < bx
    assert ay == pytest.approx(by)
    assert cy > ay
    assert cx == pytest.approx(ax)


def test_grid_writes_captions_below_and_cuts_long_ones() -> None:
    images = [blank(100, 100)] * 2
    plain, titled = grid(images, 2), grid(images, 2, ["im0001", "a caption " * 20])
    assert titled.shape[0] > plain.shape[0]
    caption = titled[104:-4] < 128
    assert caption[:, :104].any()
    assert caption[:, 104:].any()
    assert not caption[:, 100:108].any()  # the long one keeps to its cell


@pytest.mark.parametrize(("images", "titles"), [([], None), ([blank()], ["a", "b"])])
def test_grid_refuses_what_it_cannot_lay_out(images, titles) -> None:
    with pytest.raises(ValueError, match="images"):
        grid(images, 2, titles)
