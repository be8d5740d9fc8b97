"""COCO's keypoints: what is read, mapped, left out and refused."""

import json
import re
from collections import Counter

import cv2
import numpy as np
import pytest
from fake_coco import CATEGORY, coco_part, content, fake_coco, image_entry, person_entry
from fake_lsp import write_folder, write_zip
from fake_people import HEIGHT_PX, WIDTH_PX, photo, turned

from convpose.data.coco import CocoSource
from convpose.errors import DataError
from convpose.skeleton import COCO17, LSP14

VAL = "annotations/person_keypoints_val2017.json"
TRAIN = "annotations/person_keypoints_train2017.json"


@pytest.fixture(scope="module")
def files():
    return fake_coco()


@pytest.fixture
def one(tmp_path):
    """Writes a file about one photograph and reads it back."""

    def read(annotations, category=CATEGORY, name="people.json", **keys):
        listed = content([image_entry(7)], annotations) | {"categories": [category]}
        (tmp_path / "000000000007.jpg").write_bytes(photo(np.random.default_rng(0)))
        (tmp_path / name).write_text(json.dumps(listed))
        return CocoSource(str(tmp_path / name), "", **keys)

    return read


def everybody(seed=0):
    points = np.random.default_rng(seed).integers(5, 40, (17, 2))
    return person_entry(1, 7, points, [2] * 17), points


# --- what is read ---


@pytest.mark.parametrize("skeleton", [COCO17, LSP14], ids=lambda s: s.name)
def test_joints_come_by_name_and_as_they_are(tmp_path, files, skeleton):
    source = CocoSource(str(write_zip(tmp_path / "coco.zip", files)), "", skeleton=skeleton.name)
    entries = {}
    for part in ("train2017", "val2017"):
        for entry in json.loads(files[f"annotations/person_keypoints_{part}.json"])["annotations"]:
            entries[f"{entry['image_id']:012d}_{entry['id']}"] = entry
    assert len(source.annotations) > 40
    for annotation in source.annotations:
        entry = entries[annotation.image_id]
        assert annotation.dataset == "coco"
        assert (annotation.width_px, annotation.height_px) == (WIDTH_PX, HEIGHT_PX)
        for k, name in enumerate(skeleton.keypoints):
            there = name in CATEGORY["keypoints"]
            i = CATEGORY["keypoints"].index(name) if there else 0
            x, y, v = entry["keypoints"][3 * i : 3 * i + 3] if there else (0, 0, 0)
            assert annotation.visibility[k] == v
            expected = [x, y] if v else [np.nan, np.nan]
            np.testing.assert_array_equal(annotation.keypoints_px[k], expected)


def test_a_box_is_measured_from_the_corner_of_the_first_pixel(one):
    entry, _ = everybody()
    entry["bbox"] = [0, 0, WIDTH_PX, HEIGHT_PX]
    (annotation,) = one([entry]).annotations
    assert annotation.box_px.tolist() == [-0.5, -0.5, WIDTH_PX - 0.5, HEIGHT_PX - 0.5]
    for nothing in ([0, 0, 0, 0], None):
        entry["bbox"] = nothing
        (annotation,) = one([entry]).annotations  # the box of its joints, eyes and ears included
        points = np.array(entry["keypoints"]).reshape(17, 3)[:, :2]
        assert annotation.box_px.tolist() == [*points.min(0), *points.max(0)]


def test_people_of_one_photograph_have_ids_of_their_own(tmp_path, files):
    source = CocoSource(str(write_folder(tmp_path / "coco", files)), "")
    ids = [a.image_id for a in source.annotations]
    assert len(set(ids)) == len(ids)
    assert ids[:2] == ["000000000001_1001", "000000000001_1002"]
    shared = Counter(a.file for a in source.annotations)
    assert shared["train2017/000000000001.jpg"] == 2
    for i in (0, 1):
        expected = cv2.imdecode(
            np.frombuffer(files["train2017/000000000001.jpg"], np.uint8), cv2.IMREAD_COLOR_RGB
        )
        np.testing.assert_array_equal(source.read_image(i)[0], expected)


