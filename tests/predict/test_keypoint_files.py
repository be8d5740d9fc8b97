"""Keypoints as files, read back with other tools than those that wrote them."""

import contextlib
import csv
import json
import resource

import numpy as np
import pytest
from some_people import frame, person

from convpose.errors import ConfigError
from convpose.predict.people import BoxFile
from convpose.predict.records import image_ids
from convpose.predict.writers import open_keypoints
from convpose.skeleton import LSP14

FILES = {
    "json": "keypoints.json",
    "coco": "keypoints_coco.json",
    "csv": "keypoints.csv",
    "parquet": "keypoints.parquet",
}


def written(kind, folder, frames, complete=True):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    file = open_keypoints(kind, folder, LSP14)
    for of, people in frames:
        file.write(of, people)
    file.close(complete)
    return folder / FILES[kind]


@pytest.fixture
def frames():
    found = person(track=3, box_score=0.5)
    return [
        (frame(), [person(), person(90, 30, box_px=None)]),
        (frame("empty.png"), []),
        (frame("clip.mp4", index=12, time_s=0.4), [found]),
    ]


def test_json(frames, tmp_path):
    content = json.loads(written("json", tmp_path / "new", frames).read_text())
    assert content["skeleton"] == "lsp14"
    assert content["keypoints"] == list(LSP14.keypoints)
    photo, empty, clip = content["frames"]
    assert (photo["image"], photo["frame"], photo["time_s"]) == ("folder/photo 7.jpg", 0, None)
    assert (photo["width_px"], photo["height_px"]) == (160, 120)
    assert empty["people"] == []
    first, second = photo["people"]
    assert np.allclose(first["keypoints_px"], person().keypoints_px, atol=1e-4)
    assert first["scores"] == [0.75] * 14
    assert (first["box_px"], second["box_px"]) == ([30, 40, 70, 80], None)
    assert (clip["frame"], clip["time_s"], clip["people"][0]["id"]) == (12, 0.4, 3)
    assert clip["people"][0]["score"] == 0.375


def test_coco_keypoint_results(frames, tmp_path):
    frames.append((frame("000000000139.jpg"), [person()]))
    records = json.loads(written("coco", tmp_path, frames).read_text())
    assert [r["image_id"] for r in records] == ["photo 7", "photo 7", "clip_000012", 139]
    assert {r["category_id"] for r in records} == {1}
    assert [len(r["keypoints"]) for r in records] == [42] * 4
    assert records[0]["keypoints"][:6] == pytest.approx(
        [70, 60, 0.75, *person().keypoints_px[1].tolist(), 0.75], abs=1e-4
    )
    assert records[0]["bbox"] == [30, 40, 40, 40], "x, y, width, height"
    assert (records[0]["score"], records[2]["score"]) == (0.75, 0.375)


def test_csv(frames, tmp_path):
    with written("csv", tmp_path, frames).open(newline="") as file:
        first, second, tracked = csv.DictReader(file)
    assert list(first)[:9] == "image frame time_s id score x0 y0 x1 y1".split()  # noqa: SIM905
    assert list(first)[9:12] == ["right_ankle_x", "right_ankle_y", "right_ankle_score"]
    assert len(first) == 9 + 3 * 14
    assert (first["image"], first["id"], second["x0"]) == ("folder/photo 7.jpg", "", "")
    assert float(first["right_ankle_x"]) == 70
    assert (tracked["frame"], tracked["id"], tracked["time_s"]) == ("12", "3", "0.4")


