"""Labels that cannot be are refused, and those that are hardly meant are said, by every reader."""

import json

import numpy as np
import pytest
from fake_coco import content, image_entry, person_entry
from fake_lsp import fake_files, fake_joints, write_folder, write_zip
from fake_people import photo

from convpose.data.coco import CocoSource
from convpose.data.csv_source import CsvSource
from convpose.data.inspect import inspect_source
from convpose.data.lsp import LspSource
from convpose.data.mpii import MpiiJsonSource
from convpose.errors import DataError
from convpose.skeleton import COCO17, LSP14, MPII16

PEOPLE = 4
RNG = np.random.default_rng(5)
POINTS_PX = np.stack([RNG.permutation(35)[:32].reshape(16, 2) for _ in range(PEOPLE)]) + 5.0
JOINT = "right_ankle"  # the first of MPII's and of LSP's


def boxes_of(points_px):
    """(N, 4) edges of boxes around points."""
    return np.concatenate([points_px.min(axis=1) - 2, points_px.max(axis=1) + 2], axis=1)


def csv(folder, points_px, boxes_px):
    names = MPII16.keypoints
    head = ["image", *(f"{n}_{c}" for n in names for c in "xy"), "x0", "y0", "x1", "y1"]
    rows = [
        [f"{i}.jpg", *points.ravel().tolist(), *box.tolist()]
        for i, (points, box) in enumerate(zip(points_px, boxes_px, strict=True))
    ]
    lines = [",".join(map(str, row)) for row in [head, *rows]]
    (folder / "people.csv").write_text("\n".join(lines))
    return CsvSource(str(folder / "people.csv"))


def coco(folder, points_px, boxes_px):
    category = {"id": 1, "name": "person", "keypoints": list(MPII16.keypoints)}
    people = [
        person_entry(i, i, POINTS_PX[i], [2] * 16, bbox=box.tolist())
        | {"keypoints": [v for x, y in points.tolist() for v in (x, y, 2)]}
        for i, (points, box) in enumerate(zip(points_px, boxes_px, strict=True))
    ]
    images = [image_entry(i, f"{i}.jpg") for i in range(len(people))]
    listed = content(images, people) | {"categories": [category]}
    (folder / "people.json").write_text(json.dumps(listed))
    return CocoSource(str(folder / "people.json"))


def mpii(folder, points_px, _boxes_px):
    people = [
        {
            "image": f"{i}.jpg",
            "joints": points.tolist(),
            "joints_vis": [1] * 16,
            "center": [20.0, 20.0],
            "scale": 0.6,  # a square of 120 px in a photograph of 64: as MPII's are
        }
        for i, points in enumerate(points_px)
    ]
    (folder / "train.json").write_text(json.dumps(people))
    return MpiiJsonSource(str(folder / "train.json"))


READERS = {"csv": csv, "coco": coco, "mpii": mpii}


@pytest.fixture
def photos(tmp_path):
    return write_folder(tmp_path, {f"{i}.jpg": photo(RNG) for i in range(PEOPLE)})


def as_sizes(boxes):
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


@pytest.mark.parametrize("reader", READERS)
def test_sound_labels_raise_no_doubt(photos, reader):
    boxes = boxes_of(POINTS_PX)
    source = READERS[reader](photos, POINTS_PX, as_sizes(boxes) if reader == "coco" else boxes)
    assert source.doubts == []
    assert inspect_source(source, LSP14).problems == []


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("point", "count", "said"),
    [
        ((0, 0), PEOPLE, "right_ankle lies at ({0}, {0}) in 4 of 4 annotations"),
        ((0, 0), 1, "right_ankle lies at ({0}, {0}) in 1 of 4 annotations"),
        ((32, 24), PEOPLE, "right_ankle lies at ({32}, {24}) in 4 of 4 annotations"),
    ],
)
def test_placeholders_are_said(photos, reader, point, count, said):
    points_px = POINTS_PX.copy()
    points_px[:count, 0] = point
    boxes = boxes_of(POINTS_PX)
    source = READERS[reader](photos, points_px, as_sizes(boxes) if reader == "coco" else boxes)
    origin = 1 if reader == "mpii" else 0
    for number in (0, 32, 24):
        said = said.replace(f"{{{number}}}", str(number - origin))
    (found,) = source.doubts
    assert found in inspect_source(source, LSP14).problems
    assert found == f"{reader}: labelled keypoints at a placeholder: 1 ({said})"


