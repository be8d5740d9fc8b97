"""PCK under graded damage: one table, one plot."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from convpose.data.corruption import KINDS, SEVERITIES, Corruption
from convpose.data.datamodule import PoseDataModule
from convpose.data.dataset import PoseLandmarksDataset
from convpose.evaluate.scoring import Truth, predict
from convpose.plot.curves import new_figure, save_figure
from convpose.plot.tables import Table, percent
from convpose.progress import progress

SEED = 0  # of the damage: the same images for every network


def robustness(
    model: nn.Module,
    datamodule: PoseDataModule,
    split: str,
    clean: float,
    folder: Path,
    device: torch.device,
    precision: str,
) -> dict[str, list[float]]:
    """PCK@0.2 of a split under every kind of damage at every severity.

    Writes ``robustness.json``, ``.md`` and ``.png``, and prints the table.

    Args:
        model: see `predict`.
        datamodule: of the split.
        split: part whose images are damaged.
        clean: PCK@0.2 of the undamaged images.
        folder: of the evaluation.
        device: see `predict`.
        precision: likewise.

    Returns:
        PCK@0.2 by kind, one value a severity.
    """
    dataset = datamodule.datasets[split]
    truth = Truth.of(dataset, datamodule.skeleton)
    pck: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for kind, severity in progress([(k, s) for k in KINDS for s in SEVERITIES], "damaging"):
        damaged = PoseLandmarksDataset(
            dataset.source,
            dataset.indices,
            dataset.crop,
            dataset.input_size_px,
            datamodule.skeleton,
            Corruption(kind, severity, datamodule.skeleton),
            SEED,
        )
        loader = DataLoader(
            damaged, batch_size=datamodule.batch_size, num_workers=datamodule.num_workers
        )
        predictions = predict(model, loader, device, precision, show=False)
        measures = truth.score(torch.from_numpy(predictions.keypoints_px))
        pck[kind].append(float(measures["pck@0.2"]))
    title = f"PCK@0.2 under damage, {'+'.join(datamodule.sources)} {split}"
    content = {"clean": clean, "pck@0.2": pck, "seed": SEED}
    (folder / "robustness.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    table = damage_table(pck, clean, title)
    (folder / "robustness.md").write_text(table.to_markdown(), encoding="utf-8")
    save_figure(damage_curves(pck, clean, title), folder / "robustness.png")
    Console().print(table.to_rich())
    return pck


def damage_table(pck: Mapping[str, Sequence[float]], clean: float, title: str) -> Table:
    """A row a kind: the mean over severities, what is lost of the clean PCK, each severity."""
    means = {kind: float(np.mean(values)) for kind, values in pck.items()}
    rows = [
        (kind, percent(means[kind]), _lost(means[kind], clean), *map(percent, pck[kind]))
        for kind in sorted(pck, key=means.__getitem__)
    ]
    overall = float(np.mean(list(means.values())))
    rows.append(("mean", percent(overall), _lost(overall, clean), *[""] * len(SEVERITIES)))
    header = ("damage", "mean %", "lost of clean %", *map(str, SEVERITIES))
    return Table(title, header, rows, f"clean {percent(clean)} %; columns 1 to 5: severity")


def damage_curves(pck: Mapping[str, Sequence[float]], clean: float, title: str) -> Figure:
    """PCK@0.2 over the severity, one line a kind; severity 0 is the clean image."""
    figure, (axes,) = new_figure(title, columns=1, width=8.4)
    ordered = sorted(pck, key=lambda kind: -pck[kind][-1])
    for i, kind in enumerate(ordered):
        values = 100 * np.array([clean, *pck[kind]])
        colour = COLOURS[i % len(COLOURS)]
        label = f"{kind}  {values[-1]:.1f}"
        axes.plot([0, *SEVERITIES], values, color=colour, marker="o", markersize=3.2, label=label)
    axes.set(xlabel="severity", ylabel="PCK@0.2 %", xlim=(0, 5), ylim=(0, None))
    legend = axes.legend(title="at severity 5", loc="center left", bbox_to_anchor=(1.01, 0.5))
    legend.set_frame_on(False)
    return figure


COLOURS = (
    *("#22262e", "#1f83d6", "#f0801a", "#2a9d8f", "#b04a00", "#8a63d2"),
    *("#0b4a86", "#d1495b", "#7b818c", "#6a994e", "#f7b267"),
)


def _lost(value: float, clean: float) -> str:
    return percent(1 - value / clean) if clean > 0 else "–"
