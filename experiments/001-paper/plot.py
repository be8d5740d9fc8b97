"""Redraw figure 4 with all seeds: ``python experiments/001-paper/plot.py runs/001-paper``.

Writes training.png (25 epochs) and training_200.png, and their numbers as curves.csv, beside this
file, and prints the numbers of the page's tables. Missing runs are left out.
"""

import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev

from matplotlib.ticker import MaxNLocator

from convpose.history import Row, read_history
from convpose.plot.curves import BLUE, INK, MUTED, ORANGE, new_figure, save_figure

STUDIES = {
    "full": ("training.png", "The paper's recipe at 64 px: 25 epochs, three seeds"),
    "quarter-200": ("training_200.png", "200 epochs at a quarter of the width, three seeds"),
}
COLUMNS = ("train/loss", "val/loss", "val/pck@0.2", "val/epe_px", "val/spread")
MEASURES = {
    "mse_unit": 5,
    "mse_pm1": 4,
    "mse_sq": 4,
    "pck@0.2": 3,
    "pck@0.1": 3,
    "pcp@0.5": 3,
    "epe_px": 2,
}
MEAN_POSE = 0.0280  # its validation loss
HERE = Path(__file__).parent


def spread(values: list[float], digits: int) -> str:
    """Return mean and sample deviation."""
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def crossing(rows: list[Row]) -> tuple[int | None, int | None]:
    """Find the first epoch, from 1, with the lower training loss, and the first for good."""
    below = [row["train/loss"] < row["val/loss"] for row in rows]
    if not any(below):
        return None, None
    last_above = max((i for i, lower in enumerate(below) if not lower), default=-1)
    return below.index(True) + 1, last_above + 2 if below[-1] else None


def draw(name: str, runs: dict[str, list[Row]]) -> None:
    """Plot losses and PCK of all seeds, their mean bold."""
    file, title = STUDIES[name]
    figure, (losses, scores) = new_figure(title, columns=2, width=10.4)
    epochs = range(1, 1 + min(len(rows) for rows in runs.values()))
    for axes, column, label, colour, scale in (
        (losses, "train/loss", "training", BLUE, 1),
        (losses, "val/loss", "validation", ORANGE, 1),
        (scores, "val/pck@0.2", "validation", ORANGE, 100),
    ):
        seeds = [[scale * rows[i - 1][column] for i in epochs] for rows in runs.values()]
        for values in seeds:
            axes.plot(epochs, values, color=colour, linewidth=0.9, alpha=0.4)
        means = [mean(values) for values in zip(*seeds, strict=True)]
        axes.plot(epochs, means, color=colour, linewidth=2, label=label)
    losses.axhline(MEAN_POSE, color=MUTED, linestyle="--", linewidth=1.4, label="mean pose")
    losses.set(ylabel="loss", ylim=(None, 0.034))
    scores.set_ylabel("PCK@0.2 %")
    for axes in (losses, scores):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper right", frameon=False, labelcolor=INK, fontsize=9)
    scores.get_legend().remove()
    save_figure(figure, HERE / file)


def tell(runs: Iterable[Path]) -> None:
    """Read the metrics of a setting on the test subset."""
    folders = [folder for run in runs for folder in run.glob("evaluate_test*")]
    for kind in sorted({folder.name for folder in folders}):
        files = [folder / "metrics.json" for folder in folders if folder.name == kind]
        found = [json.loads(file.read_text("utf-8")) for file in files]
        for measure, digits in MEASURES.items():
            values = [entry[measure] for entry in found]
            print(f"  {kind} {measure} {spread(values, digits)}", *(f"{v:.5f}" for v in values))
        limbs = [entry["limbs"]["pck@0.2"] for entry in found]
        print(f"  {kind} limbs pck@0.2 {spread(limbs, 3)}", *(f"{v:.5f}" for v in limbs))


rows: list[tuple[str, ...]] = [("run", "epoch", *COLUMNS)]
for name in STUDIES:
    folders = sorted(Path(sys.argv[1]).glob(f"{name}-[0-9]"))
    runs = {folder.name: read_history(folder / "metrics.csv", *COLUMNS) for folder in folders}
    if not runs:
        continue
    draw(name, runs)
    for run, history in runs.items():
        print(run, "the training loss is lower from epoch, and for good from:", *crossing(history))
        for row in history:
            cells = (f"{row[column]:.5f}" for column in COLUMNS)
            rows.append((run, str(int(row["epoch"]) + 1), *cells))
    tell(folders)
with (HERE / "curves.csv").open("w", encoding="utf-8", newline="") as file:
    csv.writer(file, lineterminator="\n").writerows(rows)
