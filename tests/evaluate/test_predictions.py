"""A predictions file survives the round trip, and every way to get it wrong is named."""

import re

import numpy as np
import pytest

from convpose.errors import DataError
from convpose.evaluate.predictions import Predictions, match
from convpose.skeleton import LSP14

IDS = ["im1001", "im1002", "im1003"]


def some(ids=IDS, scores: bool = True) -> Predictions:
    draw = np.random.default_rng(0)
    points = draw.uniform(0, 150, (len(ids), 14, 2)).astype(np.float32)
    score = draw.uniform(0, 1, (len(ids), 14)).astype(np.float32) if scores else None
    return Predictions(np.array(ids), points, score)


@pytest.mark.parametrize("scores", [True, False])
def test_round_trip_at_exactly_the_path(tmp_path, scores: bool) -> None:
    path, saved = tmp_path / "deep" / "predictions.of.mine", some(scores=scores)
    saved.save(path)
    assert [file.name for file in path.parent.iterdir()] == ["predictions.of.mine"]
    loaded = Predictions.load(path)
    assert loaded.image_id.tolist() == IDS
    assert np.array_equal(loaded.keypoints_px, saved.keypoints_px)
    assert loaded.keypoints_px.dtype == np.float32
    assert (loaded.scores is None) == (not scores)
    assert not scores or np.array_equal(loaded.scores, saved.scores)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "predictions.npz"
    some().save(path)
    before = path.read_bytes()

    def half_way(file, **arrays) -> None:
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", half_way)
    with pytest.raises(OSError, match="disk full"):
        some(scores=False).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_match_brings_rows_into_the_order_of_the_split(tmp_path) -> None:
    predictions, order = some(), ["im1003", "im1001", "im1002"]
    matched = match(predictions, order, LSP14, tmp_path)
    assert matched.image_id.tolist() == order
    assert np.array_equal(matched.keypoints_px, predictions.keypoints_px[[2, 0, 1]])
    assert np.array_equal(matched.scores, predictions.scores[[2, 0, 1]])
    assert predictions.image_id.tolist() == IDS


def test_other_number_types_are_read_as_float32(tmp_path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, image_id=np.array(IDS), keypoints_px=np.ones((3, 14, 2), dtype=np.int64))
    assert Predictions.load(path).keypoints_px.dtype == np.float32


GOOD = {"image_id": np.array(IDS), "keypoints_px": np.zeros((3, 14, 2), np.float32)}
WRONG_FILES = {
    "no keypoints": ({"image_id": GOOD["image_id"]}, "no array 'keypoints_px' (found: image_id)"),
    "no ids": ({"keypoints_px": GOOD["keypoints_px"]}, "no array 'image_id'"),
    "numbers as ids": (GOOD | {"image_id": np.arange(3)}, "'image_id' must be (N,) str, got (3,)"),
    "bytes as ids": (GOOD | {"image_id": np.array(IDS, dtype=bytes)}, "dtype=str"),
    "flat": (GOOD | {"keypoints_px": np.zeros((3, 28))}, "got (3, 28)"),
    "y, x, score": (GOOD | {"keypoints_px": np.zeros((3, 14, 3))}, "got (3, 14, 3)"),
    "fewer rows": (GOOD | {"keypoints_px": np.zeros((2, 14, 2))}, "with N = 3"),
    "text": (GOOD | {"keypoints_px": np.full((3, 14, 2), "x")}, "must be numbers (float32)"),
    "scores": (GOOD | {"scores": np.zeros((3, 13))}, "'scores' must be (3, 14)"),
    "pickled": (GOOD | {"scores": np.array([{}, 1, None], dtype=object)}, "pickled objects"),
}


@pytest.mark.parametrize(("arrays", "message"), WRONG_FILES.values(), ids=WRONG_FILES.keys())
def test_wrong_arrays_are_named(tmp_path, arrays, message: str) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        Predictions.load(path)
    assert str(path) in str(caught.value)


def truncated(path) -> None:
    some().save(path)
    path.write_bytes(path.read_bytes()[:-200])


def flipped(path) -> None:
    """A damaged byte inside the compressed keypoints."""
    some().save(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(8)
    path.write_bytes(data)


def one_array(path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 14, 2)))


WRONG_BYTES = {
    "absent": (lambda path: None, "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable .npz"),
    "html": (lambda path: path.write_text("<html>gone</html>"), "not a readable .npz"),
    "truncated": (truncated, "not a readable .npz"),
    "damaged": (flipped, "not a readable .npz"),
    "npy": (one_array, "single array, not an .npz"),
}


@pytest.mark.parametrize(("write", "message"), WRONG_BYTES.values(), ids=WRONG_BYTES.keys())
def test_wrong_files_are_named(tmp_path, write, message: str) -> None:
    path = tmp_path / "p.npz"
    write(path)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        Predictions.load(path)
    assert str(path) in str(caught.value)


def with_value(value: float) -> Predictions:
    predictions = some()
    predictions.keypoints_px[1, 6, 0] = value
    return predictions


def with_score(value: float) -> Predictions:
    predictions = some()
    predictions.scores[2, 13] = value
    return predictions


WRONG_ROWS = {
    "twice": (some(["im1001", "im1001", "im1003"]), "'image_id' holds im1001 more than once"),
    "unknown": (
        some([*IDS, "im0007"]),
        "holds im0007, unknown to this subset of 3 images (such as",
    ),
    "missing": (some(IDS[:2]), "'image_id' lacks im1003 of the 3 images"),
    "nan": (
        with_value(np.nan),
        "1 values of 'keypoints_px' are NaN or infinite, first right_wrist",
    ),
    "inf": (with_value(np.inf), "right_wrist of im1002"),
    "nan score": (with_score(np.nan), "'scores' are NaN or infinite, first head_top of im1003"),
    "logits": (
        with_score(29),
        " to 29. Save probabilities from 0 to 1, or leave the array out",
    ),
    "below 0": (with_score(-0.1), "'scores' go from -0.1 to"),
    "coco": (
        Predictions(np.array(IDS), np.zeros((3, 17, 2), np.float32)),
        "has 17 keypoints per image, lsp14 has 14: right_ankle",
    ),
}


@pytest.mark.parametrize(("predictions", "message"), WRONG_ROWS.values(), ids=WRONG_ROWS.keys())
def test_wrong_rows_are_named(tmp_path, predictions: Predictions, message: str) -> None:
    path = tmp_path / "p.npz"
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        match(predictions, IDS, LSP14, path)
    assert str(path) in str(caught.value)


def test_too_large_for_float32_is_infinite(tmp_path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, image_id=GOOD["image_id"], keypoints_px=np.full((3, 14, 2), 1e300))
    with pytest.raises(DataError, match="84 values of 'keypoints_px' are NaN or infinite"):
        match(Predictions.load(path), IDS, LSP14, path)


def test_long_lists_of_ids_are_cut(tmp_path) -> None:
    with pytest.raises(DataError, match=r"lacks im0, im1, im2, im3, im4 and 95 more of the 100"):
        match(some([]), [f"im{i}" for i in range(100)], LSP14, tmp_path)
