"""Write the report of an evaluation: predictions, measures, tables, plots and galleries."""

import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image as PillowImage
from rich.console import Console

from convpose.bounded import MAX_BYTES, load_json
from convpose.config.schema import Count, Looks, Natural, Subset, check_table
from convpose.data.build import build_datamodule
from convpose.data.datamodule import PoseDataModule
from convpose.data.inspect import gallery
from convpose.errors import ConfigError, DataError
from convpose.evaluate.analyses import robustness, stage_measures
from convpose.evaluate.predictions import Predictions, match
from convpose.evaluate.scoring import GroundTruth, look_again, on_device, predict
from convpose.files import check_output
from convpose.geometry import transform
from convpose.hardware import resolve_precision, want_gpu
from convpose.metrics.functional import HIT, calibration_error
from convpose.metrics.torso_angle import has_torso
from convpose.models.build import build_model, drop_weights
from convpose.models.tta import TestTimeAugmentation
from convpose.models.weights import load_checkpoint, no_larger_than
from convpose.plot import tables
from convpose.plot.curves import (
    error_histogram,
    pck_curve,
    reliability,
    save_figure,
    training_curves,
)
from convpose.run import Run
from convpose.skeleton import LSP14

log = logging.getLogger(__name__)
KEYS = {
    **dict.fromkeys(("mirror_test", "quarter_turns", "robustness"), bool),
    "split": Subset,
    "looks": Looks,
    "batch_size": Count | None,
    "num_workers": Natural | None,
    "gallery": Natural,
}


def evaluate(cfg: DictConfig) -> float:
    """Score what ``cfg.run`` or ``cfg.predictions`` names.

    Args:
        cfg: of ``conf/evaluate.yaml``.

    Returns:
        PCK@0.2.

    Raises:
        ConfigError: neither or both named, an unknown split or accelerator, or a file of
            predictions without data.
        DataError, ModelError: see `Predictions`, `Run` and the data.
    """
    if (cfg.run is None) == (cfg.predictions is None):
        raise ConfigError(
            "name what to evaluate: run=RUN_FOLDER, or predictions=FILE.npz with data=lsp"
        )
    check_table(cfg, KEYS)
    if cfg.output is not None:
        check_output(Path(str(cfg.output)))
    if cfg.run is not None:
        return evaluate_run(cfg)
    usual = {"mirror_test": False, "quarter_turns": False, "robustness": False, "looks": 1}
    for key in (key for key, value in usual.items() if cfg[key] != value):
        raise ConfigError(
            f"predictions={cfg.predictions} {key}={cfg[key]}: a file has no network to ask again; "
            f"leave {key}= out, or type run=RUN_FOLDER"
        )
    if cfg.get("data") is None:
        raise ConfigError(
            "predictions=FILE.npz needs the data it was made for; type data=lsp or data=lspet"
        )
    path = Path(cfg.predictions)
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    truth = GroundTruth.of(datamodule.datasets[cfg.split], datamodule.skeleton)
    predictions = match(Predictions.load(path), truth.image_ids, datamodule.skeleton, path)
    folder = Path(cfg.output or path.parent / f"{path.stem}_{cfg.split}")
    return write_report(predictions, truth, datamodule, cfg.data.split, cfg, folder)


def evaluate_run(cfg: DictConfig) -> float:
    """Rebuild a run's network, predict the subset and write the report into the run's folder."""
    gpu = want_gpu(cfg.accelerator, torch.cuda.is_available(), "PyTorch sees no GPU here")
    run = Run.find(Path(cfg.run))
    trained = evaluated_config(run, cfg)
    other = cfg.get("data")
    split_name = run.config.data.split if other is None else other.split
    checkpoint = run.checkpoint(cfg.checkpoint)
    datamodule = build_datamodule(trained)
    datamodule.setup()
    if other is not None and (seen := seen_in_training(run, other, datamodule.split[cfg.split])):
        split_name += f" ({seen:,} of these images were trained on)"
        count = len(datamodule.split[cfg.split])
        log.warning("the run was trained on %d of these %d images; leave data= out", seen, count)
    with no_larger_than(checkpoint):
        model = build_model(trained)
    load_checkpoint(model, checkpoint)
    tta = TestTimeAugmentation(model, datamodule.skeleton, cfg.mirror_test, cfg.quarter_turns)
    device, precision = torch.device("cuda" if gpu else "cpu"), resolve_precision(trained)
    start = time.perf_counter()
    network = on_device(tta if tta.passes > 1 else model, device, precision)
    predictions = predict(network, datamodule.loader(cfg.split))
    if cfg.looks == 2:
        scale = run.config.data.box_scale
        predictions = look_again(network, datamodule, cfg.split, predictions, scale)
    if tta.passes > 1:
        ms = 1000 * (time.perf_counter() - start) / len(predictions.image_id)
        print(f"{tta}: {tta.passes} looks at each crop, {ms:.1f} ms an image with loading")
    name = cfg.split if other is None else f"{'_'.join(datamodule.sources)}_{cfg.split}"
    name += "" if cfg.checkpoint == "best" else f"_{checkpoint.stem}"
    name += "_mirror_test" * cfg.mirror_test + "_quarter_turns" * cfg.quarter_turns
    name += "_two_looks" * (cfg.looks == 2)
    folder = Path(cfg.output or run.folder / f"evaluate_{name}")
    truth = GroundTruth.of(datamodule.datasets[cfg.split], datamodule.skeleton)
    predictions.save(folder / "predictions.npz")
    stages = []
    if cfg.looks == 1:
        stages = stage_measures(model, datamodule.loader(cfg.split), truth, device, precision)
    history = run.folder / "metrics.csv"
    if history.is_file():
        title = f"Training of {run.folder.parent.name}, {'+'.join(run.config.data.sources)}"
        try:
            figure = training_curves(history, trained.monitor, trained.monitor_mode, title)
            save_figure(figure, folder / "training.png")
        except DataError as error:  # the network can be scored without its history
            log.warning("no training.png: %s", error)
    notes = [split_name, *filter(None, [str(tta)]), *["two looks"] * (cfg.looks == 2)]
    split_name = ", ".join(notes)
    pck = write_report(predictions, truth, datamodule, split_name, cfg, folder, stages)
    if cfg.robustness:
        robustness(network, datamodule, cfg.split, pck, folder)
    return pck


