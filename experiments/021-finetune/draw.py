"""Draw PCK@0.2 over the number of labelled photographs, and write the table beside it.

``python experiments/021-finetune/draw.py runs/021-finetune`` reads what run.sh has evaluated.
"""

import csv
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

from convpose.plot.curves import BLUE, MUTED, ORANGE, new_figure, save_figure

HERE = Path(__file__).parent
STARTS = {
    "packaged": ("network=small", BLUE),
    "imagenet": ("ImageNet", ORANGE),
    "nothing": ("nothing", MUTED),
}


def main(study: Path) -> None:
    """Collect the seeds of each start and number, and draw their mean and range."""
    reached: dict[str, dict[int, list[float]]] = {start: defaultdict(list) for start in STARTS}
    rows = []
    for file in sorted(study.glob("*/evaluate_test/metrics.json")):
        found = re.fullmatch(r"([a-z]+)-(\d+)-(\d)", file.parent.parent.name)
        if found is None:
            continue
        start, number, seed = found[1], int(found[2]), int(found[3])
        measures = json.loads(file.read_text("utf-8"))
        pck = [round(100 * measures[f"pck@{t}"], 2) for t in (0.2, 0.1)]
        reached[start][number].append(pck[0])
        rows.append((start, number, seed, *pck))
    figure, (axes,) = new_figure("Ten keypoints that nobody has seen", 1, 5.2)
    for start, (label, colour) in STARTS.items():
        numbers = sorted(reached[start])
        values = [reached[start][n] for n in numbers]
        means = [mean(v) for v in values]
        axes.plot(numbers, means, "o-", color=colour)
        low, high = map(min, values), map(max, values)
        axes.fill_between(numbers, list(low), list(high), color=colour, alpha=0.2, lw=0)
        axes.annotate(label, (numbers[-1], means[-1]), (6, 0), textcoords="offset points")
    numbers = sorted(reached["packaged"])
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.minorticks_off()
    axes.set(xlabel="labelled photographs", ylabel="PCK@0.2 of held-out people, %", ylim=(0, 100))
    axes.margins(x=0.22)
    save_figure(figure, HERE / "reached.png")
    with (HERE / "reached.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["start", "photographs", "seed", "pck@0.2", "pck@0.1"])
        writer.writerows(sorted(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
