"""MPII: its .mat with all that is missing in it, and the JSON files of Simple Baselines."""

import json

import numpy as np
import pytest
from fake_lsp import write_folder, write_zip
from fake_mpii import fake_mpii_json, json_people, mpii_images, person, release
from fake_people import body_px, mat, photo

from convpose.data.crop import Crop
from convpose.data.mpii import MpiiJsonSource, MpiiSource
from convpose.errors import DataError
from convpose.skeleton import LSP14, MPII16

MAT = "mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat"
POINTS = body_px(MPII16.keypoints, np.random.default_rng(5))


def read(tmp_path, images, **keys):
    """The source of a .mat about these images."""
    files = {f"images/{name}": photo(np.random.default_rng(0)) for name, *_ in images}
    return MpiiSource(
        str(write_zip(tmp_path / "a.zip", files | {MAT: release(images)})), "", **keys
    )


# --- the .mat ---


def test_joints_are_those_of_the_ids_and_count_from_zero(tmp_path):
    source = read(tmp_path, [("1.jpg", [person(POINTS, occluded={1, 5})], True)], skeleton="mpii16")
    (annotation,) = source.annotations
    np.testing.assert_array_equal(annotation.keypoints_px, POINTS)  # the file has POINTS + 1
    assert annotation.visibility.tolist() == [2, 1, 2, 2, 2, 1] + [2] * 10


def test_the_diagonal_of_the_head_is_read_where_there_is_one(tmp_path):
    head = {"x1": 10, "y1": 20, "x2": 13, "y2": 24}
    nobody = {"x1": [], "y1": [], "x2": [], "y2": []}
    people = [person(POINTS, **head), person(POINTS, **nobody)]
    first, second = read(tmp_path, [("1.jpg", people, True)]).annotations
    assert (first.head_px, second.head_px) == (5.0, None)


def test_head_top_and_neck_have_no_flag_and_count_as_visible(tmp_path):
    (annotation,) = read(tmp_path, [("1.jpg", [person(POINTS)], True)]).annotations
    for own, theirs in (("neck", "upper_neck"), ("head_top", "head_top")):
        k = LSP14.index(own)
        assert annotation.visibility[k] == 2
        expected = POINTS[MPII16.index(theirs)]
        np.testing.assert_array_equal(annotation.keypoints_px[k], expected)


def test_thorax_is_no_neck_and_pelvis_no_hip(tmp_path):
    middle = {MPII16.index("upper_neck"), MPII16.index("head_top")}
    source = read(tmp_path, [("1.jpg", [person(POINTS, missing=middle)], True)])
    (annotation,) = source.annotations
    assert annotation.visibility[[LSP14.index("neck"), LSP14.index("head_top")]].tolist() == [0, 0]
    assert annotation.labelled.sum() == 12
    assert source.notes == [
        "mpii: upper_neck is the neck of lsp14",
        "mpii: not in lsp14, so not used: pelvis, thorax",
    ]


def test_who_has_no_joints_is_left_out_and_counted(tmp_path):
    images = mpii_images(3)
    source = read(tmp_path, images)
    assert [a.image_id for a in source.annotations] == [
        *("000000001_1", "000000001_2", "000000002_1", "000000003_1", "000000003_2"),
    ]
    assert source.notes[:2] == [
        "mpii: 2 people left out of test images, whose joints are not public",
        "mpii: 1 people left out without annopoints",
    ]
    assert {a.subset for a in source.annotations} == {"train"}


def test_the_number_is_the_index_in_annorect(tmp_path):
    """The second is the second, although nothing is known of the first."""
    nobody = {"scale": 1.0, "objpos": {"x": 1.0, "y": 1.0}}
    source = read(tmp_path, [("1.jpg", [nobody, person(POINTS)], True)])
    assert [a.image_id for a in source.annotations] == ["1_2"]


def test_one_person_in_one_image_is_read(tmp_path):
    """MATLAB writes one struct where others are arrays."""
    source = read(tmp_path, [("1.jpg", [person(POINTS, missing=set(range(12)))], True)])
    assert source.annotations[0].labelled.sum() == 4


