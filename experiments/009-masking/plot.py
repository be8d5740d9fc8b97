"""Plot errors of both networks on both labels: ``python experiments/009-masking/plot.py RUNS``.

RUNS is ``runs/009-masking``; the picture is labels.png, its numbers labels.csv, beside this file.
"""

import csv
import json
import sys
from pathlib import Path
from statistics import mean

from convpose.plot.curves import BLUE, INK, MUTED, ORANGE, new_figure, save_figure

PAPER = 0.0878
MEASURES = ("mse_pm1", "mse_unit", "pck@0.2", "epe_px")
SCORED = {"labels": ("scored on true labels", BLUE), "everything": ("on all coordinates", ORANGE)}
TRAINED = {"masked": "trained on true labels", "garbage": "trained on all coordinates"}

runs = Path(sys.argv[1])
figure, (axes,) = new_figure("MSE in [−1, 1], test subset: one metric, two labels", 1, 7.8)
figure.set_figheight(2.5)
rows = [("trained", "scored", "seed", *MEASURES)]
for scored, (label, colour) in SCORED.items():
    for y, trained in enumerate(TRAINED):
        files = sorted(runs.glob(f"{trained}-*/{scored}/metrics.json"))
        measures = [json.loads(file.read_text("utf-8")) for file in files]
        errors = [measure["mse_pm1"] for measure in measures]
        for seed, measure in enumerate(measures):
            numbers = (f"{measure[name]:.5f}" for name in MEASURES)
            rows.append((trained, scored, str(seed), *numbers))
        axes.plot(errors, [y] * len(errors), "o", ms=8, color=colour, alpha=0.4, mew=0)
        at = mean(errors), y
        text = f"{at[0]:.4f}"
        axes.annotate(text, at, (-8, 0), textcoords="offset points", ha="right", va="center")
    axes.plot([], [], "o", ms=8, color=colour, label=label)
    axes.axvline(measures[0]["baseline"]["mse_pm1"], color=colour, linestyle="--", linewidth=1.4)
axes.axvline(PAPER, color=INK, linewidth=1.4, label="the paper")
axes.plot([], [], "--", color=MUTED, linewidth=1.4, label="mean pose")
axes.set_yticks(range(len(TRAINED)), list(TRAINED.values()))
axes.set(ylim=(-0.6, 1.6), xlim=(0, 0.27))
figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=INK, fontsize=9)
save_figure(figure, Path(__file__).with_name("labels.png"))
with Path(__file__).with_name("labels.csv").open("w", encoding="utf-8", newline="") as file:
    csv.writer(file, lineterminator="\n").writerows(rows)