def test_parquet_is_the_csv_with_types(frames, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(written("parquet", tmp_path, frames)).to_pylist()
    with written("csv", tmp_path, frames).open(newline="") as file:
        texts = list(csv.DictReader(file))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == texts
    assert rows[2]["id"] == 3
    assert rows[0]["id"] is None


def test_parquet_in_groups(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("convpose.predict.writers.ROW_GROUP", 4)
    path = written("parquet", tmp_path, [(frame(f"{i}.png"), [person()]) for i in range(10)])
    file = parquet.ParquetFile(path)
    assert file.num_row_groups == 3
    assert file.read(["image"]).to_pydict()["image"] == [f"{i}.png" for i in range(10)]
    file.close()


@pytest.mark.parametrize("kind", FILES)
def test_without_people_the_file_is_empty_but_whole(kind, tmp_path):
    path = written(kind, tmp_path, [])
    assert path.stat().st_size > 0
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        assert (content["frames"] if kind == "json" else content) == []


@pytest.mark.parametrize("kind", FILES)
def test_what_is_not_complete_leaves_the_old_file_and_no_part(kind, frames, tmp_path):
    (tmp_path / FILES[kind]).write_text("old")
    path = written(kind, tmp_path, frames, complete=False)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("spare", [0, 1, 3000, 30_000])
def test_a_full_disk_keeps_the_frames_that_fit(kind, spare, tmp_path):
    """A limit of a file's size is to a write what a full disk is."""
    x = np.random.default_rng(0).uniform(30, 90, 300)
    frames = [(frame(f"{i}.png"), [person(x[i])]) for i in range(300)]
    size = written(kind, tmp_path / "one", frames[:1]).stat().st_size + spare
    size += 20_000 if kind == "parquet" else 0  # the ending of a few small groups
    file = open_keypoints(kind, tmp_path, LSP14)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    full = pytest.raises(OSError, match="File too large")
    try:
        with full:
            for of in frames:
                file.write(*of)
        with contextlib.suppress(*[OSError] if kind == "parquet" else []):
            file.close()  # the frame that had no room waits in a file of Parquet
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    path = tmp_path / FILES[kind]
    if kind == "json":
        kept = [record["image"] for record in json.loads(path.read_text())["frames"]]
    elif kind == "coco":
        kept = [record["file_name"] for record in json.loads(path.read_text())]
    elif kind == "csv":
        kept = [row["image"] for row in csv.DictReader(path.read_text().splitlines())]
    else:
        kept = pytest.importorskip("pyarrow.parquet").read_table(path)["image"].to_pylist()
    assert kept == [f"{i}.png" for i in range(len(kept))]
    assert 1 + spare // 2000 <= len(kept) < 300
    assert path.stat().st_size <= size
    assert not list(tmp_path.glob("*.part"))


IDS = [  # names of inputs, and their ids
    (["a/0001.jpg", "b/7.jpg", "c/x.jpg"], [1, 7, "x"]),
    (
        ["cam0/0001.jpg", "cam1/0001.jpg", "cam2/1.jpg"],
        ["cam0/0001.jpg", "cam1/0001.jpg", "cam2/1.jpg"],
    ),
    (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
    (["1.jpg", "c/1.jpg", "b/1.jpg.png"], ["1.jpg", "c/1.jpg", "b/1.jpg.png"]),
    (["a.jpg", "a.jpg"], ["a", "a"]),  # one picture, asked for twice
    (["clip.mp4", "clip_000012.jpg"], ["clip", "clip_000012.jpg"]),
    (["m²/².jpg"], ["²"]),
]


@pytest.mark.parametrize(("names", "ids"), IDS)
def test_no_two_inputs_share_an_id(names, ids):
    found = image_ids(names)
    assert [found[name] for name in names] == ids


def test_coco_names_the_file_of_each_record_and_frames_of_two_clips(tmp_path):
    names = ["a/clip.mp4", "b/clip.mp4", "0007.mp4"]
    file = open_keypoints("coco", tmp_path, LSP14, names)
    for name in names:
        file.write(frame(name, index=3, time_s=0.1), [person()])
    file.close()
    records = json.loads((tmp_path / "keypoints_coco.json").read_text())
    assert [(r["image_id"], r["file_name"]) for r in records] == [
        ("a/clip.mp4_000003", "a/clip.mp4"),
        ("b/clip.mp4_000003", "b/clip.mp4"),
        ("0007_000003", "0007.mp4"),
    ]


def test_names_of_all_languages(tmp_path):
    path = written("json", tmp_path, [(frame("Müller – 体操.jpg"), [])])
    assert "Müller – 体操.jpg" in path.read_text("utf-8")


def test_another_format(tmp_path):
    with pytest.raises(ConfigError, match="format=xml: type one of json, coco, csv, parquet, lab"):
        open_keypoints("xml", tmp_path, LSP14)


def test_parquet_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr("convpose.errors.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pyarrow is not installed; .*'convpose\[parquet\]'"):
        open_keypoints("parquet", tmp_path, LSP14)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_what_is_written_can_be_read_back_as_boxes(kind, tmp_path):
    frames = [
        (frame(), [person(), person(100)]),
        (frame("clip.mp4", index=12, time_s=0.4), [person(track=3, box_score=0.5)]),
    ]
    boxes = BoxFile(written(kind, tmp_path, frames))
    assert boxes.numbered
    assert boxes.of_frame("folder/photo 7.jpg").boxes_px.tolist() == [
        [30, 40, 70, 80],
        [80, 40, 120, 80],
    ]
    assert boxes.of_frame("elsewhere/clip.mp4", 12).tracks == [3]
    assert boxes.of_frame("clip.mp4", 0).boxes_px.shape == (0, 4)
