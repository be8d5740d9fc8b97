"""Evaluation through its door: rebuilt runs, files of predictions, and what it refuses."""

import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from tiny import composed

from convpose.data.build import build_datamodule
from convpose.errors import ConfigError, DataError, ModelError
from convpose.evaluate import command as module
from convpose.evaluate.command import evaluate, evaluated_config, seen_in_training
from convpose.evaluate.predictions import Predictions
from convpose.evaluate.scoring import GroundTruth
from convpose.history import best_row, read_history
from convpose.run import Run
from convpose.runtime.packaged import pack
from convpose.skeleton import SIDES
from convpose.train.command import train

DATA = (
    "data=synthetic",
    "data.sources.synthetic.num_images=48",
    "data.sources.synthetic.image_size_px=64",
    "data.input_size_px=32",
    "data.num_workers=0",
    "data.batch_size=8",
)


def configure(application: str, *overrides: str) -> DictConfig:
    return composed(application, *DATA, *overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "run"
    cfg = configure(
        "train",
        "augment=none",
        "model.depth=11",
        "model.width=0.0625",
        "trainer=cpu",
        "trainer.precision=32-true",
        "trainer.max_epochs=3",
        "callbacks.preview=null",
        "optimizer.lr=0.02",
    )
    train(cfg, folder)
    return folder


def evaluation(*overrides: str) -> DictConfig:
    return composed("evaluate", "gallery=2", *overrides)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "save_figure", lambda figure, path: None)


