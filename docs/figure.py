"""Draw the README's picture: ``python docs/figure.py RUN_FOLDER``, of an evaluated run.

Above, what its network finds on synthetic people that no training has seen, the first ones of
another seed; below, the epochs of the training and the share of each joint that is found.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image as PillowImage

from convpose import PosePredictor
from convpose.data.crop import joints_box_px
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConvposeError, DataError
from convpose.geometry import Image
from convpose.history import read_history
from convpose.plot.curves import BLUE, INK, MUTED, ORANGE, new_figure
from convpose.plot.skeletons import draw_truth_and_prediction, grid
from convpose.run import Run
from convpose.skeleton import SIDES

PAPER = "#fafaf8"  # of a contact sheet
COLUMNS, ROWS, SIDE_PX, DPI = 6, 2, 256, 110
SEED = 1  # the quick start's people have 0
PAINTED_PX = 2 * SIDE_PX  # drawn on twice as large, so that strokes are smooth


def people(run: Run) -> Image:
    """Draw a contact sheet of people with prediction (colour) and ground truth (dashed)."""
    predictor = PosePredictor.from_run(run.folder, accelerator="cpu")
    source = SyntheticSource(COLUMNS * ROWS, PAINTED_PX, SEED)
    tiles = []
    for i, truth in enumerate(source.annotations):
        image, _ = source.read_image(i)
        (person,) = predictor(image, [np.concatenate(joints_box_px(truth))])
        drawn = draw_truth_and_prediction(
            image, person.keypoints_px, truth.keypoints_px, predictor.skeleton
        )
        tiles.append(np.asarray(PillowImage.fromarray(drawn).resize((SIDE_PX, SIDE_PX))))
    return grid(tiles, COLUMNS)


def charts(run: Run, width_px: int) -> Figure:
    """Plot PCK over epochs and over joints; the mean pose is a dashed line, or marks."""
    path = run.folder / "evaluate_test" / "metrics.json"
    if not path.is_file():
        raise DataError(f"{path}: no such file; type python -m convpose.evaluate run={run.folder}")
    measures = json.loads(path.read_text("utf-8"))
    baseline = measures["baseline"]
    rows = read_history(run.folder / "metrics.csv", "val/pck@0.2", "val/pck@0.1")
    title = f"{100 * measures['pck@0.2']:.1f} % of the joints of {measures['num_images']:,} people"
    title += " in the test subset found within 0.2 torso diameters;"
    title += f" by the mean pose {100 * baseline['pck@0.2']:.1f} %"
    figure, (epochs, joints) = new_figure(title, columns=2, width=width_px / DPI)
    figure.set_facecolor(PAPER)
    figure.set_layout_engine("constrained", w_pad=0.16, h_pad=0.12)
    for axes in (epochs, joints):
        axes.set_facecolor(PAPER)
    for name, colour in (("pck@0.2", ORANGE), ("pck@0.1", BLUE)):
        known = [
            (row["epoch"] + 1, 100 * row[f"val/{name}"]) for row in rows if f"val/{name}" in row
        ]
        at, values = zip(*known, strict=True)
        label = name.replace("pck", "PCK")
        epochs.plot(at, values, color=colour, linewidth=2.4, marker="o", ms=4, label=label)
        epochs.axhline(100 * baseline[name], color=colour, linewidth=1.4, linestyle="--")
    epochs.set(xlabel="epoch", ylabel="validation %", ylim=(0, None), xlim=(0.5, at[-1] + 0.5))
    epochs.xaxis.set_major_locator(MaxNLocator(integer=True))
    epochs.plot([], [], color=MUTED, linewidth=1.4, linestyle="--", label="mean pose, test")
    epochs.legend(loc="upper left", frameon=False, labelcolor=INK, fontsize=10)
    _bars(joints, measures, baseline)
    return figure


def _bars(axes: Any, measures: Mapping[str, Any], baseline: Mapping[str, Any]) -> None:
    """Plot left and right of each body part side by side, in the colours of the drawings."""
    found = {name: 100 * joint["pck@0.2"] for name, joint in measures["per_joint"].items()}
    constant = {name: 100 * joint["pck@0.2"] for name, joint in baseline["per_joint"].items()}
    parts = dict.fromkeys(name.removeprefix("left_").removeprefix("right_") for name in found)
    order = sorted(parts, key=lambda part: -max(v for k, v in found.items() if k.endswith(part)))
    for at, part in enumerate(order):
        bars: dict[str, tuple[float, float, str]] = {"": (at, 0.62, MUTED)} if part in found else {}
        bars |= (
            {} if bars else {"left_": (at - 0.21, 0.38, ORANGE), "right_": (at + 0.21, 0.38, BLUE)}
        )
        for side, (x, width, colour) in bars.items():
            axes.bar(x, found[side + part], width=width, color=colour)
            ends = x - width / 2, x + width / 2
            axes.plot(ends, [constant[side + part]] * 2, color=INK, linewidth=1.6)
    names = [part.replace("_", " ") for part in order]
    axes.set_xticks(range(len(order)), names)
    axes.tick_params(axis="x", length=0, labelsize=10, labelcolor=INK)
    axes.grid(visible=False, axis="x")
    axes.set(ylabel="test, PCK@0.2 %", ylim=(0, 100))
    marks = [axes.bar(0, 0, color=colour) for colour in (ORANGE, BLUE)]
    marks += axes.plot([], [], color=INK, linewidth=1.6)
    axes.legend(marks, [*SIDES, "mean pose"], ncols=3, frameon=False, labelcolor=INK, fontsize=10)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder, or a study's folder: its newest run")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("convpose.png"))
    given = parser.parse_args()
    try:
        run = Run.find(given.run)
        sheet = people(run)
        figure = charts(run, sheet.shape[1])
    except ConvposeError as error:
        sys.exit(f"error: {error}")
    figure.set_dpi(DPI)
    figure.canvas.draw()
    below = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    whole = PillowImage.new("RGB", (sheet.shape[1], len(sheet) + len(below)), PAPER)
    whole.paste(PillowImage.fromarray(sheet), (0, 0))
    whole.paste(PillowImage.fromarray(below), (0, len(sheet)))
    whole.quantize(256, dither=PillowImage.Dither.FLOYDSTEINBERG).save(given.output, optimize=True)


if __name__ == "__main__":
    main()