def test_crowds_and_people_with_few_joints_are_left_out_and_counted(one):
    whole, points = everybody()
    crowd = person_entry(2, 7, points, [2] * 17, iscrowd=1)
    ignored = person_entry(3, 7, points, [2] * 17, ignore=1)
    nobody = person_entry(4, 7, points, [0] * 17)
    face = person_entry(5, 7, points, [2] * 5 + [0] * 12)  # five joints, none of LSP's
    three = person_entry(6, 7, points, [0] * 14 + [1] * 3)
    four = person_entry(7, 7, points, [0] * 13 + [1] * 4)
    source = one([whole, crowd, ignored, nobody, face, three, four])
    assert [a.image_id for a in source.annotations] == ["000000000007_1", "000000000007_7"]
    assert source.notes == [
        "coco: 2 people left out who are a crowd or to be ignored",
        "coco: 1 people left out without any labelled joint",
        "coco: 2 people left out with fewer than 4 labelled joints of lsp14",
        "coco: no counterpart, so masked: neck, head_top",
        "coco: not in lsp14, so not used: nose, left_eye, right_eye, left_ear, right_ear",
    ]
    assert len(one([whole, face, three, four], min_joints=1).annotations) == 3
    assert len(one([whole, face, three, four], skeleton="coco17").annotations) == 3


def test_parts_are_those_of_the_names(tmp_path, files):
    source = CocoSource(str(write_zip(tmp_path / "coco.zip", files)), "")
    for annotation in source.annotations:
        assert annotation.subset == annotation.file.partition("2017")[0]


def test_any_names_in_any_order_are_mapped(one):
    names = ["left_knee", "head_top", "right_hip", "neck", "left_toe"]
    keypoints = [1, 2, 2, 3, 4, 1, 5, 6, 2, 7, 8, 2, 9, 9, 2]
    category = CATEGORY | {"keypoints": names, "skeleton": []}
    entry = everybody()[0] | {"keypoints": keypoints, "bbox": None}
    (annotation,) = one([entry], category).annotations
    found = {
        name: (*annotation.keypoints_px[k].tolist(), int(annotation.visibility[k]))
        for k, name in enumerate(LSP14.keypoints)
        if annotation.visibility[k]
    }
    assert found == {
        "left_knee": (1, 2, 2),
        "head_top": (3, 4, 1),
        "right_hip": (5, 6, 2),
        "neck": (7, 8, 2),
    }


def test_other_categories_are_passed_over(one):
    whole, points = everybody()
    dog = person_entry(2, 7, points, [2] * 17, category_id=18)
    assert len(one([whole, dog]).annotations) == 1


# --- where it is looked for ---


def test_a_file_alone_finds_the_photographs_around_it(tmp_path, files):
    folder = write_folder(tmp_path / "coco", files)
    source = CocoSource(str(folder / VAL), "")
    assert {a.subset for a in source.annotations} == {"val"}
    assert source.read_image(0)[0].shape == (HEIGHT_PX, WIDTH_PX, 3)


def test_photographs_may_lie_elsewhere(tmp_path, files):
    (tmp_path / "val.json").write_bytes(files[VAL])
    images = {n.rpartition("/")[2]: c for n, c in files.items() if n.startswith("val2017/")}
    zipped = write_zip(tmp_path / "val2017.zip", images)
    source = CocoSource(str(tmp_path / "val.json"), "", images=str(zipped))
    assert source.annotations[0].file == "000000000900.jpg"


def test_a_photograph_turned_by_exif_is_read_as_its_annotation_has_it(one, tmp_path):
    source = one([everybody()[0]])
    stored = photo(np.random.default_rng(0), HEIGHT_PX, WIDTH_PX)
    (tmp_path / "000000000007.jpg").write_bytes(turned(stored))
    pixels = cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(source.read_image(0)[0], np.rot90(pixels, -1))
    (tmp_path / "000000000007.jpg").write_bytes(photo(np.random.default_rng(0), 30, 20))
    with pytest.raises(DataError, match=r"0007\.jpg has 30×20 pixels, its annotation says 64×48; "):
        source.read_image(0)


SIZES = [{}, {"width": None, "height": None}, {"width": 0, "height": 0}]
SIZES += [{"width": "64", "height": "48"}, {"width": 64.0, "height": 48.0}, {"width": "?"}]


