"""Write what an evaluation found: measures, tables, plots and galleries.

Damaged images and the stages of a cascade are measured here, too.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from PIL import Image as PillowImage
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader

from convpose import files
from convpose.data.annotation import PoseSample
from convpose.data.corruption import KINDS, SEVERITIES, Corruption
from convpose.data.datamodule import PoseDataModule
from convpose.data.inspect import gallery
from convpose.evaluate.predictions import Predictions
from convpose.evaluate.scoring import GroundTruth, Network, make_loader, on_device, predict
from convpose.geometry import transform
from convpose.metrics.functional import HIT, calibration_error
from convpose.metrics.pose_metrics import has_torso
from convpose.models.cascade import Cascade
from convpose.models.pose_model import PoseModel
from convpose.plot import tables
from convpose.plot.curves import error_histogram, new_figure, pck_curve, reliability, save_figure
from convpose.plot.tables import Table, percent
from convpose.progress import progress

SEED = 0  # of the data sets of `make_loader`: the same damage for every network
COLOURS = (
    *("#22262e", "#1f83d6", "#f0801a", "#2a9d8f", "#b04a00", "#8a63d2"),
    *("#0b4a86", "#d1495b", "#7b818c", "#6a994e", "#f7b267"),
)
WARM_UP, ROUNDS = 3, 20  # calls of a network that is timed


def write_report(
    predictions: Predictions,
    truth: GroundTruth,
    datamodule: PoseDataModule,
    split_name: str,
    cfg: DictConfig,
    folder: Path,
    stages: Sequence[tables.Measures] = (),
    oks: tables.Measures | None = None,
) -> float:
    """Write measures, tables, plots and galleries; print the tables; return PCK@0.2.

    The measures of a cascade's stages, and COCO's own, get a table of their own.
    """
    predicted_px = torch.from_numpy(predictions.keypoints_px)
    mean_pose = torch.from_numpy(datamodule.keypoint_statistics()[0])
    mean_pose_px = transform(truth.unit_to_px, mean_pose)
    measures, baseline = (truth.score(px) for px in (predicted_px, mean_pose_px))
    if upright := has_torso(truth.skeleton):
        measures["per_torso_angle"] = truth.score_by_torso_angle(predicted_px)
        baseline["per_torso_angle"] = truth.score_by_torso_angle(mean_pose_px)
    protocol = (
        f"{'+'.join(datamodule.sources)}, {cfg.split} subset of split {split_name}, "
        f"crop {datamodule.crop}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    errors, errors_of_mean = truth.errors(predicted_px), truth.errors(mean_pose_px)
    content = {**measures, "protocol": protocol, "baseline": baseline}
    if predictions.scores is not None:
        known = np.isfinite(errors)
        scores, hits = predictions.scores[known], errors[known] <= HIT
        content["score_ece"] = calibration_error(scores, hits)
        save_figure(
            reliability(scores, hits, protocol, truth.skeleton.unit), folder / "reliability.png"
        )
    if stages:
        content["stages"] = [dict(stage) for stage in stages]
    if oks:
        content["oks"] = dict(oks)
    text = json.dumps(_nan_to_null(content), indent=1, allow_nan=False)
    files.write(folder / "metrics.json", text)

    report = tables.report(measures, baseline, protocol)
    angles = [part["per_torso_angle"] for part in (measures, baseline) if upright]
    more = [tables.per_torso_angle(*angles)] if upright else []
    if "pckh_per_part" in measures:
        more.append(tables.per_part_by_head(measures, baseline))
    if oks:
        more.append(tables.average_precision(oks))
    report[2:2] = more
    if stages:
        report.insert(1, tables.per_stage(stages))
    markdown = "\n".join(table.to_markdown() for table in report)
    files.write(folder / "report.md", markdown)
    save_figure(
        pck_curve(measures, baseline, protocol, truth.skeleton.unit), folder / "pck_curve.png"
    )
    save_figure(
        error_histogram(errors, errors_of_mean, truth.skeleton.unit, 2.0, protocol),
        folder / "error_histogram.png",
    )
    drawn = write_galleries(truth, predicted_px, errors, datamodule, cfg, folder)
    console = Console()
    for table in (*report[:2], *more):
        console.print(table.to_rich())
    pictures = "; look at sample.png, the ground truth in white dashes" if drawn else ""
    console.print(f"written to {files.shown(folder)}{pictures}", highlight=False, soft_wrap=True)
    return float(measures["pck@0.2"])


def write_galleries(
    truth: GroundTruth,
    predicted_px: torch.Tensor,
    errors: np.ndarray[Any, Any],
    datamodule: PoseDataModule,
    cfg: DictConfig,
    folder: Path,
) -> bool:
    """Draw contact sheets: a random sample, and the images with the largest and smallest error.

    Returns:
        False if none was drawn: an image without a torso has no error to be ranked by.
    """
    counted = np.flatnonzero(np.isfinite(errors).any(axis=1))
    if cfg.gallery == 0 or not len(counted):
        return False
    order = counted[np.argsort(-np.nanmean(errors[counted], axis=1))]
    predicted = truth.to_unit(predicted_px)
    sample = np.random.default_rng(0).permutation(counted)
    for name, ranked in (("sample", sample), ("worst", order), ("best", order[::-1])):
        chosen = ranked[: cfg.gallery]
        notes = [f"{np.nanmean(errors[i]):.2f} {truth.skeleton.reference}" for i in chosen]
        dataset = datamodule.datasets[cfg.split]
        positions = [int(i) for i in chosen]
        poses = [predicted[i].float() for i in positions]
        sheet = gallery(dataset, positions, datamodule.skeleton, poses, notes)
        with files.replacing(folder / f"{name}.png") as file:
            PillowImage.fromarray(sheet).save(file, "PNG")
    return True


def _nan_to_null(value: Any) -> Any:
    """Replace NaN, which JSON lacks, by null: the value of a measure that counted nothing."""
    if isinstance(value, dict):
        return {key: _nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nan_to_null(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


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
        damage = Corruption(kind, severity, datamodule.skeleton)
        loader = make_loader(datamodule, dataset.source, dataset.indices, dataset.crop, damage)
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
        scored = tables.totals(truth.score(torch.from_numpy(predictions.keypoints_px)))
        measures.append(scored | {"ms": milliseconds(network, crop)})
    return measures


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
