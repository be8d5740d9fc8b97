"""Measure PCK on damaged images, and accuracy and time of each stage of a cascade."""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from convpose import files
from convpose.data.annotation import PoseSample
from convpose.data.corruption import KINDS, SEVERITIES, Corruption
from convpose.data.datamodule import PoseDataModule
from convpose.data.dataset import Loader, PoseLandmarksDataset
from convpose.evaluate.scoring import GroundTruth, Network, on_device, predict
from convpose.models.cascade import Cascade
from convpose.models.pose_model import PoseModel
from convpose.plot.curves import new_figure, save_figure
from convpose.plot.tables import Table, percent
from convpose.progress import progress

SEED = 0  # the same damage for every network
COLOURS = (
    *("#22262e", "#1f83d6", "#f0801a", "#2a9d8f", "#b04a00", "#8a63d2"),
    *("#0b4a86", "#d1495b", "#7b818c", "#6a994e", "#f7b267"),
)
WARM_UP, ROUNDS = 3, 20  # calls of a network that is timed


def robustness(
    network: Network, datamodule: PoseDataModule, subset: str, clean: float, folder: Path
) -> dict[str, list[float]]:
    """Measure PCK@0.2 under every kind of damage at every severity.

    Writes ``robustness.json``, ``.md`` and ``.png``, and prints the table.

    Args:
        network: see `predict`.
        datamodule: of the images.
        subset: ``train``, ``val`` or ``test``, whose images are damaged.
        clean: PCK@0.2 of the undamaged images.
        folder: of the evaluation.

    Returns:
        PCK@0.2 by kind, one value a severity.
    """
    dataset = datamodule.datasets[subset]
    truth = GroundTruth.of(dataset, datamodule.skeleton)
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
        loader = Loader(
            damaged, batch_size=datamodule.batch_size, num_workers=datamodule.num_workers
        )
        predictions = predict(network, loader, show=False)
        measures = truth.score(torch.from_numpy(predictions.keypoints_px))
        pck[kind].append(float(measures["pck@0.2"]))
    title = f"PCK@0.2 under damage, {'+'.join(datamodule.sources)} {subset}"
    content = {"clean": clean, "pck@0.2": pck, "seed": SEED}
    files.write(folder / "robustness.json", json.dumps(content, indent=1))
    table = damage_table(pck, clean, title)
    files.write(folder / "robustness.md", table.to_markdown())
    save_figure(damage_curves(pck, clean, title), folder / "robustness.png")
    Console().print(table.to_rich())
    return pck


def damage_table(pck: Mapping[str, Sequence[float]], clean: float, title: str) -> Table:
    """List each kind: mean over severities, loss against the clean PCK, PCK at each severity."""
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
    """Draw PCK@0.2 over the severity, one line a kind; severity 0 is the clean image."""
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


def _lost(value: float, clean: float) -> str:
    return percent(1 - value / clean) if clean > 0 else "–"


def stage_measures(
    model: PoseModel,
    loader: DataLoader[PoseSample],
    truth: GroundTruth,
    device: torch.device,
    precision: str,
) -> list[dict[str, Any]]:
    """Score the poses of each stage of a cascade, the first stage's first.

    Args:
        model: network; it is put into evaluation mode on `device`.
        loader: of crops in order, without augmentation.
        truth: of the same crops.
        device: where to compute.
        precision: see `on_device`.

    Returns:
        Plain numbers of `PoseMetrics.compute`, and ``ms`` from one crop to this stage's pose;
        empty for a network without stages.
    """
    if not isinstance(model, Cascade):
        return []
    crop = loader.dataset[0]["image"][None].to(device)
    measures = []
    for number, stage in enumerate(stages(model), start=1):
        network = on_device(stage, device, precision)
        predictions = predict(network, loader, f"predicting, stage {number}")
        scored = totals(truth.score(torch.from_numpy(predictions.keypoints_px)))
        measures.append(scored | {"ms": milliseconds(network, crop)})
    return measures


def totals(measures: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the measures that are plain numbers, without those by joint, part or stick."""
    return {key: value for key, value in measures.items() if isinstance(value, int | float)}


def stages(model: Cascade) -> list[nn.Module]:
    """List the networks that end with the first, the second … stage, each for the full crop."""
    before = model.start.model
    earlier = stages(before) if isinstance(before, Cascade) else []
    return [*earlier[:-1], model.start, model]


def milliseconds(network: Callable[[torch.Tensor], object], crop: torch.Tensor) -> float:
    """Take the median time of a crop (1, 3, S, S)."""
    times_ms = []
    for _ in range(WARM_UP + ROUNDS):
        start = time.perf_counter()
        network(crop)
        if crop.is_cuda:
            torch.cuda.synchronize()
        times_ms.append(1000 * (time.perf_counter() - start))
    return statistics.median(times_ms[WARM_UP:])
