"""Write what an evaluation found: measures, tables, plots and galleries."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image as PillowImage
from rich.console import Console

from convpose import files
from convpose.data.datamodule import PoseDataModule
from convpose.data.inspect import gallery
from convpose.evaluate.predictions import Predictions
from convpose.evaluate.scoring import GroundTruth
from convpose.geometry import transform
from convpose.metrics.functional import HIT, calibration_error
from convpose.metrics.torso_angle import has_torso
from convpose.plot import tables
from convpose.plot.curves import error_histogram, pck_curve, reliability, save_figure


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
        measures["per_trunk_angle"] = truth.score_by_torso_angle(predicted_px)
        baseline["per_trunk_angle"] = truth.score_by_torso_angle(mean_pose_px)
    protocol = (
        f"{'+'.join(datamodule.sources)}, split {split_name}, {cfg.split}, crop {datamodule.crop}"
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
    angles = [part["per_trunk_angle"] for part in (measures, baseline) if upright]
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
    pictures = "; look at sample.png" if drawn else ""
    console.print(f"written to {folder}{pictures}", highlight=False, soft_wrap=True)
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
