"""FLIC: upper bodies, NaN, flags, and whose left is left."""

import numpy as np
import pytest
from fake_flic import COLUMNS, example, examples, fake_flic, flic_rows
from fake_lsp import write_zip
from fake_people import body_px, mat, photo

from convpose.data.flic import FlicSource
from convpose.errors import DataError
from convpose.skeleton import FLIC11, LSP14

FRAME = "a-film-00000001.jpg"
FRONT = body_px(FLIC11.keypoints, np.random.default_rng(5))
BACK = FRONT[list(FLIC11.mirror)]  # the same outline, seen from behind: left is the image's left


def read(tmp_path, *rows, full=False, **keys):
    """The source of these examples, all in one frame."""
    files = {
        f"images/{FRAME}": photo(np.random.default_rng(0)),
        "examples.mat": examples(rows, full),
    }
    return FlicSource(str(write_zip(tmp_path / "FLIC.zip", files)), "", **keys)


def row(points, train=True, **others):
    return example(FRAME, points, train, **others)


def test_the_annotated_columns_are_read_and_count_from_zero(tmp_path):
    (annotation,) = read(tmp_path, row(FRONT), skeleton="flic11").annotations
    np.testing.assert_array_equal(annotation.keypoints_px, FRONT)  # the file has FRONT + 1
    assert annotation.visibility.tolist() == [2] * 11
    assert annotation.image_id == "a-film-00000001_1"


def test_the_columns_are_those_of_lookup_part():
    """MATLAB has lsho lelb lwri rsho relb rwri lhip, rhip, leye reye, nose."""
    assert np.add(COLUMNS, 1).tolist() == [1, 2, 3, 4, 5, 6, 7, 10, 13, 14, 17]


def test_lsp_has_eight_of_its_joints(tmp_path):
    source = read(tmp_path, row(FRONT))
    (annotation,) = source.annotations
    labelled = [name for name, v in zip(LSP14.keypoints, annotation.visibility, strict=True) if v]
    assert labelled == [
        *("right_hip", "left_hip", "right_wrist", "right_elbow", "right_shoulder"),
        *("left_shoulder", "left_elbow", "left_wrist"),
    ]
    for name in labelled:
        expected = FRONT[FLIC11.index(name)]
        np.testing.assert_array_equal(annotation.keypoints_px[LSP14.index(name)], expected)
    # the face stays in the crop
    assert annotation.box_px.tolist() == [*FRONT.min(0), *FRONT.max(0)]
    masked = "right_ankle, right_knee, left_knee, left_ankle, neck, head_top"
    assert f"flic: no counterpart, so masked: {masked}" in source.notes


def test_nan_is_unlabelled(tmp_path):
    points = FRONT.copy()
    points[FLIC11.index("left_wrist")] = np.nan
    points[FLIC11.index("nose"), 1] = np.nan
    (annotation,) = read(tmp_path, row(points), skeleton="flic11").annotations
    unlabelled = [
        name for name, v in zip(FLIC11.keypoints, annotation.visibility, strict=True) if not v
    ]
    assert unlabelled == ["left_wrist", "nose"]


# --- left and right ---


def test_left_and_right_are_as_labelled_by_default(tmp_path):
    source = read(tmp_path, row(FRONT), row(BACK), skeleton="flic11")
    np.testing.assert_array_equal(source.annotations[1].keypoints_px, BACK)
    assert source.notes[-1] == "flic: 1 people turn their back; left and right are their own"


def test_observer_centric_exchanges_the_sides_of_backs_only(tmp_path):
    source = read(tmp_path, row(FRONT), row(BACK), skeleton="flic11", observer_centric=True)
    front, back = (a.keypoints_px for a in source.annotations)
    np.testing.assert_array_equal(front, FRONT)
    for k, name in enumerate(FLIC11.keypoints):
        expected = BACK[k] if "eye" in name or name == "nose" else FRONT[k]
        np.testing.assert_array_equal(back[k], expected, err_msg=name)
    assert "exchanged for them: observer-centric" in source.notes[-1]


def test_observer_centric_takes_the_labels_along(tmp_path):
    points = BACK.copy()
    points[FLIC11.index("left_wrist")] = np.nan
    source = read(tmp_path, row(points), skeleton="flic11", observer_centric=True)
    visible = source.annotations[0].visibility
    assert visible[FLIC11.index("right_wrist")] == 0
    assert visible[FLIC11.index("left_wrist")] == 2


@pytest.mark.parametrize("joint", ["shoulder", "hip"])
def test_who_turns_only_shoulders_or_hips_does_not_turn_the_back(tmp_path, joint):
    points = BACK.copy()
    sides = [FLIC11.index(f"{side}_{joint}") for side in ("left", "right")]
    points[sides] = points[sides[::-1]]
    source = read(tmp_path, row(points), skeleton="flic11", observer_centric=True)
    np.testing.assert_array_equal(source.annotations[0].keypoints_px, points)
    points = BACK.copy()
    points[FLIC11.index(f"left_{joint}")] = np.nan  # nobody knows
    source = read(tmp_path, row(points), skeleton="flic11", observer_centric=True)
    np.testing.assert_array_equal(source.annotations[0].keypoints_px, points)


# --- who is in it ---


def test_subsets_and_ids(tmp_path):
    source = FlicSource(str(write_zip(tmp_path / "FLIC.zip", fake_flic(4, 2))), "")
    rows = flic_rows(4, 2)
    assert [a.subset for a in source.annotations] == [
        "train" if r["istrain"] else "test" for r in rows
    ]
    assert [a.image_id.rpartition("_")[2] for a in source.annotations] == [
        str(i + 1) for i in range(len(rows))
    ]
    assert len({a.file for a in source.annotations}) == 6 < len(rows)


def test_unchecked_people_of_flic_full_are_left_out(tmp_path):
    unchecked = row(FRONT) | {"istrain": 0, "istest": 0, "isbad": 0, "isunchecked": 1}
    source = read(tmp_path, unchecked, row(FRONT, isbad=0, isunchecked=0), full=True)
    assert [a.image_id for a in source.annotations] == ["a-film-00000001_2"]
    assert source.notes[0] == (
        "flic: 1 people left out of neither training nor test (isbad or isunchecked)"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a MATLAB file"),
        (mat(joints=np.zeros(3)), "expected the variable examples, found joints"),
        (mat(examples=np.zeros(3)), r"examples\(1\) has filepath None and coords of shape \(\)"),
        (
            examples([row(FRONT) | {"coords": np.zeros((2, 11))}]),
            r"of shape \(2, 11\), expected a n",
        ),
    ],
)
def test_another_structure_is_refused(tmp_path, content, problem):
    path = write_zip(tmp_path / "FLIC.zip", {"examples.mat": content, "images/1.jpg": b""})
    with pytest.raises(DataError, match=problem) as caught:
        FlicSource(str(path), "")
    assert "FLIC.zip/examples.mat: " in str(caught.value)
    assert "use examples.mat of FLIC.zip or FLIC-full.zip" in str(caught.value)