@pytest.mark.parametrize("size", SIZES)
def test_a_size_that_is_missing_is_that_of_the_photograph(tmp_path, size):
    entry = {k: v for k, v in image_entry(7).items() if k not in ("width", "height")} | size
    (tmp_path / "000000000007.jpg").write_bytes(photo(np.random.default_rng(0)))
    (tmp_path / "people.json").write_text(json.dumps(content([entry], [everybody()[0]])))
    (annotation,) = CocoSource(str(tmp_path / "people.json")).annotations
    assert (annotation.width_px, annotation.height_px) == (WIDTH_PX, HEIGHT_PX)


@pytest.mark.parametrize(
    ("changes", "image_id"),
    [
        ({"image_id": "7"}, "000000000007_1"),
        ({"image_id": 7.0, "category_id": "1"}, "000000000007_1"),
        ({"category_id": 1.0, "iscrowd": "0", "ignore": None}, "000000000007_1"),
        ({"id": "x"}, "000000000007_x"),
        ({"id": None, "bbox": None}, "000000000007_0"),
        ({"bbox": [None] * 4}, "000000000007_1"),
        ({"iscrowd": None}, "000000000007_1"),
    ],
)
def test_ids_are_compared_as_text_and_null_is_missing(one, changes, image_id):
    (annotation,) = one([everybody()[0] | changes]).annotations
    assert annotation.image_id == image_id
    assert annotation.labelled.sum() == 12


def test_keypoints_may_be_text_in_triples_or_null(one):
    person, points = everybody()
    triples = [[str(x), float(y), 2] for x, y in points.tolist()]
    triples[9], triples[10] = [None, None, 0], [1, 2, None]  # the wrists
    (annotation,) = one([person | {"keypoints": triples}]).annotations
    assert annotation.labelled.sum() == 10
    hip = annotation.keypoints_px[LSP14.index("left_hip")]
    np.testing.assert_array_equal(hip, points[COCO17.index("left_hip")])


def test_annotations_of_another_category_are_counted(one):
    car = everybody()[0] | {"id": 2, "category_id": 3, "keypoints": []}
    assert "coco: 1 people left out of another category than person" in (
        one([everybody()[0], car]).notes
    )


# --- what is wrong with it ---


def broken(**changes):
    return {**coco_part(2), **changes}


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        (b"{", r"not a JSON file \(Expecting property name"),
        (b"\x80", r"not a JSON file \(.*decode"),
        ([], "expected an object with lists of images, annotations and categories, found a list"),
        ({"images": []}, r"but annotations is not there \(it has images\)"),
        (broken(categories=[]), "expected a category with keypoints, found none in 0; instances_"),
        (broken(annotations=["x"]), r"annotations\[0\] is not as expected \(AttributeError"),
        (
            broken(images=[{}]),
            r"images\[0\] is not as expected \(KeyError: 'id'\): images with id, file",
        ),
        (broken(images=[]), r"annotations\[0\] is not .* no photograph has the id 1\)"),
        (broken(images=[{"id": 1}]), r"images\[0\] is not as expected \(KeyError: 'file_name'\)"),
        (
            broken(images=[image_entry(1), image_entry(2) | {"id": "1"}]),
            r"images\[1\] is not .* another photograph has the id 1\)",
        ),
    ],
)
def test_another_structure_is_refused(tmp_path, listed, problem):
    path = tmp_path / "people.json"
    path.write_bytes(listed if isinstance(listed, bytes) else json.dumps(listed).encode())
    with pytest.raises(DataError, match=problem) as caught:
        CocoSource(str(path), "")
    assert str(path) in str(caught.value)
    assert "name a COCO keypoints file such as person_keypoints_val2017.json" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"keypoints": [1, 2, 2] * 16}, r"annotation 1 has 48 numbers in keypoints, .* 17 j.*, 51"),
        ({"keypoints": [1, 2, 7] * 17}, r"annotations\[0\] is not .* a v that is none of 0, 1 and"),
        ({"keypoints": [[1, 2, 2]] * 51}, r"annotation 1 has 153 numbers in keypoints, .* 51"),
        ({"keypoints": ["x", 2, 2] * 17}, r"annotations\[0\] is not as expected \(ValueError"),
        ({"bbox": [1, 2]}, r"annotations\[0\] is not as expected \(ValueError: not enough values"),
    ],
)
def test_a_person_of_another_form_is_named(one, change, problem):
    with pytest.raises(DataError, match=problem):
        one([everybody()[0] | change])