def test_the_crop_is_that_of_simple_baselines(tmp_path):
    someone = person(POINTS) | {"scale": 0.5, "objpos": {"x": 31.0, "y": 21.0}}
    (annotation,) = read(tmp_path, [("1.jpg", [someone], True)]).annotations
    # centre (30, 20) from zero, moved down by 15 · 0.5; side 200 · 0.5 · 1.25
    affine = Crop("box", 1.25).unit_to_px(annotation)
    np.testing.assert_allclose(affine, [[125, 0, 30 - 62.5], [0, 125, 27.5 - 62.5]])


@pytest.mark.parametrize("gone", ["scale", "objpos"])
def test_without_centre_or_scale_the_box_is_that_of_the_joints(tmp_path, gone):
    someone = {k: v for k, v in person(POINTS).items() if k != gone}
    (annotation,) = read(tmp_path, [("1.jpg", [someone], True)]).annotations
    assert annotation.box_px.tolist() == [*POINTS.min(0), *POINTS.max(0)]


def test_a_few_photographs_may_be_missing(tmp_path):
    images = [(f"{i}.jpg", [person(POINTS)], True) for i in range(101)]
    files = {f"images/{name}": photo(np.random.default_rng(0)) for name, *_ in images}
    del files["images/7.jpg"]
    source = MpiiSource(str(write_zip(tmp_path / "a.zip", files | {MAT: release(images)})), "")
    assert len(source.annotations) == 100
    assert source.notes[0] == "mpii: 1 people left out whose photograph is missing"
    del files["images/8.jpg"]
    path = write_zip(tmp_path / "a.zip", files | {MAT: release(images)})
    message = r"photographs of 2 of 101 people of mpii are missing.*7\.j"
    with pytest.raises(DataError, match=message):
        MpiiSource(str(path), "", missing="refuse")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"no MATLAB file", "not a MATLAB file"),
        (mat(joints=np.zeros(3)), "expected the variable RELEASE, found joints"),
        (mat(RELEASE=np.zeros(3)), "expected RELEASE.annolist and RELEASE.img_train of the same"),
        (release([("1.jpg", None, True)], img_train=[[1, 0]]), "length, found 1 and 2"),
    ],
)
def test_another_mat_is_refused(tmp_path, content, problem):
    path = write_zip(tmp_path / "a.zip", {MAT: content, "images/1.jpg": b""})
    with pytest.raises(DataError, match=problem) as caught:
        MpiiSource(str(path), "")
    assert f"a.zip/{MAT}: " in str(caught.value)
    assert "use mpii_human_pose_v1_u12_1.mat of mpii_human_pose_v1_u12_2.zip" in str(caught.value)


def test_a_joint_that_does_not_exist_is_named(tmp_path):
    points = np.vstack([POINTS, POINTS[:1]])
    someone = person(points)
    someone["annopoints"]["point"]["id"][0, 3] = 16
    with pytest.raises(DataError, match=r"person 1 of image 1\.jpg has a point with id 16, expect"):
        read(tmp_path, [("1.jpg", [someone], True)])


# --- the JSON files ---


def test_the_json_is_read_with_its_two_subsets(tmp_path):
    files = fake_mpii_json()
    source = MpiiJsonSource(str(write_folder(tmp_path / "mpii", files)), "", skeleton="mpii16")
    entries = [
        e for subset in ("train", "valid") for e in json.loads(files[f"annot/{subset}.json"])
    ]
    assert len(source.annotations) == len(entries)
    for annotation, entry in zip(source.annotations, entries, strict=True):
        assert annotation.file == f"images/{entry['image']}"
        labelled = np.array(entry["joints_vis"]) == 1
        assert annotation.visibility.tolist() == np.where(labelled, 2, 0).tolist()
        expected = np.where(labelled[:, None], np.array(entry["joints"]) - 1, np.nan)
        np.testing.assert_array_equal(annotation.keypoints_px, expected)
    assert source.annotations[0].image_id == "000000001_1"
    assert source.annotations[1].image_id == "000000001_2"
    assert [a.subset for a in source.annotations].count("val") == 9


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["gt_valid.mat", "mpii_gt_val.mat"])
def test_head_boxes_lie_beside_the_json(packed, name, tmp_path):
    """``headboxes_src`` is (corner, x or y, person), as Simple Baselines' evaluation reads it."""
    files = fake_mpii_json(4, 2)
    count = len(json.loads(files["annot/valid.json"]))
    corners = np.zeros((2, 2, count))
    corners[:, 0, :], corners[:, 1, :] = [[10], [13]], [[20], [24]]  # 3 wide, 4 high
    corners[1, :, 1] *= 2  # from 10, 20 to 26, 48
    corners[1, :, 2] = corners[0, :, 2]  # nothing
    files[f"annot/{name}"] = mat(headboxes_src=corners, pos_gt_src=np.zeros((16, 2, count)))
    where = write_zip(tmp_path / "mpii.zip", files) if packed else write_folder(tmp_path, files)
    found = MpiiJsonSource(str(where), "").annotations
    heads = [a.head_px for a in found if a.subset == "val"]
    assert heads == pytest.approx([5, np.hypot(16, 28), None, *[5] * (count - 3)])
    assert {a.head_px for a in found if a.subset == "train"} == {None}


