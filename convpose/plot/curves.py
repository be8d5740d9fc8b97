"""Draw figures of a result: PCK curve, errors, reliability, and the course of the training.

Every function returns a matplotlib `Figure` of its own: no pyplot, no global state, no display.
`new_figure` defines the look that all share.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from convpose.files import replacing
from convpose.history import best_row, read_history

INK, MUTED, GRID = "#22262e", "#7b818c", "#e6e7ea"
BLUE, ORANGE = "#1f83d6", "#f0801a"
# One hue per kind of joint: head in grey, the arm in oranges, the leg in blues, darker outwards.
PART_COLOURS = {
    "head": "#8a8f99",
    "shoulder": "#f7b267",
    "elbow": "#f0801a",
    "wrist": "#b04a00",
    "hip": "#8cc3f0",
    "knee": "#1f83d6",
    "ankle": "#0b4a86",
}


def pck_curve(
    measures: Mapping[str, Any],
    baseline: Mapping[str, Any],
    title: str,
    unit: str = "torso diameters",
) -> Figure:
    """Draw PCK over the threshold 0 … 0.2, in total and per body part, the mean pose dashed.

    Args:
        measures: with ``pck_curve`` as `PoseMetrics.compute` returns it.
        baseline: the same of the mean pose.
        title: names the split and protocol.
        unit: of the thresholds.
    """
    figure, (axes,) = new_figure(title, columns=1, width=7.2)
    curves = dict(measures["pck_curve"])
    at = curves.pop("thresholds")
    curves["mean pose"] = baseline["pck_curve"]["total"]
    looks: dict[str, dict[str, Any]] = {
        "total": {"color": INK, "linewidth": 2.8, "zorder": 3},
        "mean pose": {"color": INK, "linewidth": 1.4, "linestyle": "--"},
    }
    for name, curve in sorted(curves.items(), key=lambda item: -np.nan_to_num(item[1][-1])):
        look = looks.get(name, {"color": PART_COLOURS.get(name, MUTED), "linewidth": 1.5})
        axes.plot(at, 100 * np.array(curve), label=f"{name}  {100 * curve[-1]:.1f}", **look)
    axes.set(xlim=(0, at[-1]), ylim=(0, 100), xlabel=f"threshold ({unit})", ylabel="PCK %")
    axes.xaxis.set_major_locator(MultipleLocator(0.05))
    legend = axes.legend(title=f"PCK@{at[-1]:g}", loc="center left", bbox_to_anchor=(1.01, 0.5))
    _plain(legend)
    return figure


def error_histogram(
    errors: NDArray[np.floating],
    baseline_errors: NDArray[np.floating],
    unit: str,
    upper: float,
    title: str,
) -> Figure:
    """Draw the share of keypoints per error, the mean pose as an outline, medians marked.

    Args:
        errors: distances of any shape; those that are NaN (unlabelled) are left out.
        baseline_errors: the same of the mean pose.
        unit: of the errors, for the axis: ``px`` or ``torso diameters``.
        upper: end of the axis; the legend gives the share of larger errors.
        title: names the split and protocol.
    """
    figure, (axes,) = new_figure(title, columns=1, width=6.4)
    edges = np.linspace(0, upper, 41).tolist()
    kinds: tuple[tuple[str, NDArray[np.floating], dict[str, Any]], ...] = (
        ("prediction", errors, {"color": BLUE, "alpha": 0.85}),
        ("mean pose", baseline_errors, {"color": INK, "histtype": "step", "linewidth": 1.4}),
    )
    for name, values, look in kinds:
        finite = values[np.isfinite(values)]
        share = np.full(finite.shape, 100 / max(1, finite.size))
        median = float(np.median(finite)) if finite.size else math.nan
        beyond = float(share[finite > upper].sum())
        label = f"{name}: median {median:.2f}, {beyond:.1f} % beyond {upper:g}"
        axes.hist(finite, edges, weights=share, label=label, **look)
        axes.axvline(median, color=look["color"], linestyle=":", linewidth=1.4)
    axes.set(xlim=(0, upper), xlabel=f"error ({unit})", ylabel="keypoints %")
    _plain(axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0)))
    return figure


def reliability(
    scores: NDArray[np.floating],
    hits: NDArray[np.bool_],
    title: str,
    unit: str = "torso diameters",
) -> Figure:
    """Draw the share of keypoints within 0.2 torso diameters over the score, and their number.

    Args:
        scores: (M,) in [0, 1].
        hits: (M,) whether the keypoint was found.
        title: names the split and protocol.
        unit: instead of torso diameters.
    """
    # loads torch, which `convpose.compare` does without
    from convpose.metrics.functional import calibration_error

    figure, (rates, counts) = new_figure(title, columns=2, width=10.4)
    bins, which, count = np.unique(
        np.clip((np.asarray(scores, np.float64) * 10).astype(int), 0, 9),
        return_inverse=True,
        return_counts=True,
    )
    mean_score, rate = np.bincount(which, scores) / count, np.bincount(which, hits) / count
    rates.plot([0, 1], [0, 100], color=MUTED, linestyle="--", linewidth=1.4, label="calibrated")
    label = f"found; calibration error {calibration_error(scores, hits):.3f}"
    rates.plot(mean_score, 100 * rate, color=BLUE, marker="o", linewidth=1.9, label=label)
    rates.set(xlim=(0, 1), ylim=(0, 100), xlabel="score", ylabel=f"found within 0.2 {unit} %")
    counts.bar((bins + 0.5) / 10, 100 * count / count.sum(), width=0.09, color=BLUE, alpha=0.85)
    counts.set(xlim=(0, 1), xlabel="score", ylabel="keypoints %")
    _plain(rates.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2))
    return figure


def training_curves(metrics_csv: Path, monitor: str, mode: str, title: str) -> Figure:
    """Draw training loss, validation loss and PCK@0.2 over the epochs, the best epoch marked.

    Args:
        metrics_csv: of a run, one row an epoch; epochs are counted from 1 here.
        monitor: the column that chose the best checkpoint.
        mode: ``min`` or ``max`` of it.
        title: names the run.

    Raises:
        DataError: no such file, or a column that it lacks.
    """
    rows = read_history(metrics_csv, "train/loss", "val/loss", "val/pck@0.2", monitor)
    figure, (losses, scores) = new_figure(title, columns=2, width=10.4)
    epochs = [int(row["epoch"]) + 1 for row in rows]
    marker = "o" if len(rows) < 40 else None
    for axes, name, colour, scale in (
        (losses, "train/loss", BLUE, 1),
        (losses, "val/loss", ORANGE, 1),
        (scores, "val/pck@0.2", ORANGE, 100),
    ):
        values = np.array([scale * row.get(name, math.nan) for row in rows])
        known = np.isfinite(values)  # not every epoch is validated
        at, shown = np.array(epochs)[known], values[known]
        axes.plot(at, shown, color=colour, linewidth=1.9, label=name, marker=marker, ms=3.2)
    best = best_row(rows, monitor, mode)
    for axes in (losses, scores):
        if best:
            at = int(best["epoch"]) + 1
            label = f"best {monitor}, epoch {at}"
            axes.axvline(at, color=MUTED, linestyle=":", linewidth=1.4, label=label)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _plain(axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3))
    losses.set_ylabel("loss")
    scores.set_ylabel("PCK@0.2 %")
    return figure


def loss_by_rate(rates: Sequence[float], losses: Sequence[float], chosen: float) -> Figure:
    """Draw the loss over the rates that the learning-rate finder tried, the chosen one marked."""
    figure, (axes,) = new_figure("Learning-rate finder", columns=1, width=7.2)
    axes.plot(rates, losses, color=BLUE, linewidth=1.9)
    axes.axvline(chosen, color=ORANGE, linestyle=":", linewidth=1.8, label=f"{chosen:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    _plain(axes.legend(loc="upper left"))
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the suffix (``.png``, ``.svg``, ``.pdf``)."""
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=160, facecolor="white")


def new_figure(title: str, columns: int, width: float) -> tuple[Figure, Sequence[Axes]]:
    """Make an empty figure with axes in a row, in the look of all reports."""
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    lines = textwrap.fill(title, round(10 * width))  # letters of this size in an inch
    figure.suptitle(
        lines, x=0.01, horizontalalignment="left", fontsize=12, color=INK, weight="bold"
    )
    row: Sequence[Axes] = figure.subplots(1, columns, squeeze=False)[0]
    for axes in row:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.tick_params(colors=MUTED, labelsize=9)
        axes.xaxis.label.set(color=INK, fontsize=10)
        axes.yaxis.label.set(color=INK, fontsize=10)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, row


def _plain(legend: Legend) -> None:
    """Style a legend: no box, small, its title muted."""
    legend.set_frame_on(False)
    legend.get_title().set(color=MUTED, fontsize=9)
    for text in legend.get_texts():
        text.set(color=INK, fontsize=9)