def test_missing_photographs_are_counted_and_named(tmp_path, files, caplog):
    some = {n: c for n, c in files.items() if not n.startswith("train2017/")}
    path = write_zip(tmp_path / "coco.zip", some)
    message = (
        r"coco\.zip: the photographs of 36 of 45 people of coco are missing or not unique, "
        r"the first is 000000000001\.jpg; .* with data\.sources\.coco\.images="
    )
    with pytest.raises(DataError, match=message):
        CocoSource(str(path), "", missing="refuse")
    assert len(CocoSource(str(path), "").annotations) == 9
    assert re.search(f"{message}; the others are read, data.missing=refuse stops", caplog.text)
    with pytest.raises(DataError, match="photographs of 45 of 45 people"):
        CocoSource(str(write_zip(tmp_path / "none.zip", {VAL: files[VAL], TRAIN: files[TRAIN]})))


def test_coco_is_read_as_it_is_published(tmp_path, files, caplog):
    """Three zips in a folder, with members that are too large to be opened, and one that is cut."""
    folder = tmp_path / "coco"
    folder.mkdir()
    for stem, top in (("annotations_trainval2017", "annotations"), ("train2017", "train2017")):
        write_zip(folder / f"{stem}.zip", {n: c for n, c in files.items() if n.startswith(top)})
    val = {n: c for n, c in files.items() if n.startswith("val2017/")}
    write_zip(folder / "val2017.zip", val | {"val2017/instances.json": bytes(70 * 2**20)})
    (folder / "test2017.zip").write_bytes((folder / "val2017.zip").read_bytes()[:2000])
    source = CocoSource(str(folder), skeleton="coco17")
    assert len(source.annotations) == 45
    assert {a.subset for a in source.annotations} == {"train", "val"}
    assert source.read_image(0)[0].shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert "test2017.zip is a truncated zip" in caplog.text
    write_folder(folder / "val2017", val)  # unpacked, too: the zip beside it is passed over
    write_folder(folder, {n: c for n, c in files.items() if n.startswith("annotations/")})
    assert len(CocoSource(str(folder), skeleton="coco17").annotations) == 45


def test_a_zip_without_annotations_lists_what_it_has(tmp_path, files):
    some = {n: c for n, c in files.items() if "person_keypoints" not in n}
    with pytest.raises(DataError) as caught:
        CocoSource(str(write_zip(tmp_path / "coco.zip", some)), "")
    assert (
        "coco.zip: no person_keypoints_*2017.json in it (.json files there: "
        "annotations/captions_val2017.json, annotations/instances_val2017.json)"
    ) in str(caught.value)
    assert "data.sources.coco.annotations=[NAME]" in str(caught.value)
    with pytest.raises(DataError, match=r"data\.source=.*gone\.json: no such file"):
        CocoSource(str(tmp_path / "gone.json"), "")


def test_files_with_different_joints_are_refused(tmp_path, files):
    other = json.loads(files[VAL])
    other["categories"][0]["keypoints"][0] = "chin"
    path = write_zip(tmp_path / "coco.zip", files | {VAL: json.dumps(other).encode()})
    with pytest.raises(
        DataError, match=r"val2017\.json: its joints \(chin, .*are not those of the"
    ):
        CocoSource(str(path), "")


def test_nobody_left_is_said_with_the_reasons(one):
    crowd = everybody()[0] | {"iscrowd": 1}
    with pytest.raises(DataError) as caught:
        one([crowd, everybody()[0] | {"keypoints": [1, 1, 2] * 3 + [0] * 42}])
    message = str(caught.value)
    assert "no people left of coco for lsp14 (1 who are a crowd or to be ignored, 1 with" in message
    assert "its joints are nose, left_eye" in message
    assert "data.sources.coco.min_joints=" in message


def test_the_same_id_twice_is_refused(one):
    with pytest.raises(DataError, match=r"coco: 1 ids occur more than once, the first is 0.*7_1; "):
        one([everybody()[0], everybody(1)[0]])
