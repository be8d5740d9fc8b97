"""Labels of synthetic people fit the pixels, left is left, and every picture is reproducible."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from convpose.data.annotation import PoseSource
from convpose.data.synthetic import SyntheticSource
from convpose.data.synthetic.figure import MARGIN, PARTS, sample_figures
from convpose.data.synthetic.painting import Outfit, paint_figure
from convpose.geometry import identity
from convpose.skeleton import LSP14

SIZE_PX = 96


@pytest.fixture(scope="module")
def source():
    return SyntheticSource(num_images=120, image_size_px=SIZE_PX, seed=7)


@pytest.fixture(scope="module")
def figures():
    return sample_figures(3000, SIZE_PX, seed=7)


@pytest.fixture(scope="module")
def probe():
    """300 people in flat colours on black, (N, 3, S, S): left is red, right blue, torso green."""
    figures = sample_figures(300, SIZE_PX, seed=7)
    red, green, blue = 255 * np.eye(3, dtype=np.float32)
    ink = {"left": red, "right": blue}
    parts = {part: (ink.get(part.partition("_")[0], green), None, 0) for part in PARTS}
    parts["occluder"] = (np.full(3, 255, np.float32), None, 0)
    outfit = Outfit(parts, flanks=(green, green), hair=green, fringe=1.0)
    canvases = np.zeros((300, 3, SIZE_PX, SIZE_PX), np.float32)
    for i, canvas in enumerate(canvases):
        paint_figure(canvas, figures, i, outfit, light=np.zeros(3, np.float32))
    return figures, canvases


def colour_at(canvases, points_px):
    """(N, 3) colour under one point (N, 2) of every picture."""
    x, y = np.rint(points_px).astype(int).T
    return canvases[np.arange(len(canvases)), :, y, x]


def is_ink(canvases, points_px, channel):
    """Mask (N,) of points whose colour is the pure ink of that channel."""
    colour = colour_at(canvases, points_px)
    return colour[:, channel] > 0.7 * colour.sum(axis=1).clip(50)


def joint(figures, name):
    return figures.joints[:, LSP14.index(name)]


def test_is_a_pose_source_with_complete_annotations(source):
    checked: PoseSource = source
    assert len(checked.annotations) == 120
    assert checked.annotations[0].image_id == "synthetic_000000"
    assert len({a.image_id for a in checked.annotations}) == 120
    for index, annotation in enumerate(checked.annotations[:5]):
        image, to_file = checked.read_image(index)
        assert image.shape == (annotation.height_px, annotation.width_px, 3) == (96, 96, 3)
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(to_file, identity())
        assert annotation.dataset == "synthetic"
        assert annotation.keypoints_px.shape == (14, 2)
        assert annotation.keypoints_px.dtype == np.float32
        assert annotation.visibility.dtype == np.uint8
        assert set(annotation.visibility) <= {1, 2}


def test_a_picture_depends_on_seed_and_index_alone(source):
    forward = [source.read_image(i)[0] for i in range(20)]
    shorter = SyntheticSource(num_images=20, image_size_px=SIZE_PX, seed=7)
    shorter = pickle.loads(pickle.dumps(shorter))  # as a spawned worker gets it
    with ThreadPoolExecutor(4) as pool:
        backward = list(pool.map(lambda i: shorter.read_image(i)[0], reversed(range(20))))
    for image, same in zip(forward, reversed(backward), strict=True):
        np.testing.assert_array_equal(image, same)
    other, _ = SyntheticSource(num_images=1, image_size_px=SIZE_PX, seed=8).read_image(0)
    assert np.mean(forward[0] != other) > 0.5
    assert np.mean(forward[0] != forward[1]) > 0.5
    for a, b in zip(source.annotations, shorter.annotations, strict=False):
        np.testing.assert_array_equal(a.keypoints_px, b.keypoints_px)
        np.testing.assert_array_equal(a.visibility, b.visibility)


def test_drawing_leaves_the_global_generator_alone(source):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the one that must not be used
    source.read_image(0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_keypoints_lie_inside_the_image_and_fill_it(figures):
    points = figures.joints[..., :2]
    assert np.isfinite(points).all()
    assert points.min() >= MARGIN * SIZE_PX - 0.5
    assert points.max() <= (1 - MARGIN) * SIZE_PX - 0.5
    extent = np.ptp(points, axis=1).max(axis=1)
    assert extent.min() > 0.25 * SIZE_PX
    centre = (points.min(axis=1) + points.max(axis=1)) / 2
    assert (centre.std(axis=0) > 0.02 * SIZE_PX).all(), "people should not all be centred"


@pytest.mark.parametrize(
    ("start", "end"),
    [("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")],
)
def test_bones_keep_their_length_in_3d(figures, start, end):
    def length(side, a, b):
        return np.linalg.norm(joint(figures, f"{side}_{a}") - joint(figures, f"{side}_{b}"), axis=1)

    left, right = length("left", start, end), length("right", start, end)
    np.testing.assert_allclose(left, right)
    ratio = left / length("left", "elbow", "wrist")
    np.testing.assert_allclose(ratio, ratio[0])
    flat = joint(figures, f"left_{start}")[:, :2] - joint(figures, f"left_{end}")[:, :2]
    shown = np.linalg.norm(flat, axis=1) / left
    assert shown.max() <= 1
    assert shown.min() < 0.3, "some bones should point at the viewer"


@pytest.mark.parametrize("chain", [("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")])
def test_knees_and_elbows_bend_as_far_as_people_bend(figures, chain):
    for side in ("left", "right"):
        first, hinge, last = (joint(figures, f"{side}_{name}") for name in chain)
        upper, lower = hinge - first, last - hinge
        lengths = np.linalg.norm(upper, axis=1) * np.linalg.norm(lower, axis=1)
        bend_deg = np.degrees(np.arccos((upper * lower).sum(axis=1) / lengths))
        assert bend_deg.min() > 3
        assert 90 < bend_deg.max() < 140


def test_knees_bend_backwards(figures):
    leftwards = joint(figures, "left_hip") - joint(figures, "right_hip")
    for side in ("left", "right"):
        hip, knee, ankle = (joint(figures, f"{side}_{name}") for name in ("hip", "knee", "ankle"))
        hinge = np.cross(knee - hip, ankle - knee)
        assert ((hinge * leftwards).sum(axis=1) > 0).mean() > 0.99


def test_people_stand_lie_and_tumble(figures):
    hips = (joint(figures, "left_hip") + joint(figures, "right_hip")) / 2
    up = joint(figures, "neck") - hips
    from_upright_deg = np.degrees(np.arctan2(up[:, 0], -up[:, 1]))
    quadrants = np.histogram(from_upright_deg, [-180, -135, -45, 45, 135, 180])[0] / len(up)
    upside_down, on_the_right, upright, on_the_left, still_upside_down = quadrants
    assert 0.4 < upright < 0.6
    assert min(on_the_left, on_the_right) > 0.1
    assert upside_down + still_upside_down > 0.1
    assert 0.35 < np.mean(np.abs(from_upright_deg) > 60) < 0.45  # LSPET: 0.43


def test_left_and_right_swap_on_screen_with_the_side_that_is_seen(figures):
    across = joint(figures, "left_shoulder") - joint(figures, "right_shoulder")
    hips = (joint(figures, "left_hip") + joint(figures, "right_hip")) / 2
    down = hips - joint(figures, "neck")
    back = np.cross(across, down)  # away from the viewer when the chest is seen
    facing = back[:, 2] > 0
    assert 0.4 < facing.mean() < 0.6
    np.testing.assert_array_equal(facing, figures.chest[:, 2, 2] > 0)
    for rotation in (figures.chest, figures.head):
        np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
    upright = (down[:, 1] > np.abs(down[:, 0])) & (np.abs(figures.chest[:, 0, 0]) > 0.3)
    np.testing.assert_array_equal(across[upright, 0] > 0, figures.chest[upright, 0, 0] > 0)


@pytest.mark.parametrize("name", ["wrist", "elbow", "knee", "ankle"])
def test_labels_lie_on_the_limb_that_they_name(probe, name):
    figures, canvases = probe
    for side, channel in (("left", 0), ("right", 2)):
        index = LSP14.index(f"{side}_{name}")
        points, seen = figures.joints[:, index, :2], figures.visibility[:, index] == 2
        own = is_ink(canvases, points, channel)
        assert own[seen].mean() > 0.9
        assert own[~seen].mean() < 0.5
        mirrored = figures.joints[:, LSP14.mirror[index], :2]
        assert is_ink(canvases, mirrored, channel)[seen].mean() < 0.2
        off = (points + 0.1 * SIZE_PX).clip(0, SIZE_PX - 1)
        assert is_ink(canvases, off, channel)[seen].mean() < 0.4


def test_every_label_lies_on_the_person(probe):
    figures, canvases = probe
    for name in LSP14.keypoints:
        points = joint(figures, name)[:, :2]
        if name == "head_top":  # it is on the outline: look a little below
            points = points + 0.1 * (joint(figures, "neck")[:, :2] - points)
        assert (colour_at(canvases, points).max(axis=1) > 50).mean() > 0.99


def test_left_is_warm_and_right_is_cool_in_the_pictures(source):
    warmth = {"left": [], "right": []}
    for index, annotation in enumerate(source.annotations):
        image = source.read_image(index)[0].astype(int)
        for side, values in warmth.items():
            ankle = LSP14.index(f"{side}_ankle")
            if annotation.visibility[ankle] == 2:
                x, y = np.rint(annotation.keypoints_px[ankle]).astype(int)
                values.append(image[y, x, 0] - image[y, x, 2])
    assert np.mean(np.array(warmth["left"]) > 0) > 0.9
    assert np.mean(np.array(warmth["right"]) < 0) > 0.9


def test_some_joints_of_every_kind_are_occluded(figures):
    share = np.mean(figures.visibility == 1, axis=0)
    assert 0.05 < share.mean() < 0.25
    assert (share > 0.02).all()
    assert 0.25 < np.mean(figures.radii[:, PARTS.index("occluder"), 0] > 0) < 0.35


def test_what_an_occluder_covers_is_labelled_occluded(probe):
    figures, canvases = probe
    found = 0
    for index in range(14):
        white = colour_at(canvases, figures.joints[:, index, :2]).min(axis=1) > 100
        found += white.sum()
        assert np.mean(figures.visibility[white, index] == 1) > 0.6  # the rest is at its rim
    assert found > 50


def test_the_smallest_allowed_picture_can_be_drawn():
    image, _ = SyntheticSource(num_images=1, image_size_px=32).read_image(0)
    assert image.shape == (32, 32, 3)
    assert image.std() > 5
