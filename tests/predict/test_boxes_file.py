"""BoxFile from files of all usual forms."""

import json

import pytest

from convpose.errors import DataError
from convpose.predict.people import BoxFile

CSV = "image,x0,y0,x1,y1\na.jpg,1,2,11,22\na.jpg,5,5,9,9\nsub/b.png,0,0,4,4\n"


def boxes_of(tmp_path, content, name="boxes.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return BoxFile(path)


SHEET = "\ufeffframe,image,x0,y0,x1,y1,id,score\n3,clip.mp4,1,2,3,4,7,0.5\n4,clip.mp4,1,2,3,5,,\n"
RESULT = [{"image_id": 139, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.25}]
TRUTH = {
    "images": [{"id": 5, "file_name": "x.jpg"}],
    "annotations": [{"id": 99, "image_id": 5, "bbox": [1, 1, 2, 2], "category_id": 1}],
}
FOUND = [  # content, image and frame, boxes, scores, numbers
    (CSV, ("photos/a.jpg", 0), [[1, 2, 11, 22], [5, 5, 9, 9]], [1.0, 1.0], [None, None]),
    (CSV, ("sub/b.png", 0), [[0, 0, 4, 4]], [1.0], [None]),
    (CSV, ("c.jpg", 0), [], [], []),
    (CSV, ("x/sub/b.png", 0), [[0, 0, 4, 4]], [1.0], [None]),
    (
        "image,x0,y0,x1,y1\na,1,1,2,2\n1/a,0,0,4,4\n",
        ("x/1/a.png", 0),
        [[0, 0, 4, 4]],
        [1.0],
        [None],
    ),
    (SHEET, ("clip.mp4", 3), [[1, 2, 3, 4]], [0.5], [7]),
    (SHEET, ("clip.mp4", 4), [[1, 2, 3, 5]], [1.0], [None]),
    ([{"image": "a", "box_px": [1, 2, 3, 4]}], ("f/a.jpg", 0), [[1, 2, 3, 4]], [1.0], [None]),
    (RESULT, ("val2017/000000000139.jpg", 0), [[10, 20, 40, 60]], [0.25], [None]),
    (TRUTH, ("x.jpg", 0), [[1, 1, 3, 3]], [1.0], [None]),  # an annotation's id numbers nobody
]


@pytest.mark.parametrize(("content", "of", "boxes_px", "scores", "tracks"), FOUND)
def test_boxes_of_an_image_in_every_form(content, of, boxes_px, scores, tracks, tmp_path):
    boxes = boxes_of(tmp_path, content, "boxes.csv" if isinstance(content, str) else "boxes.json")
    found = boxes.of_frame(*of)
    assert found.boxes_px.shape == (len(scores), 4)
    assert (found.boxes_px.tolist(), found.scores, found.tracks) == (boxes_px, scores, tracks)
    assert boxes.numbered == (content is SHEET)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected a CSV with the columns image, x0, y0, x1, y1, or a JSON list"),
        ("[1, 2]", "expected a CSV"),
        ('{"a": 1}', "no 'frames'; expected a CSV"),
        ('[{"image": "a", "box_px": [1, 2]}]', r"boxes of shape \(1, 2\): expected \(N, 4\)"),
        ('[{"image": "a", "box_px": [4, 2, 1, 9]}]', r"box \[4.0, 2.0, 1.0, 9.0\]: expected x0"),
        ('[{"image": "a", "box_px": [1, 2, 1e39, 9]}]', r"box \[1.0, 2.0, 1e\+39, 9.0\]: expect"),
        ('[{"image": "a", "box_px": [1, 2, 3, 4], "score": NaN}]', "score nan: expected 0 to 1"),
        ('[{"image": "a", "box_px": [1, 2, 3, 4], "score": 2}]', "score 2: expected 0 to 1; leave"),
        ('[{"image": "a", "box": [4, 2, 1, 9]}]', "no 'x0'; expected a CSV"),
        ('[{"box_px": [1, 2, 3, 4]}]', "no 'image_id'; expected a CSV"),
    ],
)
def test_what_is_no_file_of_boxes(content, message, tmp_path):
    with pytest.raises(DataError, match=rf"boxes=.*boxes\.json: .*{message}"):
        boxes_of(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,x0,y0,x1,y1\na.jpg,1,2,,4\n", "could not convert string to float"),
        ("image,left,y0,x1,y1\na.jpg,1,2,3,4\n", "no 'x0'; expected a CSV"),
    ],
)
def test_csv_with_a_gap_or_another_column(content, message, tmp_path):
    with pytest.raises(DataError, match=rf"boxes\.csv: {message}"):
        boxes_of(tmp_path, content, "boxes.csv")


def test_boxes_of_other_images_are_noticed(tmp_path):
    boxes = boxes_of(tmp_path, CSV, "boxes.csv")
    boxes.check(["b.jpg", "x/a.jpg"])
    with pytest.raises(DataError, match=r"has a box for none of the images; its first is named a"):
        boxes.check(["c.jpg", "d.jpg"])


@pytest.mark.parametrize(
    ("line", "name", "count"),
    [
        ("fu\u0308r.jpg", "f\u00fcr.jpg", 1),
        ("f\u00fcr.jpg", "in/fu\u0308r.jpg", 1),
        ("a.JPG", "in/a.jpg", 1),
        ("in/a%20b.jpg", "in/a b.jpg", 1),
        ("cam0/A.jpg", "cam1/a.jpg", 0),
    ],
)
def test_names_that_are_written_another_way_are_found(line, name, count, tmp_path):
    boxes = boxes_of(tmp_path, f"image,x0,y0,x1,y1\n{line},1,2,3,4\n", "boxes.csv")
    assert len(boxes.of_frame(name).boxes_px) == count


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("0001.jpg", ["cam0/0001.jpg", "cam1/0001.jpg"]),
        ("1", ["0001.jpg", "1.png"]),
        ("a", ["a.jpg", "a.png"]),
        ("cam/a", ["x/cam/a.jpg", "y/cam/a.jpg"]),
    ],
)
def test_a_line_that_fits_two_pictures_is_refused(line, names, tmp_path):
    boxes = boxes_of(tmp_path, [{"image": line, "box_px": [1, 2, 3, 4]}])
    with pytest.raises(DataError, match=f": {line} is {names[0]} as well as {names[1]}; type so"):
        boxes.check(names)
    boxes.check(names[:1] * 2)