def evaluated_config(run: Run, cfg: DictConfig) -> DictConfig:
    """Return a run's configuration with the data and the accelerator of an evaluation."""
    trained, other = run.config_to_score(cfg.paths.data), cfg.get("data")
    if other is not None:
        other.input_size_px = trained.data.input_size_px
        other.batch_size = trained.data.batch_size
        other.skeleton = trained.data.get("skeleton", LSP14.name)
        trained.data = OmegaConf.create(OmegaConf.to_container(other, resolve=True))
    if cfg.batch_size is not None:
        trained.data.batch_size = cfg.batch_size
    if cfg.num_workers is not None:
        trained.data.num_workers = cfg.num_workers
    drop_weights(trained)
    trained.trainer.accelerator = cfg.accelerator
    crop = trained.data.crop
    if cfg.looks == 2 and "box" in ([crop] if isinstance(crop, str) else crop.values()):
        raise ConfigError(
            f"looks=2 data.crop={crop}: a box crop is placed by the ground truth, a first look is "
            "at the whole frame; type data=lspet data.crop=letterbox, or looks=1"
        )
    if cfg.looks == 2 and cfg.robustness:
        raise ConfigError("looks=2 robustness=true: damage is measured with one look; type looks=1")
    return trained


def seen_in_training(run: Run, data: DictConfig, image_ids: Sequence[str]) -> int:
    """Count the images of other data that a run was trained on, by their ids.

    The ids of synthetic people are numbers. With another seed they are other people: none counts.
    """
    seeds = [
        {source.seed for source in d.sources.values() if source and "seed" in source}
        for d in (run.config.data, data)
    ]
    splits = run.folder / "splits.json"
    if (all(seeds) and seeds[0] != seeds[1]) or not splits.is_file():
        return 0
    split = load_json(splits, most=MAX_BYTES)
    trained_on = split.get("train") if isinstance(split, dict) else None
    if not isinstance(trained_on, list):
        raise DataError(f"{splits}: no list of train")
    return len({*map(str, trained_on)} & {*image_ids})


def write_report(
    predictions: Predictions,
    truth: GroundTruth,
    datamodule: PoseDataModule,
    split_name: str,
    cfg: DictConfig,
    folder: Path,
    stages: Sequence[tables.Measures] = (),
) -> float:
    """Write measures, tables, plots and galleries; print the tables; return PCK@0.2.

    The measures of a cascade's stages get a table of their own.
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
    text = json.dumps(_nan_to_null(content), indent=1, allow_nan=False)
    (folder / "metrics.json").write_text(text, encoding="utf-8")

    report = tables.report(measures, baseline, protocol)
    angles = [part["per_trunk_angle"] for part in (measures, baseline) if upright]
    report[2:2] = leaning = [tables.per_torso_angle(*angles)] if upright else []
    if stages:
        report.insert(1, tables.per_stage(stages))
    markdown = "\n".join(table.to_markdown() for table in report)
    (folder / "report.md").write_text(markdown, encoding="utf-8")
    save_figure(
        pck_curve(measures, baseline, protocol, truth.skeleton.unit), folder / "pck_curve.png"
    )
    save_figure(
        error_histogram(errors, errors_of_mean, truth.skeleton.unit, 2.0, protocol),
        folder / "error_histogram.png",
    )
    drawn = write_galleries(truth, predicted_px, errors, datamodule, cfg, folder)
    console = Console()
    for table in (*report[:2], *leaning):
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
        PillowImage.fromarray(sheet).save(folder / f"{name}.png")
    return True


def _nan_to_null(value: Any) -> Any:
    """Replace NaN, which JSON lacks, by null: the value of a measure that counted nothing."""
    if isinstance(value, dict):
        return {key: _nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_nan_to_null(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
