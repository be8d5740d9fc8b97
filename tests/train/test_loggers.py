"""Loggers: several at once, the same names in each, nothing sent anywhere."""

import csv
import re
import sqlite3
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import composed, tiny_config

from convpose.errors import ConfigError
from convpose.train.build import build_loggers
from convpose.train.command import train

pytestmark = pytest.mark.slow
SHOWN = {"main/train/loss", "main/val/loss", "main/val/pck@0.2", "main-best/val/pck@0.2"}
PICTURES = {"pictures/fixed", "pictures/worst"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


def run_with(*loggers: str, more: tuple[str, ...] = ()) -> Path:
    folder = Path("runs/rates/003_lr-0.01")
    cfg = tiny_config(f"logger=[{','.join(loggers)}]", "trainer.max_epochs=1", *more)
    train(cfg, folder)
    return folder


def test_tables_and_events_side_by_side(here):
    folder = run_with("tensorboard", "csv")
    events = EventAccumulator(str(folder)).Reload().Tags()
    rows = list(csv.DictReader((folder / "csv/metrics.csv").read_text().splitlines()))
    assert set(rows[0]) - {"step"} == set(events["scalars"])
    assert set(events["scalars"]) > SHOWN
    assert set(events["images"]) == PICTURES
    names = {path.name for path in (folder / "csv").iterdir()}
    assert names == {
        *("metrics.csv", "hparams.yaml", "pictures_fixed_0000.png", "pictures_worst_0000.png")
    }
    assert "optimizer.lr: " in (folder / "csv/hparams.yaml").read_text()
    assert (folder / "metrics.csv").read_text().startswith("epoch,val/"), "the run's own"


def test_mlflow_in_a_file_here(here):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    run_with("mlflow")
    with sqlite3.connect("mlflow.db") as store:

        def column(query):
            return {row[0] for row in store.execute(query)}

        assert {name.replace("@", "_") for name in SHOWN} < column("select key from metrics")
        assert "rates" in column("select name from experiments")
        assert column("select name from runs") == {"003_lr-0.01"}
        assert column("select status from runs") == {"FINISHED"}
        assert "optimizer.lr" in column("select key from params")
    names = {path.name for path in Path("mlruns").rglob("*.*")}
    assert {"fixed_0000.png", "worst_0000.png", "command.md", "layers.md"} <= names


def test_weights_and_biases_offline(here):
    pytest.importorskip("wandb", reason="wandb is not installed")
    run_with("wandb")
    (run,) = Path("wandb").glob("offline-run-*")
    (record,) = run.glob("*.wandb")
    content = record.read_bytes()
    for name in SHOWN:
        assert name.encode() in content
    assert b"003_lr-0.01" in content
    assert b"optimizer.lr" in content
    pictures = {path.name[:14] for path in (run / "files/media/images/pictures").iterdir()}
    assert {name[:5] for name in pictures} == {"fixed", "worst"}


def test_a_training_that_is_continued_is_one_run(here):
    """Also where it is continued for longer: no parameter of MLflow may change."""
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("wandb", reason="wandb is not installed")
    file = "logger.mlflow.tracking_uri=sqlite:///continued.db"  # MLflow keeps files of a name open
    run_with("mlflow", "wandb", more=(file,))
    run_with("mlflow", "wandb", more=(file, "trainer.max_epochs=2", "ckpt_path=last"))
    with sqlite3.connect("continued.db") as store:
        query = "select run_uuid, step from metrics where key = 'main/val/loss' order by step"
        (first, zero), (second, one) = store.execute(query)
        assert (first, zero, one) == (second, 0, 1)
        assert list(store.execute("select status from runs")) == [("FINISHED",)]
        tags = dict(store.execute("select key, value from tags where key like 'continued%'"))
        assert tags == {"continued.trainer.max_epochs": "2"}
    folders = list(Path("wandb").glob("offline-run-*"))
    ids = {file.stem for folder in folders for file in folder.glob("run-*.wandb")}
    assert (len(folders), len(ids)) == (2, 1), "wandb sync makes one run of one id"


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_package_that_is_missing_names_its_extra(package, here, monkeypatch):
    monkeypatch.setattr("convpose.errors.find_spec", lambda name: None)
    cfg = composed("train", f"logger=[csv,{package}]")
    message = f"{package} is not installed; type pip install 'convpose[{package}]'"
    with pytest.raises(ConfigError, match=re.escape(message)):
        build_loggers(cfg, here)


@pytest.mark.parametrize("name", ["tensorboard", "csv"])
def test_save_dir_is_obeyed(name, here):
    cfg = composed("train", f"logger={name}", f"logger.{name}.save_dir=elsewhere")
    (logger,) = build_loggers(cfg, Path("runs/rates/003_lr-0.01"))
    place = Path("elsewhere/rates/003_lr-0.01") / ("csv" if name == "csv" else "")
    assert Path(logger.log_dir) == place


def test_a_logger_of_somebody_else(here):
    target = "lightning.pytorch.loggers.CSVLogger"
    cfg = composed("train", "logger=none", f"+logger={{_target_: {target}}}")
    (logger,) = build_loggers(cfg, Path("runs/a"))
    assert Path(logger.log_dir) == Path("runs/a")
    cfg = composed("train", "logger=none", f"+logger={{_target_: {target}, save_dir: b}}")
    (logger,) = build_loggers(cfg, Path("runs/a"))
    assert Path(logger.log_dir) == Path("b")
