"""Train one run, from its configuration to its folder: prepare, build, resume, fit, finish."""

import contextlib
import logging
import math
import shlex
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Callback, Trainer, seed_everything
from omegaconf import DictConfig

from convpose import files
from convpose.bounded import load_json
from convpose.config.arguments import typed
from convpose.data.build import build_datamodule
from convpose.data.datamodule import PoseDataModule
from convpose.errors import ModelError
from convpose.hardware import resolve_precision
from convpose.models.build import build_model, self_contained
from convpose.models.pose_model import PoseModel, layer_table, layer_table_markdown
from convpose.models.weights import transfer
from convpose.plot.tables import metric_of, percent
from convpose.run import Run, compared, hyperparameters
from convpose.runtime.engines import NAMES
from convpose.train.build import (
    build_callbacks,
    build_loggers,
    build_module,
    build_trainer,
    check_monitor,
    check_parts,
)
from convpose.train.calibration import calibrate, measure_start_errors, settle_norms
from convpose.train.checkpoints import BEST, DirectFiles
from convpose.train.distributed import StopTogether, check_processes, fit_or_explain
from convpose.train.epoch_report import EpochReport
from convpose.train.loggers import log_text
from convpose.train.module import PoseModule
from convpose.train.request import check_keys
from convpose.train.resume import (
    check_checkpoint,
    check_optimizer,
    check_run,
    checkpoint_to_resume,
    run_of,
)
from convpose.train.start import (
    Pretrained,
    choose_batch_size,
    describe_keypoints,
    find_learning_rate,
    shared_rows,
    take_network,
    validation_pck,
)

log = logging.getLogger(__name__)
IGNORED_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 with torch 2.11 and later
    ".*does not have many workers",  # data.num_workers is chosen with care, see PoseDataModule
    "Found .* in eval mode at the start of training",  # what a cascade starts from stays as it is
    "You requested to overfit",  # the fixed order that Lightning chooses is what is wanted
)


@dataclass(frozen=True)
class Training:
    """Objects of a training, which the steps of `train` work on.

    Attributes:
        cfg: the configuration; ``data.batch_size=auto`` is replaced by what was chosen.
        folder: of the run.
        checkpoint: to continue from; None for a new training.
        module: model, loss, optimizer and schedule.
        datamodule: the data, read and split.
        trainer: Lightning's, with its callbacks and logger.
        report: the callback that keeps the numbers of each epoch.
    """

    cfg: DictConfig
    folder: Path
    checkpoint: Path | None
    module: PoseModule
    datamodule: PoseDataModule
    trainer: Trainer
    report: EpochReport


def train(cfg: DictConfig, folder: Path, callbacks: Sequence[Callback] = ()) -> float:
    """Train as configured.

    Args:
        cfg: of ``conf/train.yaml``.
        folder: of the run; nothing is written to it before all objects are built.
        callbacks: more than the configured ones.

    Returns:
        The best value of ``cfg.monitor``.

    Raises:
        ConfigError, DataError, ModelError: see `convpose.errors`.
        SystemExit: after Ctrl-C or SIGTERM, see `fit_or_explain`.
    """
    cfg, checkpoint = prepare(cfg, folder)
    training = build(cfg, folder, checkpoint, callbacks)
    before = resume(training)
    fit(training)
    return finish(training, before)


def prepare(cfg: DictConfig, folder: Path) -> tuple[DictConfig, Path | None]:
    """Check the keys that stand alone, choose the checkpoint to continue from and seed."""
    keep_console_clean()
    cfg = cfg.copy()
    check_keys(cfg)
    check_monitor(cfg)
    checkpoint = checkpoint_to_resume(cfg.ckpt_path, folder)
    seed_everything(cfg.seed, workers=True, verbose=False)
    if checkpoint and cfg.data.batch_size == "auto":  # what was chosen belongs to the run
        cfg.data.batch_size = run_of(checkpoint).config.data.batch_size
    if cfg.get("take_network"):
        begun = run_of(checkpoint).config if checkpoint else None
        trained = begun or Pretrained.find(cfg.weights or NAMES[0]).config
        take_network(cfg, trained, continued=begun is not None)
    return cfg, checkpoint


def build(
    cfg: DictConfig, folder: Path, checkpoint: Path | None, callbacks: Sequence[Callback]
) -> Training:
    """Build data, module and trainer, hold the checkpoint against the module, read the data."""
    check_parts(cfg)
    datamodule = build_datamodule(cfg)
    module = build_module(cfg, build_model(cfg))
    if checkpoint:
        check_checkpoint(checkpoint, module, cfg.trainer.max_epochs)
        check_optimizer(checkpoint, module)
    report = EpochReport(folder, cfg.monitor, cfg.monitor_mode, {})
    all_callbacks = [*build_callbacks(cfg, report), *callbacks, StopTogether()]
    loggers = build_loggers(cfg, folder, checkpoint is not None)
    trainer = build_trainer(cfg, all_callbacks, loggers, folder)
    trainer.strategy.checkpoint_io = DirectFiles()
    check_processes(trainer, cfg)
    datamodule.prepare_data()
    datamodule.setup()
    for doubt in getattr(datamodule.datasets["train"].source, "doubts", ()):
        log.warning("%s; convpose.data shows the labels", doubt)
    if cfg.trainer.overfit_batches:
        datamodule.datasets["val"] = datamodule.datasets["train"]
    datamodule.check_shares(trainer.world_size)
    mean, std = datamodule.keypoint_statistics()
    module.model.set_statistics(torch.from_numpy(mean), torch.from_numpy(std))
    return Training(cfg, folder, checkpoint, module, datamodule, trainer, report)