def test_in_loop_measures_equal_the_evaluation(run: Path) -> None:
    evaluate(evaluation(f"run={run}", "split=val", "accelerator=cpu"))

    measures = json.loads((run / "evaluate_val" / "metrics.json").read_text())
    best = best_row(read_history(run / "metrics.csv"), "val/pck@0.2", "max")
    for name in ("pck@0.2", "pck@0.1", "auc", "pcp@0.5", "epe_px", "mse_unit"):
        assert measures[name] == pytest.approx(best[f"val/{name}"], rel=1e-6, abs=1e-6), name
    assert measures["pck@0.2"] < 0.2
    assert 0 <= measures["score_ece"] < 0.25, "0.4 and more before the calibration"
    assert (run / "evaluate_val" / "reliability.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def tested(run: Path) -> Path:
    """The report of the test subset; the run is named by its study."""
    evaluate(evaluation(f"run={run.parent}", "split=test", "accelerator=cpu"))
    return run / "evaluate_test"


def test_report_has_every_measure_and_picture(tested: Path) -> None:
    measures = json.loads((tested / "metrics.json").read_text())
    top = {
        *("pck@0.2", "pck@0.1", "auc", "pcp@0.5", "epe_px", "mse_unit", "mse_pm1", "mse_sq"),
        *("num_images", "num_keypoints", "torso_fallbacks", "protocol", "limbs", "per_joint"),
        *("per_part", "baseline"),
    }
    assert top <= set(measures)
    assert set(measures["limbs"]) == {"pck@0.2", "pck@0.1", "auc"}
    assert top - {"baseline", "protocol"} <= set(measures["baseline"])
    assert measures["protocol"] == "synthetic, test subset of split paper, crop box"
    assert measures["num_images"] == 7  # the last 15 % of 48
    assert measures["mse_pm1"] == pytest.approx(4 * measures["mse_unit"])
    for groups in (measures["per_torso_angle"], measures["baseline"]["per_torso_angle"]):
        assert sum(group["num_images"] for group in groups.values()) == 7
        assert groups["unknown"]["pck@0.2"] is None  # synthetic people have all joints
    assert "left wrist" in (tested / "report.md").read_text()
    assert "| 120-180 " in (tested / "report.md").read_text()
    for name in ("pck_curve", "error_histogram", "training", "sample", "worst", "best"):
        assert (tested / f"{name}.png").stat().st_size > 1000, name
    predictions = Predictions.load(tested / "predictions.npz")
    assert predictions.keypoints_px.shape == (7, 14, 2)


@pytest.mark.usefixtures("without_pictures")
def test_a_file_scores_like_the_run_that_wrote_it(tested: Path) -> None:
    evaluate(configured_file(tested / "predictions.npz", "gallery=0"))

    from_file = json.loads((tested / "predictions_test" / "metrics.json").read_text())
    assert from_file == json.loads((tested / "metrics.json").read_text())


@pytest.mark.usefixtures("without_pictures")
def test_packaged_weights_score_like_the_run_and_say_what_they_were_trained_on(
    run: Path, tested: Path, tmp_path: Path
) -> None:
    weights = pack(run, tmp_path / "own.safetensors")
    cfg = configure("evaluate", f"weights={weights}", f"paths.runs={tmp_path}", "gallery=0")
    pck = evaluate(cfg)
    of_run = json.loads((tested / "metrics.json").read_text())
    assert pck == pytest.approx(of_run["pck@0.2"], abs=0.02), "weights in half precision"
    found = json.loads((tmp_path / "evaluate/own_synthetic_test/metrics.json").read_text())
    assert found["protocol"] == (
        "synthetic, test subset of split paper (network of synthetic, split paper), crop box"
    )


@pytest.mark.usefixtures("without_pictures")
def test_the_training_part_is_scored_without_augmentation(run: Path, tmp_path: Path) -> None:
    mirrored = tmp_path / "mirrored"
    shutil.copytree(run, mirrored)
    cfg = OmegaConf.load(mirrored / "config.yaml")
    cfg.augment.mirror_probability = 1.0
    OmegaConf.save(cfg, mirrored / "config.yaml")

    overrides = ("split=train", "accelerator=cpu", "gallery=0")
    plain = evaluate(evaluation(f"run={run}", *overrides))

    assert evaluate(evaluation(f"run={mirrored}", *overrides)) == plain
    a, b = (Predictions.load(r / "evaluate_train" / "predictions.npz") for r in (run, mirrored))
    assert np.array_equal(a.keypoints_px, b.keypoints_px)


def test_the_training_part_of_a_run_is_not_reduced_twice(run: Path, tmp_path: Path) -> None:
    half = Path(shutil.copytree(run, tmp_path / "half"))
    cfg = OmegaConf.load(half / "config.yaml")
    cfg.data.train_share = 0.5
    OmegaConf.save(cfg, half / "config.yaml")

    trained = evaluated_config(Run(half).config_to_score(""), evaluation(f"run={half}"))
    datamodule = build_datamodule(trained)
    datamodule.setup()

    assert datamodule.split == json.loads((half / "splits.json").read_text())


@pytest.mark.parametrize(("word", "expected"), [("data.batch_size=3", 3), ("batch_size=2", 2)])
def test_a_typed_batch_counts_and_else_that_of_the_run(
    word: str, expected: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for typed, size in (([word], expected), ([], 8)):
        monkeypatch.setattr("convpose.config.arguments.overrides", lambda words=typed: words)
        cfg = composed("evaluate", "data=synthetic", *typed)
        assert evaluated_config(Run(run).config_to_score(""), cfg).data.batch_size == size


@pytest.mark.usefixtures("without_pictures")
def test_images_that_were_trained_on_are_counted(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = (f"run={run}", "accelerator=cpu", "gallery=0", f"output={tmp_path}")
    evaluate(configure("evaluate", *keys, "data.split=whole"))

    measures = json.loads((tmp_path / "metrics.json").read_text())
    split = "whole (34 of these images were trained on)"
    assert measures["protocol"] == f"synthetic, test subset of split {split}, crop box"
    assert "the run was trained on 34 of these 48 images; leave data= out" in caplog.text


def test_what_was_trained_on_is_told_by_ids_that_mean_the_same(run: Path) -> None:
    split = json.loads((run / "splits.json").read_text())
    same, other = (
        configure("evaluate", f"data.sources.synthetic.seed={seed}").data for seed in (0, 5)
    )

    assert seen_in_training(Run(run), same, [*split["train"][:3], *split["test"]]) == 3
    assert seen_in_training(Run(run), same, split["test"]) == 0
    assert seen_in_training(Run(run), other, split["train"]) == 0  # other people
    photographs = composed("evaluate", "data=lspet").data
    assert seen_in_training(Run(run), photographs, split["train"][:2]) == 2


@pytest.mark.usefixtures("without_pictures")
def test_two_looks_have_their_own_report(run: Path) -> None:
    data = (f"run={run}", "data.crop=letterbox", "accelerator=cpu", "gallery=0")
    evaluate(configure("evaluate", *data, "looks=2"))

    measures = json.loads((run / "evaluate_synthetic_test_two_looks/metrics.json").read_text())
    assert measures["protocol"].endswith("two looks, crop letterbox")


@pytest.mark.usefixtures("without_pictures")
def test_another_checkpoint_has_its_own_folder(run: Path) -> None:
    evaluate(evaluation(f"run={run}", "accelerator=cpu", "gallery=0", "checkpoint=last"))

    assert (run / "evaluate_test_last" / "metrics.json").is_file()


def test_a_damaged_history_does_not_cost_the_report(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "metrics.csv").write_text("epoch,val/loss\n0,hal")
    evaluate(evaluation(f"run={copy}", "accelerator=cpu", "gallery=0", f"output={tmp_path / 'to'}"))
    assert "no training.png" in caplog.text
    assert "metrics.csv: line 2 is no row of numbers" in caplog.text
    assert (tmp_path / "to" / "report.md").is_file()
    assert not (tmp_path / "to" / "training.png").exists()


def test_people_without_a_torso_leave_a_report_without_pictures(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joints = [f"{side}_{name}" for side in SIDES for name in ("shoulder", "elbow", "wrist")]
    rows = [",".join(["image", *(f"{joint}_{axis}" for joint in joints for axis in "xy")])]
    for i in range(3):
        assert cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((64, 64, 3), 90, np.uint8))
        rows.append(",".join([f"{i}.png", *(f"{10 + i + 4 * k}" for k in range(12))]))
    (tmp_path / "people.csv").write_text("\n".join(rows))

    data = ("data=csv", f"data.source={tmp_path / 'people.csv'}", "data.split=whole")
    keys = ("accelerator=cpu", "data.num_workers=0", f"output={tmp_path / 'report'}")
    evaluate(evaluation(f"run={run}", *data, *keys))

    assert (tmp_path / "report" / "report.md").is_file()
    assert not (tmp_path / "report" / "sample.png").exists()
    assert "sample.png" not in capsys.readouterr().out


def configured_file(file: Path, *overrides: str) -> DictConfig:
    return configure("evaluate", f"predictions={file}", *overrides)


@pytest.fixture(scope="module")
def truth() -> GroundTruth:
    datamodule = build_datamodule(configure("evaluate"))
    datamodule.setup()
    return GroundTruth.of(datamodule.datasets["test"], datamodule.skeleton)


def test_the_truth_itself_is_perfect(truth: GroundTruth) -> None:
    measures = truth.score(truth.keypoints_px)

    assert measures["pck@0.1"] == 1.0
    assert measures["pcp@0.5"] == 1.0
    assert measures["epe_px"] == 0.0
    assert measures["mse_unit"] == 0.0


def test_a_shift_in_pixels_is_the_same_share_of_the_crop(truth: GroundTruth) -> None:
    shifted = truth.keypoints_px + torch.tensor([3.0, 4.0])

    measures = truth.score(shifted)

    side_px = truth.unit_to_px[:, 0, 0].double()  # square crops without rotation
    assert measures["epe_px"] == pytest.approx(5.0, rel=1e-6)
    assert measures["mse_sq"] == pytest.approx(float((25 / side_px**2).mean()), rel=1e-5)


def test_unit_and_pixels_are_inverse(truth: GroundTruth) -> None:
    unit = truth.to_unit(truth.keypoints_px)

    assert bool(((unit > 0) & (unit < 1)).all())  # a box crop holds its joints
    errors = truth.errors(truth.keypoints_px)
    assert errors.shape == (7, 14)
    assert np.all(errors == 0)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.yaml; type run=FOLDER"):
        Run.find(tmp_path)


@pytest.mark.parametrize(
    ("data", "override", "message"),
    [
        ("data.crop=box", "gallery=0", r"looks=2 data.crop=box: .* type data=lspet data.crop=lett"),
        ("data.crop={synthetic:box}", "gallery=0", "looks=2 data.crop={'synthetic': 'box'}"),
        ("data.crop=image", "robustness=true", "looks=2 robustness=true: .* type looks=1"),
    ],
)
def test_looks_that_would_say_nothing(run: Path, data: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(configure("evaluate", f"run={run}", data, override, "looks=2"))


def test_a_missing_checkpoint_is_named(run: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.ckpt: no such checkpoint; type checkpoint=last"):
        evaluate(evaluation(f"run={run}", "checkpoint=gone.ckpt"))


def test_a_run_without_its_split_says_what_to_type(run: Path, tmp_path: Path) -> None:
    gone = Path(shutil.copytree(run, tmp_path / "run"))
    (gone / "splits.json").unlink()
    with pytest.raises(
        ConfigError, match=r"splits\.json: No such .*; or type data=NAME data\.split="
    ):
        evaluate(evaluation(f"run={gone}"))


def test_another_network_is_refused(run: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"model.other": torch.zeros(10**6)}}, tmp_path / "other.ckpt")

    with pytest.raises(ModelError, match=r"other\.ckpt: not a checkpoint of this network"):
        evaluate(evaluation(f"run={run}", f"checkpoint={tmp_path / 'other.ckpt'}"))


def test_a_file_with_an_unknown_id_is_refused(truth: GroundTruth, tmp_path: Path) -> None:
    ids = np.array(["stranger", *truth.image_ids[1:]])
    Predictions(ids, truth.keypoints_px.numpy()).save(tmp_path / "mine.npz")

    with pytest.raises(DataError, match=r"mine\.npz: 'image_id' holds stranger"):
        evaluate(configured_file(tmp_path / "mine.npz"))


def test_the_command_line_says_it_in_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from convpose.evaluate.__main__ import main

    monkeypatch.setattr(sys, "argv", ["evaluate", "run=nowhere"])
    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 2
    assert "run=nowhere: the folder does not exist" in capsys.readouterr().err


@pytest.mark.usefixtures("without_pictures")
def test_test_time_options_have_their_own_report_and_say_what_they_cost(run, capsys):
    keys = ("split=val", "accelerator=cpu", "mirror_test=true", "quarter_turns=true", "gallery=0")
    evaluate(evaluation(f"run={run}", *keys))
    out = capsys.readouterr().out
    assert "flip test, quarter turns: 8 looks at each crop" in out
    measures = json.loads((run / "evaluate_val_mirror_test_quarter_turns/metrics.json").read_text())
    assert "flip test, quarter turns" in measures["protocol"]
    assert measures["num_images"] == 7
