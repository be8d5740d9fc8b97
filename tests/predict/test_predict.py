"""python -m convpose.predict, as a user has it."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from tiny import Ended
from torch import nn

from convpose.data.synthetic import SyntheticSource
from convpose.predict.__main__ import as_overrides, main, quoted
from convpose.predict.drawing import VideoFile
from convpose.runtime import engines, packaged


@pytest.fixture
def predict(unbroken, tmp_path, monkeypatch, capsys):
    """Runs the application in this process, in an empty folder with some pictures in photos/."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    source = SyntheticSource(4, 64, seed=5)
    for i in range(4):
        Image.fromarray(source.read_image(i)[0]).save(f"photos/{i}.png")

    def call(*arguments, using=f"run={unbroken}"):
        given = [*arguments, "accelerator=cpu", *([using] if using else [])]
        capsys.readouterr()
        code = 0
        try:
            monkeypatch.setattr(sys, "argv", ["predict", *as_overrides(given)])
            main()
        except SystemExit as end:
            code = end.code
        return Ended(code, *capsys.readouterr())

    return call


def files(folder="runs/predict"):
    return sorted(path.name for path in Path(folder).glob("*"))


def written_frames():
    return json.loads(Path("runs/predict/keypoints.json").read_text())["frames"]


def written_rows():
    with Path("runs/predict/keypoints.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder(predict):
    ended = predict("source=photos")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "4 poses in 4 frames; written to runs/predict\n"
    assert files() == [*(f"{i}_pose.png" for i in range(4)), "keypoints.json"]
    frames = written_frames()
    assert [frame["image"] for frame in frames] == [f"photos/{i}.png" for i in range(4)]
    assert all(len(frame["people"]) == 1 for frame in frames)
    before, after = (np.asarray(Image.open(p)) for p in ("photos/0.png", "runs/predict/0_pose.png"))
    assert before.shape == after.shape
    assert (before != after).any()


def test_one_bad_file_is_reported_and_the_rest_is_done(predict):
    Path("photos/2 b.jpg").write_bytes(b"no picture")
    ended = predict("source=photos", "draw=false", "format=csv")
    assert ended.code == 1
    assert ended.err == (
        "1 of 5 failed:\n  photos/2 b.jpg: not an image that can be read; save it as JPEG, PNG, "
        "WebP or 8-bit TIFF\n"
    )
    assert "4 poses in 4 frames" in ended.out
    assert [row["image"] for row in written_rows()] == [f"photos/{i}.png" for i in range(4)]


def test_nothing_readable_leaves_nothing(predict):
    Path("a.jpg").write_bytes(b"no picture")
    ended = predict("source=a.jpg")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("1 of 1 failed:\n  a.jpg: not an image")
    assert not Path("runs/predict").exists()


def test_a_list_a_name_with_everything_and_an_own_folder(predict):
    name = "photo (1), it's = new & {ok}.png"
    Path("photos/0.png").rename(name)
    ended = predict(name, "output=own place", "format=coco")
    assert ended.code == 0, ended.err
    assert files("own place") == ["keypoints_coco.json", f"{Path(name).stem}_pose.png"]
    ended = predict("source=[photos/1.png,photos/2.png]")
    assert "2 poses in 2 frames" in ended.out


NAMED = """
import sys
from convpose.predict import pipeline
from convpose.predict.clips import ClipSmoother
from convpose.predict.drawing import Drawings
from convpose.predict.predictor import PosePredictor
from convpose.predict.sources import open_again, open_sources
from convpose.predict.writers import open_keypoints
from convpose.skeleton import LSP14
from fake_network import RedDot
from pathlib import Path

found = open_sources("photos")
assert [s.name for s in found] == [open_again(s.name).name for s in found]
for kind in ("json", "coco", "csv", "parquet", "yolo"):
    folder = Path(kind)
    file = open_keypoints(kind, folder, LSP14, [s.name for s in found])
    sinks = pipeline.Outputs(LSP14, file, Drawings(folder))
    again = [open_again(s.name) for s in found]
    pipeline.run(again, PosePredictor(RedDot()), sinks, ClipSmoother())
"""


LEAN = """
import convpose
assert convpose.PosePredictor is PosePredictor
assert not {"torch", "lightning"} & set(sys.modules)
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_are_not_utf8(encoding, tmp_path, monkeypatch):
    """And a process that predicts does without Lightning."""
    pytest.importorskip("pyarrow")
    (tmp_path / "photos").mkdir()
    for name in (b"latin\xe9.png", "\u00fc.png".encode()):
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        shutil.copy(os.fsencode(tmp_path / "a.png"), os.fsencode(tmp_path / "photos") + b"/" + name)
    if encoding == sys.getfilesystemencoding():
        monkeypatch.chdir(tmp_path)
        exec(compile(NAMED, "named", "exec"), {})
    else:
        path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
        utf8 = "0" if encoding == "ascii" else "1"
        env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0"}
        command = [sys.executable, "-c", f"import convpose.predict.command\n{NAMED}{LEAN}"]
        subprocess.run(command, cwd=tmp_path, env=env | {"PYTHONPATH": path}, check=True)
    names = ["photos/latin\\xe9.png", "photos/\u00fc.png"]
    frames = json.loads((tmp_path / "json/keypoints.json").read_text("utf-8"))["frames"]
    assert [f["image"] for f in frames] == names
    coco = json.loads((tmp_path / "coco/keypoints_coco.json").read_text("utf-8"))
    assert [record["image_id"] for record in coco] == ["latin\\xe9", "\u00fc"]
    rows = csv.DictReader((tmp_path / "csv/keypoints.csv").read_text("utf-8").splitlines())
    assert [row["image"] for row in rows] == names
    table = pytest.importorskip("pyarrow.parquet").read_table(
        tmp_path / "parquet/keypoints.parquet"
    )
    assert table["image"].to_pylist() == names
    drawn = {os.fsencode(path.name) for path in (tmp_path / "csv").glob("*_pose.png")}
    assert drawn == {b"latin\\xe9_pose.png", "\u00fc_pose.png".encode()}


@pytest.mark.parametrize("kind", ["json", "yolo"])
def test_a_name_as_long_as_a_name_can_be(kind, predict):
    stem = "\u00fc" * 124 + "abc"
    Path("photos/0.png").rename(f"photos/{stem}.png")
    assert predict("source=photos", f"format={kind}").code == 0
    (drawing,) = Path("runs/predict").glob("\u00fc*_pose.png")
    assert stem.startswith(drawing.stem.removesuffix("_pose"))
    if kind == "yolo":
        assert Path(f"runs/predict/keypoints_yolo/labels/{stem}.txt").is_file()
        assert Path(f"runs/predict/keypoints_yolo/images/{stem}.png").is_file()
    assert not list(Path("runs").rglob("*.part"))


ENDED = """
import os, resource, signal
from pathlib import Path
from convpose.predict import pipeline
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test in the background ignores it
def no_file_grows():
    most = max([1, *(part.stat().st_size for part in Path("out").glob("*.part"))])
    for said in (1, 2):  # the log would not grow either
        os.dup2(os.open(os.devnull, os.O_WRONLY), said)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
look = pipeline._process
def stopped(batch, predictor, follower, outputs, clips, boxes, summary):
    if summary.frames == 4:
        {ending}
    return look(batch, predictor, follower, outputs, clips, boxes, summary)
pipeline._process = stopped
"""
ENDINGS = {  # of the process in its fifth frame → exit code
    "signal.raise_signal(signal.SIGTERM)": 143,
    "signal.raise_signal(signal.SIGINT)": 130,
    "no_file_grows()": 2,
}
FOUND = {  # format → how many people its files hold
    "json": lambda folder: len(json.loads((folder / "keypoints.json").read_text())["frames"]),
    "coco": lambda folder: len(json.loads((folder / "keypoints_coco.json").read_text())),
    "csv": lambda folder: len((folder / "keypoints.csv").read_text().splitlines()) - 1,
    "parquet": lambda folder: parquet_rows(folder / "keypoints.parquet"),
    "labelstudio": lambda folder: len(json.loads(next(folder.glob("*.json")).read_text())),
    "yolo": lambda folder: (
        len(list((folder / "keypoints_yolo").glob("data.yaml")))
        * len(list((folder / "keypoints_yolo/labels").glob("*.txt")))
    ),
    "cvat": lambda folder: len(
        json.loads(next(folder.glob("annotations/*")).read_text())["annotations"]
    ),
}


def parquet_rows(path):
    return pytest.importorskip("pyarrow.parquet").read_table(path).num_rows


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOUND)
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_found_before_the_end_stays(kind, ending, forker, unbroken, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(8):
        Image.new("RGB", (64, 64), (i, 0, 0)).save(tmp_path / "in" / f"{i}.png")
    life = forker.begin(
        *("source=in", f"run={Path(unbroken).resolve()}", "batch_size=1", f"format={kind}"),
        *("output=out", "draw=false", "accelerator=cpu"),
        module="convpose.predict",
        before=ENDED.format(ending=ending),
    )
    code, said = life.ended(), life.log.read_text()
    # Parquet has taken the room of its next rows before, and finds it
    expected_code, rows = (
        (0, 8) if (kind, ENDINGS[ending]) == ("parquet", 2) else (ENDINGS[ending], 4)
    )
    assert code == expected_code, said
    assert "Traceback" not in said
    # where no byte can be written, a file that is written in the end has none
    expected = 0 if code == 2 and kind == "cvat" else rows
    assert (FOUND[kind](tmp_path / "out") if expected else 0) == expected
    assert not list((tmp_path / "out").rglob("*.part"))


def test_boxes_of_a_file(predict):
    Path("boxes.csv").write_text(
        "image,x0,y0,x1,y1\n1.png,5,5,50,60\n1.png,20,10,60,60\n3.png,0,0,63,63\n"
    )
    ended = predict("source=photos", "boxes=boxes.csv")
    assert ended.code == 0, ended.err
    assert "3 poses in 4 frames" in ended.out
    frames = written_frames()
    assert [len(frame["people"]) for frame in frames] == [0, 2, 0, 1]
    assert frames[1]["people"][0]["box_px"] == [5, 5, 50, 60]


def test_keypoints_of_an_earlier_prediction_are_kept(predict):
    """Only those that differ: the same command again leaves one file."""
    first, other = Path("runs/predict/keypoints.json"), Path("runs/predict/keypoints_1.json")
    for _ in range(2):
        assert predict("source=photos/0.png").code == 0
        assert not other.exists()
    before = first.read_bytes()
    ended = predict("source=photos/1.png")
    said = "keypoints_1.json: keeps the keypoints of an earlier prediction; keypoints.json is new"
    assert said in ended.out
    assert other.read_bytes() == before
    assert written_frames()[0]["image"] == "photos/1.png"
    assert predict("source=photos/0.png").code == 0
    assert Path("runs/predict/keypoints_2.json").is_file()
    assert first.read_bytes() == before


def test_a_clip_of_several_people(predict):
    rng = np.random.default_rng(0)
    video = VideoFile(Path("clip.mp4"), 96, 64)
    rows = ["image,frame,x0,y0,x1,y1"]
    for i in range(8):
        video.write(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8), i / 30)
        rows += [f"clip.mp4,{i},{2 + i},4,{40 + i},60", f"clip.mp4,{i},{50 - i},4,{90 - i},60"]
    video.close()
    Path("boxes.csv").write_text("\n".join(rows) + "\n")
    ended = predict("source=clip.mp4", "boxes=boxes.csv", "format=csv", "batch_size=3")
    assert ended.code == 0, ended.err
    assert files() == ["clip_pose.mp4", "keypoints.csv"]
    with av.open("runs/predict/clip_pose.mp4") as file:
        assert sum(1 for _ in file.decode(video=0)) == 8
    assert [row["id"] for row in written_rows()] == ["", "", *["1", "2"] * 7]


def test_people_none(predict, monkeypatch):
    nobody = nn.Module()
    shapes = {"boxes": (0, 4), "labels": 0, "scores": 0}
    nobody.forward = lambda images: [{key: torch.zeros(size) for key, size in shapes.items()}]
    monkeypatch.setattr("torchvision.models.get_model", lambda *a, **k: nobody)
    ended = predict("source=photos", "detector=torchvision")
    assert (ended.code, ended.out) == (0, "0 poses in 4 frames; written to runs/predict\n")
    frames = written_frames()
    assert [frame["people"] for frame in frames] == [[]] * 4


def test_a_note_is_printed(predict):
    image = Image.new("RGB", (40, 40))
    image.save("dance.gif", save_all=True, append_images=[Image.new("RGB", (40, 40), "red")])
    ended = predict("source=dance.gif")
    assert ended.out.startswith("note: dance.gif: only the first of its frames is used\n")
    assert ended.code == 0


def test_several_people_are_noticed(predict):
    people = [SyntheticSource(2, 192).read_image(i)[0] for i in range(2)]
    Path("team").mkdir()
    Image.fromarray(people[0]).save("team/0.png")
    assert "more than one" not in predict("source=team", using="network=small").out
    for i in (1, 2):
        Image.fromarray(np.concatenate(people, axis=1)).save(f"team/{i}.png")
    said = "more than one person, it seems, but one skeleton for all; type detector=auto, or boxes="
    ended = predict("source=team/1.png", using="network=small")
    assert f"note: team/1.png: {said}FILE\n1 pose in 1 frame" in ended.out
    ended = predict("source=team", using="network=small")
    assert f"note: 2 of 3 frames, the first is team/1.png: {said}" in ended.out
    Path("boxes.csv").write_text("image,x0,y0,x1,y1\n1.png,0,0,380,190\n")
    assert said not in predict("source=team/1.png", "boxes=boxes.csv", using="network=small").out


def test_packaged_weights(predict, unbroken, monkeypatch):
    packaged.pack(unbroken, "own/small.safetensors")
    assert predict("source=photos/0.png", using="weights=own/small.safetensors").code == 0
    monkeypatch.setattr(engines, "FOLDER", Path("own").resolve())
    for using in (None, "network=small", "weights=packaged"):
        assert predict("source=photos/0.png", using=using).code == 0
    ended = predict("source=photos", using="weights=medium")
    assert ended.err == "error: weights=medium: type small, large or weights=FILE.safetensors\n"


REFUSED = {
    (): "what to look at? type source=FILE",
    ("source=photos", "detector=yolo"): "detector=yolo: no such option; did you mean yolox?",
    ("source=photos", "tracker.sur=1"): "unknown key tracker.sur; did you mean tracker.sure?",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_refused_in_one_message_and_nothing_written(arguments, predict):
    before = sorted(Path.cwd().rglob("*"))
    ended = predict(*arguments)
    assert (ended.code, ended.out) == (2, ""), ended
    assert ended.err.startswith("error: ")
    assert REFUSED[arguments] in ended.err
    assert "Traceback" not in ended.err
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_checkpoint_needs_a_run(predict):
    ended = predict("source=photos", "checkpoint=last", using=None)
    assert ended.err == "error: checkpoint=last: of which run? type run=FOLDER\n"


NAMES = [
    *("photo.jpg", "photo (1).jpg", "it's mine.png", 'say "hi".png', "a,b=c.jpg", "C:\\new\\a.jpg"),
    *("[2024] me.jpg", "trailing\\", "{a}.png", "#1 & 2.png", "~/photos/*.jpg", "back\\'slash.png"),
    *("Müller 体操.jpg", "0", "-", "true.png", "key: value.png", " spaced .png", "./a=b.jpg"),
    *("https://a.b/c.jpg?d=1&e=(2)", "http://a.b/c=d.jpg", "x" * 300 + ".jpg"),
]


def parsed(override):
    found = OverridesParser.create().parse_override(override)
    return found.get_key_element(), found.value()


@pytest.mark.parametrize("name", NAMES)
def test_any_name_reaches_the_application_as_it_is(name, tmp_path, monkeypatch):
    assert parsed(quoted(f"source={name}")) == ("source", name)
    monkeypatch.chdir(tmp_path)
    if "=" in name and ":" not in name:
        Path(name).touch()  # without the file it could be a key and its value
    (override,) = as_overrides([name])
    assert parsed(override) == ("source", name)


@pytest.mark.parametrize("name", ["[a,b]", "null", "'a'", "", "+1.jpg", "~mine.jpg", "key=.jpg"])
def test_a_file_that_is_there_is_never_a_key_or_a_list(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name:
        Path(name).touch()
    (override,) = as_overrides([name])
    assert parsed(override) == ("source", name)


@pytest.mark.parametrize(
    "argument",
    [
        *("source=null", "source='photo.jpg'", 'source="photo.jpg"', "source=[a.jpg,b.jpg]"),
        *("run=", "--help", "detector=yolox", "batch_size=3", "source=${paths.data}", "-m"),
        *("+trainer.fast=true", "++a=1", "~tracker", "hydra/launcher=joblib", "hydra.run.dir=x"),
        f"source=[{'photo.jpg,' * 100}b.jpg]",
    ],
)
def test_what_is_no_plain_path_is_left_to_hydra(argument):
    assert as_overrides([argument]) == [argument]


def test_a_path_stands_anywhere_and_options_keep_their_values():
    assert as_overrides(["--cfg", "job", "a b.jpg", "--package=predict", "run=my (run)"]) == [
        *("--cfg", "job", "--package=predict", "run='my (run)'", "source='a b.jpg'"),
    ]


@pytest.mark.parametrize("typed", [("a.jpg", "b.jpg"), ("source=a.jpg", "b.jpg")])
def test_a_second_source_is_refused(typed, predict):
    ended = predict(*typed)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "error: b.jpg: a second source; type one file, folder or URL, or a pattern in quotes: "
        "'*.jpg'\n"
    )


def test_help_without_importing_torch(tmp_path):
    code = (
        "import sys, runpy, convpose\n"
        "sys.argv = ['predict', '--help']\n"
        "try: runpy.run_module('convpose.predict', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'cv2', 'av', 'numpy'} & set(sys.modules)\n"
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    shown = r"^detector=\n    auto +The first .*\n    detr +An .*\n  \* none +No"
    assert re.search(shown, result.stdout, re.M)
    assert not list(tmp_path.iterdir())
