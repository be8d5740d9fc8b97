"""Draw pictures of a study's runs: ``python experiments/plot.py KIND runs/STUDY [KEY …]``.

KIND is ``runs`` (a row for each setting, a dot for each seed), ``heat`` (the monitor over two
keys), ``torso`` (PCK by torso angle, of runs that were evaluated) or ``speed`` (PCK over the
milliseconds that `speed` of studies.sh has measured). Runs whose names differ by the seed at the
end are one setting. The picture and the table of `convpose.compare` go to the folder of the same
name under experiments/.
"""

import json
import re
import shutil
import sys
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from convpose.compare.comparison import Comparison, read_comparison
from convpose.compare.figure import heat_map
from convpose.plot.curves import BLUE, INK, MUTED, ORANGE, new_figure, save_figure

HUES = (INK, BLUE, ORANGE, "#5b9a3c", "#b04a00", "#8cc3f0", "#a05bb0", "#f7b267", "#0b4a86", MUTED)
DASHES = ("-", "--")


def by_setting(comparison: Comparison) -> dict[str, list[float]]:
    """Collect PCK@0.2 in percent of each setting's seeds, which end the runs' names."""
    names = next(c for c in comparison.columns if c.name == "run").values
    reached = next(c for c in comparison.columns if c.name == comparison.monitor).values
    settings: dict[str, list[float]] = {}
    for name, value in zip(names, reached, strict=True):
        settings.setdefault(_setting(str(name)), []).append(100 * value)
    return settings


def _setting(name: str) -> str:
    return re.sub(r"-[012]$", "", name)


def runs(comparison: Comparison, *_: str) -> Figure:
    """Plot PCK@0.2 of every run; runs whose names differ by a number at the end share a row."""
    ordered = sorted(by_setting(comparison).items(), key=lambda row: mean(row[1]))
    figure, (axes,) = new_figure(comparison.title, columns=1, width=7.2)
    figure.set_figheight(1.2 + 0.34 * len(ordered))
    for y, (_, values) in enumerate(ordered):
        axes.plot(values, [y] * len(values), "o", ms=7, color=BLUE, alpha=0.55, mew=0)
        axes.plot(mean(values), y, "|", ms=16, mew=2, color=INK)
        axes.annotate(
            f"{mean(values):.1f}",
            (max(values), y),
            (9, 0),
            textcoords="offset points",
            va="center",
            color=INK,
        )
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    axes.set(xlabel="PCK@0.2 %, validation subset, best epoch", ylim=(-0.6, len(ordered) - 0.4))
    axes.margins(x=0.12)
    return figure


def heat(comparison: Comparison, x: str, y: str) -> Figure:
    """Plot the monitor over two keys, averaged over other keys."""
    return heat_map(comparison, x, y)


def torso(comparison: Comparison, *_: str) -> Figure:
    """Plot PCK@0.2 over the torso angle: a line for each setting, the mean of its seeds."""
    figure, (axes,) = new_figure(comparison.title, columns=1, width=7.8)
    settings: dict[str, list[dict[str, Any]]] = {}
    for run in comparison.runs:
        measures = json.loads((run.folder / "evaluate_val" / "metrics.json").read_text("utf-8"))
        settings.setdefault(_setting(run.folder.name), []).append(measures)
    reached = {name: mean(m["pck@0.2"] for m in seeds) for name, seeds in settings.items()}
    ordered = sorted(settings, key=lambda name: -reached[name])
    for (dash, hue), name in zip(product(DASHES, HUES), ordered, strict=False):
        groups = [seed["per_torso_angle"] for seed in settings[name]]
        bins = [angle for angle in groups[0] if angle != "unknown"]
        values = [100 * mean(group[angle]["pck@0.2"] for group in groups) for angle in bins]
        label = f"{name}  {100 * reached[name]:.1f}"
        axes.plot(bins, values, f"o{dash}", color=hue, label=label, linewidth=1.6, ms=4)
    axes.set(xlabel="torso angle, degrees from upright", ylabel="PCK@0.2 %")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    return figure


def speed(comparison: Comparison, *_: str) -> Figure:
    """Plot PCK@0.2 over the milliseconds of a picture: seeds, mean; hollow: from scratch."""
    figure, (axes,) = new_figure(comparison.title, columns=1, width=9)
    settings = by_setting(comparison)
    above = float("inf")
    for run in sorted(comparison.runs, key=lambda run: -mean(settings[_setting(run.folder.name)])):
        file = run.folder / "latency.json"
        if not file.is_file():
            continue
        measured = json.loads(file.read_text("utf-8"))["speeds"]
        ms = next(row["median"] for row in measured if row["what"].startswith("network, "))
        setting = _setting(run.folder.name)
        reached = settings[setting]
        fill = BLUE if "imagenet" in setting else "none"
        seeds = "o" if len(reached) > 1 else ""
        axes.plot([ms] * len(reached), reached, seeds, ms=4, color=MUTED, mew=0)
        axes.plot(ms, mean(reached), "o", ms=9, color=BLUE, mfc=fill, mew=1.8)
        label = re.sub(r"-(imagenet|scratch)$", "", setting)
        spread = max(map(max, settings.values())) - min(map(min, settings.values()))
        at = (9, -4 if above - mean(reached) > spread / 20 else -13)  # below one just above it
        axes.annotate(label, (ms, mean(reached)), at, textcoords="offset points", color=INK)
        above = mean(reached)
    axes.set_xscale("log")
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 1.5, 2, 3, 5)), major_formatter="{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(
        xlabel="ms of the network, ONNX Runtime, one thread", ylabel="PCK@0.2 %, validation subset"
    )
    axes.margins(x=0.24, y=0.12)
    return figure


def main() -> None:
    """Draw one picture; see the module."""
    kind, study, *keys = sys.argv[1:]
    folder = Path(study)
    target = Path(__file__).parent / folder.name
    figure = {"runs": runs, "heat": heat, "torso": torso, "speed": speed}[kind](
        read_comparison([folder], folder), *keys
    )
    name = "_".join([kind, *(key.rpartition(".")[2] for key in keys)])
    save_figure(figure, target / f"{name}.png")
    for table in ("compare.md", "compare.csv"):
        if (folder / table).is_file():
            shutil.copy(folder / table, target / table)


if __name__ == "__main__":
    main()