def resume(training: Training) -> float | None:
    """Check the run that a checkpoint continues, or find what a new training starts from.

    Returns:
        PCK@0.2 of what a new training starts from, if it has trained weights.
    """
    cfg, module, datamodule = training.cfg, training.module, training.datamodule
    trainer, checkpoint = training.trainer, training.checkpoint
    if checkpoint:  # it has weights, start errors and rate of its own
        check_run(run_of(checkpoint), cfg, datamodule.split)
        return None
    if cfg.weights:
        pretrained = Pretrained.find(cfg.weights)
        rows = shared_rows(cfg, module.model, pretrained)
        trainer.print(transfer(module.model, pretrained.source, pretrained.state, rows))
        if rows:
            trainer.print(describe_keypoints(cfg, pretrained))
    elif getattr(module.model.backbone, "folded", False):
        settle_norms(module.model, datamodule.train_dataloader(), trainer.strategy.root_device)
    if cfg.data.batch_size == "auto":
        cfg.data.batch_size = choose_batch_size(module, datamodule, trainer)
    device, precision = trainer.strategy.root_device, resolve_precision(cfg)
    if line := measure_start_errors(module.model, datamodule, device, precision):
        trainer.print(line)
    before = None
    if cfg.weights and cfg.trainer.limit_val_batches is None:
        before = validation_pck(module.model, datamodule, device, precision)
        trainer.print(
            f"PCK@0.2 of the validation subset before the first epoch: {percent(before)} %"
        )
    if cfg.lr_find:
        find_learning_rate(trainer, module, datamodule, training.folder)
    return before


def fit(training: Training) -> None:
    """Write what is known before the first step, then train."""
    cfg, folder, trainer, module = training.cfg, training.folder, training.trainer, training.module
    training.report.hyperparameters = hyperparameters(cfg)
    training.report.compared = compared(cfg, training.report.hyperparameters)
    with contextlib.ExitStack() as stack:
        if trainer.is_global_zero:
            run = Run(folder)
            stack.enter_context(run.claimed())
            run.write_start(self_contained(cfg), training.datamodule.split)
            log_text(trainer, "command", command_of(folder))
            write_layers(trainer, module.model, cfg.data.input_size_px, folder)
        if cfg.compile:
            module.model.compile()
        trainer.print(f"run folder {files.shown(folder)}", flush=True)
        fit_or_explain(trainer, module, training.datamodule, training.checkpoint)


def finish(training: Training, before: float | None = None) -> float:
    """Calibrate the best checkpoint, write the run's end and say how to see and use it.

    Args:
        training: that has ended.
        before: PCK@0.2 that it started from.

    Returns:
        The best value of ``cfg.monitor``.

    Raises:
        ModelError: no epoch gave a finite one.
    """
    cfg, folder, trainer = training.cfg, training.folder, training.trainer
    report = training.report
    best = report.best()
    if not best:
        raise ModelError(f"no epoch gave a finite {cfg.monitor}; see {report.path}")
    if trainer.is_global_zero:
        file = folder / "checkpoints" / BEST
        if file.is_file() and cfg.trainer.limit_val_batches is None:  # a few would not do
            device, precision = trainer.strategy.root_device, resolve_precision(cfg)
            calibrate(training.module.model, file, training.datamodule, device, precision)
        Run(folder).write_end(best, sum(row["seconds"] for row in report.rows))
    value, epoch = best[cfg.monitor], best["epoch"] + 1
    if before is not None:
        after = best.get("val/pck@0.2", math.nan)
        change = f"{percent(before)} % before, {percent(after)} % now"
        trainer.print(f"PCK@0.2 of the validation subset: {change}")
    trainer.print(
        f"best {metric_of(cfg.monitor).sentence(value)} in epoch {epoch:.0f}; see it with"
    )
    run = typed("run", folder)
    trainer.print(f"  python -m convpose.evaluate {run} split=val")
    trainer.print(f"  python -m convpose.predict PHOTO.jpg {run}")
    trainer.print(f"  python -m convpose.export {run}")
    trainer.print(f"  tensorboard --logdir {shlex.quote(files.shown(cfg.paths.runs))}")
    return value


def keep_console_clean() -> None:
    """Hide what the user cannot change, or has asked for."""
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for library in ("lightning.pytorch", "lightning.fabric"):  # what they say of themselves
        logging.getLogger(library).setLevel(logging.WARNING)
    threading.excepthook = _report_unless_disk


def _report_unless_disk(failed: threading.ExceptHookArgs) -> None:
    """Report an error that ended a thread, but not a disk's: the main thread meets it as well.

    TensorBoard writes in a thread of its own, and raises what failed there at its next call.
    """
    if not issubclass(failed.exc_type, OSError):
        threading.__excepthook__(failed)


def command_of(folder: Path) -> str:
    """Write the command that repeats a run alone, an override a line, as Markdown."""
    facts = load_json(folder / "run.json")
    words = ["python -m convpose.train", *facts["overrides"]]
    return "    " + " \\\n      ".join(words) if facts["overrides"] else f"    {facts['command']}"


def write_layers(trainer: Trainer, model: PoseModel, input_size_px: int, folder: Path) -> None:
    """Write the layer table to ``layers.md`` and, as text, to the loggers."""
    image = torch.zeros(1, 3, input_size_px, input_size_px, dtype=torch.uint8)
    text = layer_table_markdown(layer_table(model, image))
    files.write(folder / "layers.md", text)
    log_text(trainer, "layers", text)
