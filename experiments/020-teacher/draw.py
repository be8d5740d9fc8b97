"""Draw what each target brings over the labels alone, with intervals over the images.

``python experiments/020-teacher/draw.py runs/020-teacher`` reads the predictions of the validation
subset that run.sh has written, of all seeds that are there; seeds are drawn beside each other.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convpose.data.build import build_datamodule
from convpose.evaluate.predictions import Predictions, match
from convpose.evaluate.scoring import GroundTruth
from convpose.metrics.functional import keypoint_distance, reference_size
from convpose.plot.curves import BLUE, MUTED, new_figure, save_figure
from convpose.run import Run

ARMS = ("label", "mask", "teacher", "mix", "alone")
DRAWS = 2000  # of the paired bootstrap


def hits(truth: GroundTruth, file: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count joints within 0.2 torsos and labelled joints of each image, (N,) each."""
    found = match(Predictions.load(file), truth.image_ids, truth.skeleton, file)
    size, _ = reference_size(truth.keypoints_px, truth.visibility, truth.skeleton, truth.box_px)
    counted = (truth.visibility > 0) & size.isfinite()[:, None]
    distance = keypoint_distance(torch.from_numpy(found.keypoints_px), truth.keypoints_px)
    right = (distance <= 0.2 * size[:, None]) & counted
    return right.sum(dim=1).numpy(), counted.sum(dim=1).numpy()


def main(study: Path) -> None:
    """Draw each arm and seed that is there, and print its numbers."""
    figure, (axes,) = new_figure("PCK@0.2 over that of the labels alone", 1, 6.4)
    axes.axhline(0, color=MUTED, linewidth=1)
    drawn = []
    for start in sorted(study.glob("labels-*")):
        seed = start.name.rpartition("-")[2]
        data = build_datamodule(Run(start).config)
        data.setup()
        truth = GroundTruth.of(data.datasets["val"], data.skeleton)
        base, counted = hits(truth, start / "evaluate_val_last" / "predictions.npz")
        chosen = np.random.default_rng(0).integers(0, len(base), (DRAWS, len(base)))
        print(f"labels {seed}: {100 * base.sum() / counted.sum():.2f} %")
        for arm in ARMS:
            file = study / f"{arm}-{seed}" / "evaluate_val_last" / "predictions.npz"
            if not file.is_file():
                continue
            more = hits(truth, file)[0] - base
            gain = 100 * more.sum() / counted.sum()
            shares = 100 * more[chosen].sum(axis=1) / counted[chosen].sum(axis=1)
            low, high = np.percentile(shares, [2.5, 97.5])
            print(f"{arm} {seed}: {gain:+.2f} points, 95 % {low:+.2f} to {high:+.2f}")
            x = len(drawn)
            axes.errorbar(x, gain, [[gain - low], [high - gain]], fmt="o", color=BLUE, capsize=4)
            axes.annotate(f"{gain:+.1f}", (x, gain), (8, -3), textcoords="offset points")
            drawn.append(arm if len(list(study.glob("labels-*"))) == 1 else f"{arm} {seed}")
    axes.set_xticks(range(len(drawn)), drawn)
    axes.set_xlim(-0.5, len(drawn) - 0.3)
    axes.set_ylabel("points of PCK@0.2, LSPET validation")
    save_figure(figure, Path(__file__).with_name("gain.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