def test_a_person_on_one_point_is_said(photos):
    points_px = POINTS_PX.copy()
    points_px[2] = 11, 12
    (found,) = csv(photos, points_px, boxes_of(points_px)).doubts
    assert found == "csv: people whose keypoints lie on top of each other: 1 (2_1)"


@pytest.mark.parametrize(
    ("reader", "form", "said"),
    [
        ("coco", lambda boxes: boxes + 20, "coco: boxes that reach beyond their photograph (are"),
        ("csv", as_sizes, "csv: boxes that end before they begin (x, y, width, height in place"),
        ("csv", lambda boxes: np.add(boxes, 30), "csv: boxes that reach beyond their photo"),
        (
            "csv",
            lambda boxes: boxes * 0 + np.array([1, 1, 4, 4]),
            "csv: boxes that hold less than half of t",
        ),
    ],
)
def test_boxes_in_another_form_are_said(photos, reader, form, said):
    boxes = boxes_of(POINTS_PX * 0.5 + 22)  # right and low: width < left
    source = READERS[reader](photos, POINTS_PX * 0.5 + 22, form(boxes))
    assert source.doubts[0].startswith(said)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("value", [1e39, -1e30, 2e6, np.inf])
def test_points_where_no_photograph_is_are_refused(photos, reader, value):
    points_px = POINTS_PX.copy()
    points_px[1, 0, 1] = value
    boxes = boxes_of(POINTS_PX)
    with pytest.raises(DataError, match=rf"{JOINT} of 1_1 lies at \(.*, where no photograph is"):
        READERS[reader](photos, points_px, boxes)


@pytest.mark.parametrize("reader", ["csv", "coco"])
def test_boxes_where_no_photograph_is_are_refused(photos, reader):
    boxes = boxes_of(POINTS_PX)
    boxes[3, 2] = 1e39
    with pytest.raises(DataError, match=r"the box of 3_[13] lies at \(1e\+39, "):
        READERS[reader](photos, POINTS_PX, boxes)


def test_unlabelled_garbage_may_be_anywhere(photos):
    points_px = np.concatenate([POINTS_PX, POINTS_PX[:, :1]], axis=1)
    points_px[0, 16] = 1e39
    rows = np.column_stack([points_px[0], [2] * 16 + [0]])
    flat = rows.ravel().tolist()
    person = person_entry(0, 0, POINTS_PX[0], [2] * 16) | {"keypoints": flat}
    category = {"id": 1, "keypoints": list(COCO17.keypoints)}
    listed = content([image_entry(0, "0.jpg")], [person]) | {"categories": [category]}
    (photos / "people.json").write_text(json.dumps(listed))
    assert not CocoSource(str(photos / "people.json")).annotations[0].labelled[0]


@pytest.mark.parametrize("name", ["lsp", "lspet"])
def test_the_joints_of_lsp_are_looked_at(tmp_path, name):
    joints = fake_joints(name)
    joints[0, :, 0] = 1e39, 5, name == "lspet"
    files = fake_files(name, joints.transpose(1, 0, 2) if name == "lsp" else joints)
    with pytest.raises(DataError, match=r"joints\.mat: right_ankle of im0*1 lies at \(1e\+39, "):
        LspSource(name, write_zip(tmp_path / f"{name}_dataset.zip", files), tmp_path)
