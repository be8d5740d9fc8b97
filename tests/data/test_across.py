"""Every data set is trained on, evaluated with a network of another, described and exported."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_coco import fake_coco
from fake_flic import fake_flic
from fake_lsp import fake_files, write_folder, write_zip
from omegaconf import OmegaConf
from tiny import QUIET, TINY, composed, tiny_config, tiny_run

from convpose.data.build import build_datamodule
from convpose.data.coco import CocoSource
from convpose.errors import ConfigError
from convpose.evaluate.command import evaluate
from convpose.files import conf_folder
from convpose.history import read_history
from convpose.train.command import train

pytestmark = pytest.mark.slow
SMALL = [o for o in TINY if not o.startswith("data")]
SMALL += ["data.input_size_px=32", "data.batch_size=8", "data.num_workers=0"]
SMALL += ["trainer.max_epochs=1", *QUIET]
JOINTS = ("left_shoulder", "right_shoulder", "left_hip", "right_hip", "neck")


def csv_files() -> dict[str, bytes]:
    """A CSV file of the people of the fake COCO: shoulders, hips, and noses taken for necks."""
    files = fake_coco()
    lines = [",".join(["image", *(f"{name}_{c}" for name in JOINTS for c in "xyv")])]
    for subset in ("train2017", "val2017"):
        content = json.loads(files[f"annotations/person_keypoints_{subset}.json"])
        for entry in content["annotations"]:
            values = [entry["keypoints"][3 * i : 3 * i + 3] for i in (5, 6, 11, 12, 0)]
            cells = [str(value) for point in values for value in point]
            lines.append(",".join([f"{subset}/{entry['image_id']:012d}.jpg", *cells]))
    return files | {"people.csv": "\n".join(lines).encode()}


def hr_files() -> dict[str, bytes]:
    files = fake_files("lspet", images=40)
    return {name.replace("images/", ""): content for name, content in files.items()}


FAKES = {"coco": 9, "mpii": None, "mpii_json": 9, "flic": 9, "hr_lspet": None, "csv": None}  # tests


@pytest.fixture(scope="module")
def folder(fakes: Path) -> Path:
    """A data folder with all of them."""
    write_folder(fakes / "hr-lspet", hr_files())
    return write_folder(fakes / "csv", csv_files()).parent


@pytest.fixture(scope="module")
def synthetic_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    tiny_run(run, "trainer.max_epochs=1", *QUIET)
    return run


def place(name: str, folder: Path) -> list[str]:
    """Overrides that find the data: in the data folder; a CSV file has to be named."""
    source = [f"data.source={folder / 'csv' / 'people.csv'}"] if name == "csv" else []
    return [f"data={name}", f"paths.data={folder}", *source]


def test_every_reader_is_tested():
    elsewhere = ("lsp", "lspet", "lsp_lspet", "synthetic", "base")
    formats = ("yolo", "labelstudio", "sleap")  # in train/test_formats.py
    tested = {f"data={name}" for name in (*elsewhere, *formats, *FAKES)}
    there = {f"data={path.stem}" for path in (conf_folder() / "data").glob("*.yaml")}
    assert there <= tested


@pytest.mark.parametrize("name", FAKES)
def test_it_is_ready_for_a_training(name, folder):
    data = build_datamodule(composed("train", *SMALL, *place(name, folder)))
    data.setup()
    batch = next(iter(data.train_dataloader()))
    labelled = batch["visibility"] > 0
    assert batch["image"].shape == (8, 3, 32, 32)
    assert labelled.any()
    assert batch["keypoints"][labelled].isfinite().all()
    assert all(np.isfinite(values).all() for values in data.keypoint_statistics())
    assert len(data.datasets["val"]) > 0


def test_masked_joints_do_not_stop_a_training(folder, tmp_path):
    best = train(composed("train", *SMALL, *place("flic", folder)), tmp_path / "run")
    assert 0 <= best <= 1
    (row,) = read_history(tmp_path / "run" / "metrics.csv")
    assert row["train/loss"] > 0
    assert row["val/epe_px"] > 0


@pytest.mark.parametrize("name", FAKES)
def test_a_network_of_other_data_is_evaluated_on_it(
    name, folder, synthetic_run, tmp_path, monkeypatch
):
    if name != "coco":  # figures with masked joints need to be drawn once only
        monkeypatch.setattr("convpose.evaluate.command.save_figure", lambda figure, path: None)
    overrides = [f"run={synthetic_run}", *place(name, folder), f"output={tmp_path}", "gallery=1"]
    evaluate(composed("evaluate", *overrides, "data.num_workers=0"))
    measures = json.loads((tmp_path / "metrics.json").read_text())
    images = FAKES[name]
    if images is not None:
        assert measures["num_images"] == images
    masked = {"coco": ["neck", "head_top"], "flic": ["left_knee", "right_ankle", "neck"]}
    for joint, values in measures["per_joint"].items():
        if joint in masked.get(name, ()):
            assert values["num_keypoints"] == 0
            assert values["pck@0.2"] is None
        elif name in ("coco", "mpii_json"):
            assert values["num_keypoints"] > 0
    stem = "mpii" if name == "mpii_json" else name
    assert measures["protocol"].startswith(f"{stem}, test subset of split ")
    assert (tmp_path / "report.md").read_text().count("|") > 100


def test_everybody_is_scored_but_nobody_trained_on_with_the_split_whole(
    folder, synthetic_run, tmp_path, monkeypatch
):
    monkeypatch.setattr("convpose.evaluate.command.save_figure", lambda figure, path: None)
    whole = [*place("csv", folder), "data.split=whole"]
    overrides = [f"run={synthetic_run}", f"output={tmp_path / 'out'}", "gallery=1", *whole]
    overrides += ["batch_size=64"]  # more than there are people: only a training needs a batch
    evaluate(composed("evaluate", *overrides, "data.num_workers=0"))
    measures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    people = len((folder / "csv" / "people.csv").read_text().splitlines()) - 1
    left_out = 20  # crowds and people without joints
    assert measures["num_images"] == people - left_out
    with pytest.raises(ConfigError, match=r"data\.split=whole: the training images would validate"):
        train(composed("train", *SMALL, *whole), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "skeleton", "count"),
    [
        ("coco", "coco17", 17),
        ("mpii", "mpii16", 16),
        ("flic", "flic11", 11),
    ],
)
def test_it_trains_on_its_own_skeleton(name, skeleton, count, folder, tmp_path, monkeypatch):
    if name != "coco":
        monkeypatch.setattr("convpose.evaluate.command.save_figure", lambda figure, path: None)
    overrides = [*SMALL, *place(name, folder), f"data.skeleton={skeleton}"]
    train(composed("train", *overrides), tmp_path / "run")
    assert OmegaConf.load(tmp_path / "run" / "config.yaml").data.skeleton.name == skeleton
    evaluate(composed("evaluate", f"run={tmp_path / 'run'}", f"paths.data={folder}", "gallery=1"))
    measures = json.loads((tmp_path / "run" / "evaluate_test" / "metrics.json").read_text())
    assert len(measures["per_joint"]) == count
    assert all(values["num_keypoints"] for values in measures["per_joint"].values())
    monkeypatch.setattr("convpose.evaluate.command.save_figure", lambda figure, path: None)
    # on other data with the run's skeleton
    overrides = [*place("mpii_json", folder), f"output={tmp_path / 'out'}", "gallery=0"]
    evaluate(composed("evaluate", f"run={tmp_path / 'run'}", *overrides, "data.num_workers=0"))
    measures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert len(measures["per_joint"]) == count
    assert measures["per_joint"]["left_wrist"]["num_keypoints"] > 0


def test_data_of_one_skeleton_only_says_so():
    with pytest.raises(
        ConfigError,
        match=r"data\.skeleton=coco17: synthetic has the joints of lsp14 and no others; type "
        r"data\.skeleton=lsp14, or data=coco, mpii or flic",
    ):
        build_datamodule(tiny_config("data.skeleton=coco17"))
    with pytest.raises(ConfigError, match=r"data\.skeleton=body: unknown skeleton"):
        build_datamodule(tiny_config("data.skeleton=body"))


# --- python -m convpose.data ---


def describe(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    from convpose.data.__main__ import main

    monkeypatch.setattr(sys, "argv", ["data", *overrides])
    main()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "coco",
            [
                "images of coco 30 people of coco 45 ",
                "coco: 10 people left out who are a crowd or to be ignored",
                "coco: no counterpart, so masked: neck, head_top",
                "split official: train ",
            ],
        ),
        ("mpii", ["mpii: upper_neck is the neck of lsp14", "not used: pelvis, thorax"]),
        ("flic", ["left and right are their own", "split official: train 32, val 4, test 9"]),
    ],
)
def test_it_is_described(name, said, folder, monkeypatch, capsys):
    describe(monkeypatch, *place(name, folder), "decode=false")
    printed = " ".join(capsys.readouterr().out.split())
    for text in said:
        assert text in printed


def test_it_is_drawn_with_its_own_skeleton(folder, monkeypatch, capsys, tmp_path):
    gallery = tmp_path / "gallery.png"
    overrides = ["data.skeleton=coco17", f"data.gallery={gallery}", "data.gallery_images=4"]
    describe(monkeypatch, *place("coco", folder), *overrides)
    assert gallery.stat().st_size > 10_000
    assert "left_eye" in capsys.readouterr().out


def test_it_is_exported(folder, monkeypatch, capsys, tmp_path):
    describe(monkeypatch, *place("mpii", folder), f"coco={tmp_path / 'all.json'}")
    assert f"coco {tmp_path / 'all.json'}, 30 people of lsp14" in capsys.readouterr().out
    source = CocoSource(str(tmp_path / "all.json"), "", images=str(folder / "mpii"), name="mpii")
    assert len(source.annotations) == 30
    subset = [f"coco={tmp_path / 'test.json'}", "coco_part=test"]
    describe(monkeypatch, *place("mpii_json", folder), *subset)
    source = CocoSource(str(tmp_path / "test.json"), "", images=str(folder / "mpii"), name="mpii")
    assert len(source.annotations) == 9
    assert {a.subset for a in source.annotations} == {"test"}


def test_a_csv_with_an_unknown_joint_ends_in_one_message(monkeypatch, capsys, tmp_path):
    (tmp_path / "people.csv").write_text("image,left_hand_x,left_hand_y\n")
    with pytest.raises(SystemExit) as end:
        describe(monkeypatch, "data=csv", f"data.source={tmp_path / 'people.csv'}")
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "unknown column 'left_hand_x', 'left_hand_y'" in error
    assert "joints known: right_ankle, " in error
    assert "Traceback" not in error


def test_a_crop_cache_keeps_boxes_and_subsets(folder, monkeypatch, capsys, tmp_path):
    """The official split and the crops are the same, without the archive."""
    cache = tmp_path / "crops"
    describe(monkeypatch, *place("coco", folder), f"data.cache={cache}", "decode=false")
    first = capsys.readouterr().out
    overrides = ["data=coco", f"paths.data={tmp_path}", f"data.cache={cache}", "decode=false"]
    describe(monkeypatch, *overrides)
    second = capsys.readouterr().out
    split = next(line for line in first.splitlines() if line.startswith("split official"))
    assert split in second


def test_zips_are_read_in_place(tmp_path, monkeypatch, capsys):
    write_zip(tmp_path / "FLIC.zip", fake_flic())
    describe(monkeypatch, "data=flic", f"paths.data={tmp_path}")
    assert "split official: train 32, val 4, test 9" in capsys.readouterr().out
