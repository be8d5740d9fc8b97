"""Runs, packaged weights, exports and searches that version 0.1.0 (8a2a505) has made still work."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY, Command, history

from convpose import PosePredictor
from convpose.compare.__main__ import main as compare
from convpose.evaluate.__main__ import main as evaluate
from convpose.predict.predictor import open_network
from convpose.run import Run
from convpose.search.__main__ import main as search

pytestmark = pytest.mark.slow
OLD = Path(__file__).parent / "runs_of_0.1.0"
PICTURE = np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)


@pytest.fixture
def runs(tmp_path):
    """Copies of the old runs in an empty folder."""
    for name in ("regression", "heatmap"):
        shutil.copytree(OLD / name, tmp_path / "runs" / name)
    return tmp_path / "runs"


def call(command: Command, application, *arguments: str) -> str:
    command.monkeypatch.setattr(sys, "argv", ["application", *arguments])
    application()
    return command.capsys.readouterr().out


@pytest.mark.parametrize("name", ["regression", "heatmap"])
def test_an_old_run_is_evaluated_to_the_last_digit(name, runs, command):
    call(command, evaluate, f"run=runs/{name}", "split=val")
    measures = json.loads((runs / name / "evaluate_val/metrics.json").read_text())
    old = json.loads((OLD / name / "evaluated.json").read_text())
    for key in ("pck@0.2", "pck@0.1", "auc", "epe_px", "mse_unit"):
        assert measures[key] == pytest.approx(old[key], rel=1e-6), key
    assert measures["per_joint"].keys() == old["per_joint"].keys()


def test_an_old_run_is_continued(runs, command):
    overrides = [o for o in TINY if not o.startswith("trainer.max_epochs")]
    ended = command(
        *overrides, "callbacks.preview=null", "logger=none", "trainer.max_epochs=2",
        f"hydra.run.dir={runs}/regression", "ckpt_path=last",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    rows = history(runs / "regression")
    assert [row["epoch"] for row in rows] == [0, 1]
    assert rows[0]["val/pck@0.2"] == pytest.approx(0.0595, abs=1e-4)


def test_old_runs_are_compared(runs, command):
    out = call(command, compare, "study=runs")
    assert "HeatmapHead" in (runs / "compare.csv").read_text() or "heatmap" in out
    assert "2 runs" in out


def test_the_newest_old_run_is_found(runs):
    assert Run.find(runs).config.data.input_size_px == 32


@pytest.mark.parametrize("file", ["heatmap.safetensors", "simcc.onnx"])
def test_old_weights_and_exports_predict(file):
    if file.endswith(".onnx"):
        pytest.importorskip("onnxruntime", reason="convpose[onnx] is not installed")
    (person,) = PosePredictor(open_network(weights=OLD / file))(PICTURE)
    assert person.keypoints_px.shape == (14, 2)
    assert np.isfinite(person.keypoints_px).all()


def test_an_old_search_goes_on(tmp_path, command):
    pytest.importorskip("optuna", reason="convpose[search] is not installed")
    (tmp_path / "runs/search").mkdir(parents=True)
    shutil.copy(OLD / "study.db", tmp_path / "runs/search/study.db")
    parts = ("data.batch_size", "trainer.max_epochs", "callbacks.preview")
    overrides = [o for o in TINY if not o.startswith(parts)]
    out = call(
        command, search, *overrides, "search.parameters.data.batch_size.choices=[4,8]",
        "study=search", "trainer.max_epochs=1", "trials=3", "logger=none", "callbacks.preview=null",
    )  # fmt: skip
    assert "study search: 3 complete" in out
