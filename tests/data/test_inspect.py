"""The description of a data set is right, and the contact sheet draws labels where they belong."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from convpose.data.annotation import Annotation, JoinedSource
from convpose.data.crop import Crop
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.inspect import PixelRange, gallery, in_crop_px, inspect_source, render, tile
from convpose.data.synthetic import SyntheticSource
from convpose.errors import DataError
from convpose.geometry import identity
from convpose.plot.skeletons import COLOURED, WHITE
from convpose.skeleton import LSP14

NAN = np.nan


class FourPeople:
    """Hand-made people: whole, occluded and outside, short torso, no torso; the third is broken."""

    def __init__(self):
        whole = np.stack([np.linspace(10, 40, 14), np.linspace(20, 80, 14)], axis=1)
        outside = whole.copy()
        outside[0], outside[1], outside[2] = (-0.6, 20), (99.4, 20), (99.6, 20)
        short = whole.copy()
        short[LSP14.index("left_shoulder")] = short[LSP14.index("right_hip")] + (3, 4)
        short[LSP14.index("left_shoulder"), 1] -= 0.1
        missing = whole.copy()
        gone = [LSP14.index(name) for name in ("right_hip", "left_hip", "neck")]
        missing[gone] = NAN
        self.annotations = [
            self.person("im0001", whole),
            self.person("im0002", outside, occluded=[5, 6], size_px=(100, 200)),
            self.person("im0003", short),
            self.person("im0003", missing, size_px=(300, 90)),
        ]

    def person(self, image_id, points_px, occluded=(), size_px=(100, 100)):
        visibility = np.where(np.isnan(points_px[:, 0]), 0, 2).astype(np.uint8)
        visibility[list(occluded)] = 1
        return Annotation(image_id, "lsp", *size_px, points_px.astype(np.float32), visibility)

    def read_image(self, index):
        if index == 2:
            raise DataError("archive.zip: im0003.jpg is damaged")
        return np.zeros((1, 1, 3), np.uint8), identity()


def test_counts_and_sizes_are_those_of_hand():
    found = inspect_source(FourPeople(), LSP14)
    assert found.images == {"lsp": 4}
    assert found.complete == 3
    assert found.fewest == 11
    assert found.missing.sum() == 3
    assert found.missing[LSP14.index("neck")] == 1
    assert found.occluded.tolist() == [0] * 5 + [1, 1] + [0] * 7
    assert (found.visible + found.occluded + found.missing).tolist() == [4] * 14
    assert found.width_px == PixelRange(100, 100, 300)
    assert found.height_px == PixelRange(90, 100, 200)
    assert found.box_px.smallest == 60
    assert found.box_px.largest == pytest.approx(100.2)
    assert found.torso_px.smallest == pytest.approx(np.hypot(3, 3.9), abs=1e-4)
    assert found.without_torso == 1
    assert found.undecodable is None  # images are decoded only if asked
    text = rendered(found)
    assert "3 (75.0%)" in text
    assert "100 / 100 / 300" in text
    assert "not looked at" in text
    assert all(name in text for name in LSP14.keypoints)


def test_people_of_one_photograph_are_counted_apart():
    people = FourPeople()
    people.annotations = [replace(a, file="a.jpg") for a in people.annotations[:3]]
    people.annotations.append(replace(people.annotations[0], file="b.jpg", image_id="im9"))
    found = inspect_source(people, LSP14)
    assert (found.people, found.images) == ({"lsp": 4}, {"lsp": 2})
    text = rendered(found)
    assert "images of lsp " in text
    assert "people of lsp " in text
    assert "people of lsp" not in rendered(inspect_source(FourPeople(), LSP14))


def test_what_readers_note_is_said_of_joined_ones_too():
    one, two = FourPeople(), FourPeople()
    one.notes, two.notes = ["one: masked"], ["two: left out"]
    assert inspect_source(one, LSP14).notes == ("one: masked",)
    both = inspect_source(JoinedSource([one, two]), LSP14)
    assert both.notes == ("one: masked", "two: left out")
    assert "one: masked\ntwo: left out\n" in rendered(both)


def rendered(found):
    console = Console(file=io.StringIO(), width=100)
    console.print(render(found))
    return re.sub(" +\n", "\n", console.file.getvalue())


def test_problems_are_found_and_named():
    found = inspect_source(FourPeople(), LSP14, decode=True)
    assert found.outside == ("im0002 right_ankle", "im0002 right_hip")
    assert found.degenerate == ("im0003",)
    assert found.repeated == ("im0003",)
    assert found.undecodable == ("im0003 (archive.zip: im0003.jpg is damaged)",)
    assert found.problems == [
        "images that cannot be decoded: 1 (im0003 (archive.zip: im0003.jpg is damaged))",
        "image ids that occur more than once: 1 (im0003)",
        "labelled keypoints outside their image: 2 (im0002 right_ankle, im0002 right_hip)",
        "torsos shorter than 5 px: 1 (im0003)",
    ]
    assert "3 of 4" in rendered(found)
    assert "\n".join(found.problems[-2:]) in rendered(found)


def test_a_source_without_labels_is_refused():
    people = FourPeople()
    people.annotations = [people.person("im0001", np.full((14, 2), NAN))]
    with pytest.raises(DataError, match=r"1 annotations and no labelled keypoint; choose another"):
        inspect_source(people, LSP14)


def test_a_torso_that_nobody_has_is_said():
    people = FourPeople()
    people.annotations = people.annotations[3:]
    found = inspect_source(people, LSP14)
    assert found.torso_px is None
    assert "none labelled" in rendered(found)
    assert found.problems == []
    assert "no problems" in rendered(found)


@pytest.mark.archive
def test_the_real_lspet_is_described(lspet):
    found = inspect_source(lspet, LSP14)
    assert found.images == {"lspet": 10000}
    assert found.complete == 3945
    assert found.fewest == 4
    assert found.without_torso == 1705
    assert found.width_px == PixelRange(51, 252, 1723)
    assert len(found.outside) == 5  # of the 8 outside 0 … W, 3 lie within half a pixel
    assert found.degenerate == ("im00620", "im02628")
    assert found.repeated == ()


@pytest.mark.archive
def test_every_real_lsp_image_decodes(lsp):
    assert inspect_source(lsp, LSP14, decode=True).undecodable == ()


# --- the contact sheet ---


GREY = 90
KNEE = LSP14.index("right_knee")


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


def test_a_prediction_is_coloured_and_the_ground_truth_white():
    predicted = torch.full((14, 2), torch.nan)
    predicted[KNEE] = torch.tensor([0.2, 0.3])
    some = sample(right_knee=(0.7, 0.6))
    image = tile(some, LSP14, predicted)
    assert (some["image"] == GREY).all()  # the sample itself is not drawn on
    assert centre_of(image, COLOURED.right) == pytest.approx(np.array([50.7, 76.3]), abs=1)
    assert centre_of(image, WHITE) == pytest.approx(np.array([178.7, 153.1]), abs=1)


def test_an_unlabelled_pose_leaves_the_crop_as_it_is():
    assert (tile(sample(), LSP14) == GREY).all()


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