def test_head_boxes_of_other_people_are_refused(tmp_path):
    files = fake_mpii_json(4, 2) | {"annot/gt_valid.mat": mat(headboxes_src=np.zeros((2, 2, 7)))}
    folder = write_folder(tmp_path, files)
    message = (
        r"annot/gt_valid\.mat: headboxes_src is float64 \(2, 2, 7\), expected numbers \(2, 2, 3\)"
    )
    with pytest.raises(DataError, match=message):
        MpiiJsonSource(str(folder / "annot" / "valid.json"), "")


def test_no_head_boxes_are_said(tmp_path, caplog):
    folder = write_folder(tmp_path, fake_mpii_json(4, 2))
    MpiiJsonSource(str(folder), "")
    (said,) = caplog.messages
    assert "valid.json: no head boxes, so no PCKh; put gt_valid.mat of the same download" in said


def test_null_is_missing(tmp_path):
    joints = (POINTS + 1).tolist()
    joints[3] = [None, None]
    entry = {"image": "a.jpg", "joints": joints, "joints_vis": [1] * 16}
    files = {"a.jpg": photo(np.random.default_rng(0))}
    files["train.json"] = json.dumps([entry | {"center": None, "scale": None}]).encode()
    folder = write_folder(tmp_path, files)
    (annotation,) = MpiiJsonSource(str(folder / "train.json"), skeleton="mpii16").annotations
    assert annotation.box_px is None
    assert annotation.labelled.tolist() == [i != 3 for i in range(16)]


def test_people_of_one_photograph_in_two_files_are_counted_on(tmp_path):
    people = {"train": json_people(1), "valid": json_people(1, seed=3)}
    files = {f"annot/{subset}.json": json.dumps(p).encode() for subset, p in people.items()}
    files["images/000000001.jpg"] = photo(np.random.default_rng(0))
    source = MpiiJsonSource(str(write_folder(tmp_path / "mpii", files)), "")
    assert [a.image_id for a in source.annotations] == [f"000000001_{i}" for i in range(1, 5)]


def test_a_json_without_joints_has_nobody_left(tmp_path):
    folder = write_folder(tmp_path / "mpii", fake_mpii_json())
    with pytest.raises(DataError, match=r"no people left of mpii for lsp14 \(1 without joints\)"):
        MpiiJsonSource(str(folder / "annot/test.json"), "")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not a JSON file"),
        ("{}", "expected a list of people, found a dict"),
        ('[{"joints": []}]', r"person 0 is not as expected \(KeyError: 'image'\)"),
        (
            '[{"image": "1.jpg", "joints": [], "joints_vis": []}]',
            r"joints \(0,\) and joints_vis \(",
        ),
        (
            '[{"image": "1.jpg", "joints": [[1, 2]], "joints_vis": [1]}]',
            r"joints \(1, 2\) and .*16",
        ),
        ('[{"image": "1.jpg", "joints": [["x", 2]], "joints_vis": [1]}]', "person 0 is not as exp"),
    ],
)
def test_another_json_is_refused(tmp_path, content, problem):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(DataError, match=problem) as caught:
        MpiiJsonSource(str(tmp_path / "train.json"), "")
    assert f"{tmp_path / 'train.json'}: " in str(caught.value)
    assert "use train.json and valid.json of Simple Baselines" in str(caught.value)
