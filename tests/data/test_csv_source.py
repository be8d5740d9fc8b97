"""A CSV file of one's own: columns, rows and what is wrong with them."""

import numpy as np
import pytest
from fake_lsp import write_zip
from fake_people import HEIGHT_PX, WIDTH_PX, photo, turned

from convpose.data.csv_source import CsvSource
from convpose.errors import DataError
from convpose.predict.records import columns
from convpose.skeleton import LSP14

NAMES = ("left_wrist", "right_wrist", "left_hip", "right_hip")


def header(*joints, columns="xyv"):
    return ",".join(["image", *(f"{name}_{c}" for name in joints for c in columns)])


@pytest.fixture
def read(tmp_path):
    """Writes a CSV file beside two photographs and reads it."""

    def write(*lines, text=None, **keys):
        for name in ("a.jpg", "b/a.jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(photo(np.random.default_rng(0)))
        path = tmp_path / "people.csv"
        path.write_bytes("\n".join(lines).encode() if text is None else text)
        return CsvSource(str(path), **keys)

    return write


def found(annotation):
    return {
        name: (*annotation.keypoints_px[k].tolist(), int(annotation.visibility[k]))
        for k, name in enumerate(LSP14.keypoints)
        if annotation.visibility[k]
    }


def test_rows_are_people(read):
    (annotation,) = read(header(*NAMES), "a.jpg,1,2,2,3.5,4,1,5,6,2,7,8.25,2").annotations
    assert annotation.image_id == "a_1"
    assert annotation.file == "a.jpg"
    assert (annotation.width_px, annotation.height_px) == (WIDTH_PX, HEIGHT_PX)
    assert annotation.subset is None
    assert annotation.box_px is None
    assert found(annotation) == {
        "left_wrist": (1, 2, 2),
        "right_wrist": (3.5, 4, 1),
        "left_hip": (5, 6, 2),
        "right_hip": (7, 8.25, 2),
    }


def test_columns_may_be_spelled_another_way(read):
    head = (
        "Image,Left Wrist_X,left-wrist_y,R_Wrist_x,RightWrist_Y,LEFT_HIP_x,left_hip_y,X0,y0,x1,y1"
    )
    (annotation,) = read(head, "a.jpg,1,2,3,4,5,6,0,0,9,9", min_joints=3).annotations
    assert {k: v[:2] for k, v in found(annotation).items()} == {
        "left_wrist": (1, 2),
        "right_wrist": (3, 4),
        "left_hip": (5, 6),
    }
    assert annotation.box_px.tolist() == [0, 0, 9, 9]


def test_empty_cells_and_a_visibility_of_0_are_unlabelled(read):
    line = "a.jpg,1,2,,,,2,5,6,0,7,8,1"
    (annotation,) = read(header(*NAMES), line, min_joints=2).annotations
    assert found(annotation) == {"left_wrist": (1, 2, 2), "right_hip": (7, 8, 1)}


@pytest.mark.parametrize("cell", ["NA", "n/a", "null", "None", "nan", " "])
def test_words_for_nothing_are_unlabelled(read, cell):
    line = f"a.jpg,1,2,,{cell},{cell},2,5,6,{cell},7,8,1"
    source = read(header(*NAMES), line.replace(f"6,{cell},7", "6,0,7"), min_joints=2)
    assert "right_wrist" not in found(source.annotations[0])


@pytest.mark.parametrize("cell", ["NA", "n/a", "", " "])
def test_an_empty_visibility_of_a_joint_with_coordinates_is_visible(read, cell):
    (a,) = read(header(*NAMES), f"a.jpg,1,2,{cell},3,4,1,5,6,0,7,8,2", min_joints=3).annotations
    assert found(a) == {"left_wrist": (1, 2, 2), "right_wrist": (3, 4, 1), "right_hip": (7, 8, 2)}


def test_joints_with_one_coordinate_are_counted(read):
    rows = ("a.jpg,1,NA,2,3,4,2,5,6,2,7,8,2", "a.jpg,1,2,2,3,4,,,6,,7,,0")
    source = read(header(*NAMES), *rows, min_joints=2)
    assert [list(found(a)) for a in source.annotations] == [
        ["right_hip", "left_hip", "right_wrist"],
        ["right_wrist", "left_wrist"],
    ]
    said = "joints that have x without y, or y without x, and so are unlabelled: 2"
    assert source.doubts[-1] == f"csv: {said} (left_wrist of a_1, left_hip of a_2)"
    assert not read(header(*NAMES), "a.jpg,1,2,2,,,,5,6,2,7,8,2", min_joints=2).doubts


def test_ids_count_the_rows_of_a_photograph(read):
    rows = [f"{image},1,2,2,3,4,2,5,6,2,7,8,2" for image in ("a.jpg", "b/a.jpg", "a.jpg")]
    assert [a.image_id for a in read(header(*NAMES), *rows).annotations] == ["a_1", "b-a_1", "a_2"]


def test_ids_subsets_and_boxes_may_be_given_and_visibility_left_out(read):
    head = header(*NAMES, columns="xy") + ",id,part,x0,y0,x1,y1"
    source = read(
        head,
        "a.jpg,1,2,3,4,5,6,7,8,me,val,0,0.5,30,40",
        "b/a.jpg,1,2,3,4,5,6,7,8,,,,,,",
    )
    me, other = source.annotations
    assert set(me.visibility[me.labelled]) == {2}  # there is no column of visibility
    assert (me.image_id, me.subset, me.box_px.tolist()) == ("me", "val", [0, 0.5, 30, 40])
    assert (other.image_id, other.subset, other.box_px) == ("b-a_1", None, None)


def test_a_file_of_a_spreadsheet_is_read(read):
    """With a byte order mark, CRLF and quotes."""
    text = f'\ufeff{header(*NAMES)}\r\n"a.jpg","1",2,2,3,4,2,5,6,2,7,8,2\r\n'.encode()
    assert found(read(text=text).annotations[0])["left_wrist"] == (1, 2, 2)


def test_joints_of_any_skeleton_may_be_there(read):
    head = header("nose", *NAMES, "upper_neck", columns="xy")
    source = read(head, "a.jpg,9,1,1,2,3,4,5,6,7,8,10,11")
    assert found(source.annotations[0])["neck"] == (10, 11, 2)
    assert source.annotations[0].box_px.tolist() == [1, 1, 10, 11]  # the nose stays in the crop


def test_photographs_are_upright(tmp_path):
    files = {"a.jpg": turned(photo(np.random.default_rng(0))), "c.jpg": b""}
    images = write_zip(tmp_path / "photos.zip", files)
    (tmp_path / "people.csv").write_text(f"{header(*NAMES)}\na.jpg,1,2,2,3,4,2,5,6,2,7,8,2\n")
    source = CsvSource(str(tmp_path / "people.csv"), images=str(images))
    (annotation,) = source.annotations
    assert (annotation.width_px, annotation.height_px) == (HEIGHT_PX, WIDTH_PX)
    assert source.read_image(0)[0].shape == (WIDTH_PX, HEIGHT_PX, 3)


def test_the_table_of_a_prediction_is_read(read):
    head = ",".join(columns(LSP14))
    cells = ["1.5"] * 3 * 14
    (annotation,) = read(head, ",".join(["a.jpg", "", "", "", "0.9", *"1234", *cells])).annotations
    assert annotation.visibility.tolist() == [2] * 14
    assert annotation.keypoints_px.tolist() == [[1.5, 1.5]] * 14
    assert annotation.box_px.tolist() == [1, 2, 3, 4]
    assert annotation.image_id == "a_1"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([""], "image, a joint missing"),
        (["image"], "a joint missing"),
        (["left_wrist_x,left_wrist_y"], "image missing"),
        (["image,left_wrist_x"], "left_wrist_y missing"),
        (["image,left_wrist_x,left_wrist_y,x0"], "y0, x1, y1 missing"),
        (["image,image,left_wrist_x,left_wrist_y"], "image there twice"),
        (["image;left_wrist_x;left_wrist_y"], "separated by ';'; save it with commas"),
        (["image,nose_x,nose_y", "a.jpg,1"], "row 2 has not as many cells as the first"),
        (["image,nose_x,nose_y", "a.jpg,1,2,3"], "row 2 has not as many cells as the first"),
        (["image,nose_x,nose_y", "a.jpg,1,2", "a.jpg,1,y"], "row 3: could not convert string to "),
        (["image,nose_x,nose_y,nose_v", "a.jpg,1,2,3"], "row 2: visibility 3, expected 0, 1 or 2"),
        (["image,nose_x,nose_y,nose_v", "a.jpg,1,2,-1"], "row 2: visibility -1, expected 0, 1 or"),
        (["image,nose_x,nose_y", ",1,2"], "row 2 has no image"),
        (["image,nose_x,nose_y,part", "a.jpg,1,2,dev"], "row 2 has part 'dev', expected train, va"),
    ],
)
def test_what_is_wrong_is_said_with_its_row(read, tmp_path, lines, problem):
    with pytest.raises(DataError, match=problem) as caught:
        read(*lines)
    assert str(caught.value).startswith(f"{tmp_path / 'people.csv'}: ")
    assert "expected the columns image, NAME_x, NAME_y, and perhaps NAME_v" in str(caught.value)


def test_an_unknown_joint_lists_the_known(read):
    with pytest.raises(DataError) as caught:
        read("image,left_hand_x,left_hand_y", "a.jpg,1,2")
    message = str(caught.value)
    assert "people.csv: unknown column 'left_hand_x', 'left_hand_y'; expected" in message
    assert f"joints known: {', '.join(LSP14.keypoints)}, and those of aic14, coco17" in message


def test_what_is_no_text_is_refused(read):
    with pytest.raises(DataError, match=r"people\.csv: not a CSV file in UTF-8 \("):
        read(text=b"image,\xff\xfe")


def test_a_file_has_to_be_named():
    with pytest.raises(DataError, match=r"csv: type data\.source= with the path of the annotation"):
        CsvSource(None)
