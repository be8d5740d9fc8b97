"""Galleries show samples with their truth where it belongs."""

import numpy as np
import pytest
import torch

from convpose.data.crop import Crop
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.inspect import gallery, in_crop_px, tile
from convpose.data.synthetic import SyntheticSource
from convpose.plot.skeletons import COLOURED, WHITE
from convpose.skeleton import LSP14

GREY = 90
WRIST, KNEE = LSP14.index("left_wrist"), LSP14.index("right_knee")


def sample(size_px=64, **labelled):
    """A grey crop with the keypoints given by name, in unit coordinates."""
    keypoints, visibility = torch.full((14, 2), torch.nan), torch.zeros(14, dtype=torch.int64)
    for name, point in labelled.items():
        keypoints[LSP14.index(name)] = torch.tensor(point)
        visibility[LSP14.index(name)] = 2
    image = torch.full((3, size_px, size_px), GREY, dtype=torch.uint8)
    return {"image": image, "keypoints": keypoints, "visibility": visibility, "image_id": "im1"}


def centre_of(image, colour):
    """Centre (x, y) of the pixels of exactly one colour."""
    rows, columns = np.nonzero((image == colour).all(axis=-1))
    return np.array([columns.mean(), rows.mean()])


@pytest.fixture(scope="module")
def dataset():
    source = SyntheticSource(num_images=5, image_size_px=64)
    return PoseLandmarksDataset(source, [4, 2, 0], Crop("box"), 48, LSP14)


def test_units_become_pixels_of_the_crop():
    crop = np.zeros((20, 40, 3), np.uint8)
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.525], [torch.nan, torch.nan]])
    expected = [[-0.5, -0.5], [39.5, 19.5], [19.5, 10.0], [np.nan, np.nan]]
    assert in_crop_px(points, crop) == pytest.approx(np.array(expected), nan_ok=True, abs=1e-5)


@pytest.mark.parametrize(("size_px", "side_px"), [(64, 256), (100, 256), (300, 256)])
def test_a_joint_is_drawn_where_its_label_is(size_px, side_px):
    image = tile(sample(size_px, left_wrist=(0.25, 0.75)), LSP14, side_px=side_px)
    side = max(size_px, side_px)
    assert image.shape == (side, side, 3)
    expected = np.array([0.25, 0.75]) * side - 0.5
    assert centre_of(image, COLOURED.left) == pytest.approx(expected, abs=0.3)


def test_a_prediction_is_coloured_and_the_truth_white():
    predicted = torch.full((14, 2), torch.nan)
    predicted[KNEE] = torch.tensor([0.2, 0.3])
    image = tile(sample(right_knee=(0.7, 0.6)), LSP14, predicted)
    assert centre_of(image, COLOURED.right) == pytest.approx(np.array([50.7, 76.3]), abs=1)
    assert centre_of(image, WHITE) == pytest.approx(np.array([178.7, 153.1]), abs=1)


def test_an_unlabelled_pose_leaves_the_crop_as_it_is():
    assert (tile(sample(), LSP14) == GREY).all()


def test_the_sample_is_not_drawn_on():
    some = sample(left_wrist=(0.5, 0.5))
    tile(some, LSP14, torch.full((14, 2), 0.5))
    assert (some["image"] == GREY).all()


def test_a_gallery_has_a_tile_for_each_position(dataset):
    two, three = (gallery(dataset, range(n), LSP14, columns=2) for n in (2, 3))
    assert two.dtype == np.uint8
    assert two.shape[1] == three.shape[1] > 2 * 256
    assert 1.8 < three.shape[0] / two.shape[0] < 2.0  # a second row
    one = tile(dataset[0], LSP14)
    gap = 256 // 32
    assert np.array_equal(two[gap : gap + 256, gap : gap + 256], one)


def test_predictions_and_notes_follow_their_positions(dataset):
    predicted = [torch.full((14, 2), 0.2), torch.full((14, 2), 0.8)]
    plain = gallery(dataset, [2, 0], LSP14, predicted)
    noted = gallery(dataset, [2, 0], LSP14, predicted, ["best", "worst"])
    gap = 256 // 32
    second = np.s_[gap : gap + 256, 2 * gap + 256 : 2 * gap + 512]
    assert np.array_equal(plain[second], tile(dataset[0], LSP14, predicted[1]))
    assert np.array_equal(plain[second], noted[second])
    assert not np.array_equal(plain, noted)  # the captions


def test_a_prediction_or_note_too_few_is_a_defect(dataset):
    with pytest.raises(ValueError, match="zip"):
        gallery(dataset, [0, 1], LSP14, [torch.zeros(14, 2)])
    with pytest.raises(ValueError, match="zip"):
        gallery(dataset, [0, 1], LSP14, notes=["one"])
