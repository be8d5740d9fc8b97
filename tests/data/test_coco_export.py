"""The export is COCO's format, and our reader gets the same annotations back."""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_lsp import fake_files, write_zip
from fake_source import annotation
from hypothesis import given
from hypothesis import strategies as st

from convpose.data.annotation import Annotation
from convpose.data.coco import CocoSource, coco, write_coco
from convpose.data.crop import Crop
from convpose.data.flic import FlicSource
from convpose.data.lsp import LspSource
from convpose.data.mpii import MpiiJsonSource, MpiiSource
from convpose.data.reading.archive import Archive
from convpose.skeleton import COCO17, LSP14, bundled

PEOPLE = {
    "coco": ("coco", CocoSource),
    "mpii": ("mpii", MpiiSource),
    "mpii_json": ("mpii", MpiiJsonSource),
    "flic": ("FLIC", FlicSource),
}


def open_fake(name: str, fakes: Path, folder: Path, skeleton: str = "lsp14"):
    """Open a fake; return the source and the path of its archive."""
    if name in ("lsp", "lspet"):
        path = write_zip(folder / f"{name}_dataset.zip", fake_files(name))
        return LspSource(name, path, folder), path
    stem, reader = PEOPLE[name]
    return reader(str(fakes / stem), skeleton=skeleton), fakes / stem


def assert_same_people(read, written):
    for a, b in zip(read, written, strict=True):
        assert (a.image_id, a.dataset, a.file) == (b.image_id, b.dataset, b.file)
        assert (a.width_px, a.height_px) == (b.width_px, b.height_px)
        np.testing.assert_array_equal(a.keypoints_px, b.keypoints_px)
        np.testing.assert_array_equal(a.visibility, b.visibility)
        crop = Crop("box")
        np.testing.assert_allclose(crop.unit_to_px(a), crop.unit_to_px(b), rtol=1e-12)


@pytest.mark.parametrize("name", ["lsp", "lspet", *PEOPLE])
def test_the_round_trip_gives_the_same_annotations(fakes, tmp_path, name):
    source, path = open_fake(name, fakes, tmp_path)
    dataset = source.annotations[0].dataset
    write_coco(source.annotations, LSP14, tmp_path / "out" / "all.json")
    back = CocoSource(
        str(tmp_path / "out" / "all.json"), "", images=str(path), min_joints=1, name=dataset
    )
    assert_same_people(back.annotations, source.annotations)
    np.testing.assert_array_equal(back.read_image(1)[0], source.read_image(1)[0])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["all.json"]


@pytest.mark.parametrize("skeleton", sorted({*bundled()} - {"hand21"}))
def test_the_round_trip_keeps_every_skeleton(fakes, tmp_path, skeleton):
    source, path = open_fake("coco", fakes, tmp_path, skeleton)
    write_coco(source.annotations, bundled()[skeleton], tmp_path / "all.json")
    back = CocoSource(str(tmp_path / "all.json"), "", images=str(path), skeleton=skeleton)
    assert_same_people(back.annotations, source.annotations)


coordinates = st.floats(-50, 2000, width=32)


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(coordinates, coordinates), min_size=14, max_size=14),
            st.lists(st.integers(0, 2), min_size=14, max_size=14).filter(any),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_coordinates_come_back_to_the_bit(tmp_path_factory, people):
    folder = tmp_path_factory.mktemp("people")
    written = [
        Annotation(a.image_id, "lspet", 100, 80, a.keypoints_px, a.visibility, file="im.jpg")
        for i, (points, visibility) in enumerate(people)
        for a in [annotation(points, visibility, image_id=f"im{i:05d}")]
    ]
    write_coco(written, LSP14, folder / "all.json")
    images = write_zip(folder / "images.zip", {"im.jpg": b"", "b": b""})
    back = CocoSource(
        str(folder / "all.json"), "", images=str(images), min_joints=1, name="lspet"
    ).annotations
    for a, b in zip(back, written, strict=True):
        assert a.image_id == b.image_id
        assert a.keypoints_px.tobytes() == b.keypoints_px.tobytes()
        assert a.visibility.tobytes() == b.visibility.tobytes()


def test_it_is_the_format_of_coco(fakes, tmp_path):
    source, path = open_fake("coco", fakes, tmp_path, "coco17")
    written = coco(source.annotations, COCO17)
    original = [
        json.loads(Archive(path).read(f"annotations/person_keypoints_{part}.json"))
        for part in ("train2017", "val2017")
    ]
    by_id = {
        f"{entry['image_id']:012d}_{entry['id']}": entry
        for content in original
        for entry in content["annotations"]
    }
    for entry in written["annotations"]:
        before = by_id[entry["convpose_id"]]
        assert entry["keypoints"] == before["keypoints"]
        assert entry["num_keypoints"] == before["num_keypoints"]
        assert entry["bbox"] == before["bbox"]
        assert entry["area"] == entry["bbox"][2] * entry["bbox"][3]
        assert (entry["category_id"], entry["iscrowd"]) == (1, 0)
    (category,) = written["categories"]
    assert category["keypoints"] == original[0]["categories"][0]["keypoints"]
    assert [16, 14] in category["skeleton"]  # left ankle and knee, counted from 1
    images = {image["id"]: image for image in written["images"]}
    assert len(images) == len(written["images"]) == 30
    assert {entry["image_id"] for entry in written["annotations"]} == set(images)
    assert [entry["id"] for entry in written["annotations"]] == [*range(1, 46)]
    json.dumps(written, allow_nan=False)


def test_unlabelled_joints_are_zeros_and_the_box_is_that_of_the_others():
    (entry,) = coco([annotation([(3, 4)] * 13 + [(10, 12)], [0] * 12 + [1, 2])], LSP14)[
        "annotations"
    ]
    assert entry["keypoints"] == [0] * 36 + [3, 4, 1, 10, 12, 2]
    assert entry["bbox"] == [3.5, 4.5, 7, 8]
    assert entry["num_keypoints"] == 2
    (nobody,) = coco([annotation([(3, 4)] * 14, [0] * 14)], LSP14)["annotations"]
    assert nobody["num_keypoints"] == nobody["area"] == 0


def test_people_without_a_file_get_a_name():
    written = coco([annotation([(3, 4)] * 14, image_id=f"x{i}") for i in range(2)], LSP14)
    assert [image["file_name"] for image in written["images"]] == ["x0.png", "x1.png"]


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "people.json").mkdir()
    with pytest.raises(OSError, match="people"):
        write_coco([], LSP14, tmp_path / "people.json")
    assert [path.name for path in tmp_path.iterdir()] == ["people.json"]
