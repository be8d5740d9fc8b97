"""BoxFile from files of all usual forms."""

import json

import pytest

from convpose.errors import DataError
from convpose.predict.boxes import BoxFile

CSV = "image,x0,y0,x1,y1\na.jpg,1,2,11,22\na.jpg,5,5,9,9\nsub/b.png,0,0,4,4\n"


def boxes_of(tmp_path, content, name="boxes.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return BoxFile(path)


def test_csv(tmp_path):
    boxes = boxes_of(tmp_path, CSV, "boxes.csv")
    assert boxes.of_frame("photos/a.jpg").boxes_px.tolist() == [[1, 2, 11, 22], [5, 5, 9, 9]]
    assert boxes.of_frame("a.jpg").scores == [1.0, 1.0]
    assert boxes.of_frame("a.jpg").tracks == [None, None]
    assert boxes.of_frame("sub/b.png").boxes_px.tolist() == [[0, 0, 4, 4]]
    assert boxes.of_frame("c.jpg").boxes_px.shape == (0, 4)
    assert not boxes.numbered


def test_csv_of_a_spreadsheet_with_frames_numbers_and_scores(tmp_path):
    text = (
        "\ufeffframe,image,x0,y0,x1,y1,id,score\n3,clip.mp4,1,2,3,4,7,0.5\n4,clip.mp4,1,2,3,5,,\n"
    )
    boxes = boxes_of(tmp_path, text, "boxes.csv")
    assert boxes.of_frame("clip.mp4", 3)[1:] == ([0.5], [7])
    assert boxes.of_frame("clip.mp4", 4)[1:] == ([1.0], [None])
    assert boxes.numbered


def test_a_list_of_boxes(tmp_path):
    boxes = boxes_of(tmp_path, [{"image": "a", "box_px": [1, 2, 3, 4]}])
    assert boxes.of_frame("folder/a.jpg").boxes_px.tolist() == [[1, 2, 3, 4]], "the stem is enough"


def test_coco_results_and_annotations(tmp_path):
    result = {"image_id": 139, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.25}
    boxes = boxes_of(tmp_path, [result])
    assert boxes.of_frame("val2017/000000000139.jpg").boxes_px.tolist() == [[10, 20, 40, 60]]
    assert boxes.of_frame("000000000139.jpg").scores == [0.25]
    truth = {
        "images": [{"id": 5, "file_name": "x.jpg"}],
        "annotations": [{"id": 99, "image_id": 5, "bbox": [1, 1, 2, 2], "category_id": 1}],
    }
    boxes = boxes_of(tmp_path, truth)
    assert boxes.of_frame("x.jpg").boxes_px.tolist() == [[1, 1, 3, 3]]
    assert not boxes.numbered, "an annotation's id is no person's number"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected a CSV with the columns image, x0, y0, x1, y1, or a JSON list"),
        ("[1, 2]", "expected a CSV"),
        ('{"a": 1}', "no 'frames'; expected a CSV"),
        ('[{"image": "a", "box_px": [1, 2]}]', r"boxes of shape \(1, 2\): expected \(N, 4\)"),
        ('[{"image": "a", "box_px": [4, 2, 1, 9]}]', r"box \[4.0, 2.0, 1.0, 9.0\]: expected x0"),
        ('[{"image": "a", "box": [4, 2, 1, 9]}]', "no 'x0'; expected a CSV"),
        ('[{"box_px": [1, 2, 3, 4]}]', "no 'image_id'; expected a CSV"),
    ],
)
def test_what_is_no_file_of_boxes(content, message, tmp_path):
    with pytest.raises(DataError, match=rf"boxes=.*boxes\.json: .*{message}"):
        boxes_of(tmp_path, content)


def test_csv_with_a_gap_or_another_column(tmp_path):
    with pytest.raises(DataError, match=r"boxes\.csv: could not convert string to float"):
        boxes_of(tmp_path, "image,x0,y0,x1,y1\na.jpg,1,2,,4\n", "boxes.csv")
    with pytest.raises(DataError, match=r"boxes\.csv: no 'x0'; expected a CSV"):
        boxes_of(tmp_path, "image,left,y0,x1,y1\na.jpg,1,2,3,4\n", "boxes.csv")


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match=r"boxes=.*none\.csv: no such file; expected a CSV"):
        BoxFile(tmp_path / "none.csv")


def test_boxes_of_other_images_are_noticed(tmp_path):
    boxes = boxes_of(tmp_path, CSV, "boxes.csv")
    boxes.check(["b.jpg", "x/a.jpg"])
    with pytest.raises(DataError, match=r"has a box for none of the images; its first is named a"):
        boxes.check(["c.jpg", "d.jpg"])
