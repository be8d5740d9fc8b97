"""Score what a user names: a run, packaged weights or a file of predictions."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from convpose.bounded import MAX_BYTES, load_json
from convpose.config.arguments import was_typed
from convpose.config.instantiate import skeleton_of
from convpose.data.build import build_datamodule, refuse_other_crops
from convpose.errors import ConfigError, DataError
from convpose.evaluate.oks import score_coco
from convpose.evaluate.predictions import Predictions, match
from convpose.evaluate.report import robustness, stage_measures, write_report
from convpose.evaluate.request import check_keys
from convpose.evaluate.scoring import GroundTruth, look_again, on_device, predict
from convpose.hardware import resolve_precision, want_gpu
from convpose.models.build import build_model, drop_weights
from convpose.models.weights import load_checkpoint, no_larger_than
from convpose.plot.curves import save_figure, training_curves
from convpose.run import Run
from convpose.runtime.packaged import rebuild
from convpose.runtime.pytorch import TestTimeAugmentation
from convpose.skeleton import LSP14

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig) -> float:
    """Score what ``cfg.run``, ``cfg.weights`` or ``cfg.predictions`` names.

    Args:
        cfg: of ``conf/evaluate.yaml``.

    Returns:
        PCK@0.2.

    Raises:
        ConfigError: none or several named, an unknown split or accelerator, or weights or a file
            of predictions without data.
        DataError, ModelError: see `Predictions`, `Run` and the data.
    """
    check_keys(cfg)
    if cfg.predictions is None:
        return evaluate_network(cfg)
    path = Path(cfg.predictions)
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    truth = GroundTruth.of(datamodule.datasets[cfg.split], datamodule.skeleton)
    predictions = match(Predictions.load(path), truth.image_ids, datamodule.skeleton, path)
    folder = Path(cfg.output or path.parent / f"{path.stem}_{cfg.split}")
    oks = score_coco(datamodule, cfg.split, predictions, folder, cfg.boxes)
    return write_report(predictions, truth, datamodule, cfg.data.split, cfg, folder, oks=oks)


def evaluate_network(cfg: DictConfig) -> float:
    """Rebuild a network, predict the subset and write the report.

    The report goes into the run's folder, that of packaged weights into ``runs/evaluate``.
    """
    gpu = want_gpu(cfg.accelerator, torch.cuda.is_available(), "PyTorch sees no GPU here")
    run = None if cfg.run is None else Run.find(Path(cfg.run))
    if run is None:
        model, trained = rebuild(cfg.weights)
    else:
        trained = run.config_to_score(cfg.paths.data)
        checkpoint = run.checkpoint(cfg.checkpoint)
    box_scale = trained.data.box_scale
    trained = evaluated_config(trained, cfg)
    if was_typed("data.box_scale"):
        box_scale = trained.data.box_scale
    other = cfg.get("data")
    split_name = (run.config if run is not None and other is None else trained).data.split
    datamodule = build_datamodule(trained)
    datamodule.setup()
    if run is None:
        split_name += f" (network of {trained.trained_on})"
    else:
        subset = datamodule.split[cfg.split]
        if other is not None and (seen := seen_in_training(run, other, subset)):
            split_name += f" ({seen:,} of these images were trained on)"
            log.warning(
                "the run was trained on %d of these %d images; leave data= out", seen, len(subset)
            )
        with no_larger_than(checkpoint):
            model = build_model(trained)
        load_checkpoint(model, checkpoint)
    tta = TestTimeAugmentation(model, datamodule.skeleton, cfg.mirror_test, cfg.quarter_turns)
    device, precision = torch.device("cuda" if gpu else "cpu"), resolve_precision(trained)
    start = time.perf_counter()
    network = on_device(tta if tta.passes > 1 else model, device, precision)
    predictions = predict(network, datamodule.loader(cfg.split))
    if cfg.looks == 2:
        predictions = look_again(network, datamodule, cfg.split, predictions, box_scale)
    if tta.passes > 1:
        ms = 1000 * (time.perf_counter() - start) / len(predictions.image_id)
        print(f"{tta}: {tta.passes} looks at each crop, {ms:.1f} ms an image with loading")
    folder = Path(cfg.output or folder_of(cfg, run, list(datamodule.sources)))
    truth = GroundTruth.of(datamodule.datasets[cfg.split], datamodule.skeleton)
    predictions.save(folder / "predictions.npz")
    oks = score_coco(datamodule, cfg.split, predictions, folder, cfg.boxes, network)
    stages = []
    if cfg.looks == 1:
        stages = stage_measures(model, datamodule.loader(cfg.split), truth, device, precision)
    if run is not None:
        draw_training(run, folder / "training.png")
    notes = [split_name, *filter(None, [str(tta)]), *["two looks"] * (cfg.looks == 2)]
    split_name = ", ".join(notes)
    pck = write_report(predictions, truth, datamodule, split_name, cfg, folder, stages, oks)
    if cfg.robustness:
        robustness(network, datamodule, cfg.split, pck, folder)
    return pck


def folder_of(cfg: DictConfig, run: Run | None, sources: Sequence[str]) -> Path:
    """Name the folder of an evaluation by what is scored, on what, and how.

    Args:
        cfg: of ``conf/evaluate.yaml``.
        run: None for packaged weights.
        sources: names of the data sets.
    """
    words = [Path(cfg.weights).stem] if run is None else ["evaluate"]
    words += [] if cfg.get("data") is None else sources
    words.append(cfg.split)
    words += [] if cfg.checkpoint == "best" else [Path(cfg.checkpoint).stem]
    words += ["mirror_test"] * cfg.mirror_test + ["quarter_turns"] * cfg.quarter_turns
    words += ["two_looks"] * (cfg.looks == 2) + ["boxes"] * (cfg.boxes is not None)
    return (Path(cfg.paths.runs, "evaluate") if run is None else run.folder) / "_".join(words)


def draw_training(run: Run, path: Path) -> None:
    """Draw the curves of a run's training, if its history can be read: it is scored without."""
    history, config = run.folder / "metrics.csv", run.config
    if not history.is_file():
        return
    title = f"Training of {run.folder.parent.name}, {'+'.join(config.data.sources)}"
    try:
        save_figure(training_curves(history, config.monitor, config.monitor_mode, title), path)
    except DataError as error:
        log.warning("no training.png: %s", error)


def evaluated_config(trained: DictConfig, cfg: DictConfig) -> DictConfig:
    """Give a network's configuration the data and the accelerator of an evaluation.

    Raises:
        ConfigError: data in another size or skeleton than the network's, or looks that say nothing.
    """
    other = cfg.get("data")
    if other is not None:
        own = {"data.input_size_px": trained.data.input_size_px}
        refuse_other_crops(cfg, own, skeleton_of(trained))
        other.input_size_px = trained.data.input_size_px
        if not was_typed("data.batch_size"):
            other.batch_size = trained.data.get("batch_size", other.batch_size)
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
