"""Figures hold the data they are given, whatever display there is."""

import subprocess
import sys

import numpy as np
import pytest

from convpose.errors import DataError
from convpose.plot.curves import (
    error_histogram,
    loss_by_rate,
    pck_curve,
    reliability,
    save_figure,
    training_curves,
)

AT = [k / 100 for k in range(21)]


def a_curve(top: float) -> list[float]:
    return np.linspace(0, top, 21).tolist()


def measures(top: float) -> dict:
    curves = {"total": a_curve(top), "head": a_curve(top + 0.1), "wrist": a_curve(top - 0.1)}
    return {"pck_curve": {"thresholds": AT, **curves}}


def test_pck_curve_holds_total_parts_and_the_dashed_mean_pose() -> None:
    figure = pck_curve(measures(0.6), measures(0.2), "lspet, split paper")
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["head  70.0", "total  60.0", "wrist  50.0", "mean pose  20.0"]
    assert lines["total  60.0"].get_ydata()[-1] == pytest.approx(60.0)
    assert lines["total  60.0"].get_xdata() == pytest.approx(AT)
    assert lines["mean pose  20.0"].get_linestyle() == "--"
    assert axes.get_ylim() == (0, 100)


def test_pck_curve_of_a_part_without_labels() -> None:
    nothing = measures(0.5)
    nothing["pck_curve"]["wrist"] = [float("nan")] * 21
    figure = pck_curve(nothing, measures(0.2), "t")
    assert "wrist  nan" in [line.get_label() for line in figure.axes[0].lines]


def test_histogram_counts_shares_of_labelled_keypoints() -> None:
    errors = np.array([[1.0, 1.0, np.nan], [3.0, 50.0, np.nan]])
    figure = error_histogram(errors, np.full((2, 3), 7.0), "px", upper=10, title="t")
    (axes,) = figure.axes
    heights = [patch.get_height() for patch in axes.patches if hasattr(patch, "get_height")]
    assert max(heights) == pytest.approx(50.0)
    assert sum(heights) == pytest.approx(75.0)  # a quarter lies beyond
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [
        "prediction: median 2.00, 25.0 % beyond 10",
        "mean pose: median 7.00, 0.0 % beyond 10",
    ]


CSV = """\
epoch,train/loss,val/loss,val/pck@0.2
0,0.8,0.5,0.10
1,0.4,0.3,0.30
2,0.2,0.4,0.25
"""


@pytest.fixture
def metrics_csv(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(CSV)
    return path


@pytest.mark.parametrize(("monitor", "mode"), [("val/pck@0.2", "max"), ("val/loss", "min")])
def test_training_curves_count_from_one_and_mark_the_best_epoch(
    metrics_csv, monitor: str, mode: str
) -> None:
    losses, scores = training_curves(metrics_csv, monitor, mode, "run").axes
    lines = {line.get_label(): line for line in losses.lines}
    assert list(lines) == ["train/loss", "val/loss", f"best {monitor}, epoch 2"]
    assert lines["train/loss"].get_xdata().tolist() == [1, 2, 3]
    assert lines["train/loss"].get_ydata().tolist() == [0.8, 0.4, 0.2]
    assert lines["val/loss"].get_ydata().tolist() == [0.5, 0.3, 0.4]
    assert list(lines[f"best {monitor}, epoch 2"].get_xdata()) == [2, 2]
    assert scores.lines[0].get_ydata() == pytest.approx([10, 30, 25])


def test_a_diverged_epoch_is_not_the_best(metrics_csv) -> None:
    metrics_csv.write_text(CSV + "3,nan,nan,nan\n")
    losses, _ = training_curves(metrics_csv, "val/pck@0.2", "max", "run").axes
    assert losses.lines[-1].get_label() == "best val/pck@0.2, epoch 2"
    assert np.isfinite(losses.lines[0].get_ydata()).all(), "it has no place on the axis"


def test_lines_go_on_over_epochs_without_validation(metrics_csv) -> None:
    metrics_csv.write_text(CSV + "3,0.1,,\n4,0.1,0.2,0.5\n")
    losses, _ = training_curves(metrics_csv, "val/pck@0.2", "max", "run").axes
    train, val, _ = losses.lines
    assert list(train.get_xdata())[-2:] == [4, 5]
    assert 4 not in val.get_xdata()
    assert val.get_ydata()[-1] == 0.2


def test_training_curves_without_a_best_epoch(metrics_csv) -> None:
    metrics_csv.write_text("epoch,train/loss,val/loss,val/pck@0.2\n0,0.5,nan,nan\n")
    losses, _ = training_curves(metrics_csv, "val/pck@0.2", "max", "run").axes
    assert [line.get_label() for line in losses.lines] == ["train/loss", "val/loss"]
    ticks = [label.get_text() for label in losses.get_xticklabels()]
    assert ticks == ["0", "1", "2"], "one epoch has no 0.945"


def test_missing_file_and_column_are_named(metrics_csv, tmp_path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        training_curves(tmp_path / "none.csv", "val/loss", "min", "run")
    with pytest.raises(DataError, match=r"no column val/epe_px; it has epoch, train/loss"):
        training_curves(metrics_csv, "val/epe_px", "min", "run")


def test_loss_by_rate_marks_the_chosen_rate() -> None:
    figure = loss_by_rate([1e-4, 1e-3, 1e-2, 1e-1], [1.0, 0.9, 0.5, 3.0], chosen=0.01)
    (axes,) = figure.axes
    curve, mark = axes.lines
    assert axes.get_xscale() == "log"
    assert list(curve.get_xdata()) == [1e-4, 1e-3, 1e-2, 1e-1]
    assert list(curve.get_ydata()) == [1.0, 0.9, 0.5, 3.0]
    assert list(mark.get_xdata()) == [0.01, 0.01]
    assert mark.get_label() == "0.01"


def test_reliability_by_hand() -> None:
    scores, hits = np.array([0.12, 0.18, 0.95, 1.0]), np.array([False, True, True, True])
    rates, counts = reliability(scores, hits, "t").axes
    assert rates.lines[1].get_xdata() == pytest.approx([0.15, 0.975])
    assert rates.lines[1].get_ydata() == pytest.approx([50, 100])
    assert rates.lines[1].get_label() == "found; calibration error 0.188"
    assert [bar.get_height() for bar in counts.patches] == [50, 50]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_figures_are_saved_with_their_folder(tmp_path, suffix: str) -> None:
    path = tmp_path / "plots" / f"pck{suffix}"
    save_figure(pck_curve(measures(0.6), measures(0.2), "t"), path)
    assert path.stat().st_size > 5000


def test_pyplot_and_its_global_state_are_not_imported() -> None:
    code = "import sys, convpose.plot.curves; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
