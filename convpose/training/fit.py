"""One training run, from its configuration to its folder."""

import logging
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from lightning import Callback, Trainer, seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger
from lightning.pytorch.tuner.tuning import Tuner
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig
from rich.console import Console

from convpose.build import (
    build,
    build_datamodule,
    build_model,
    build_module,
    build_trainer,
    check_top_level,
)
from convpose.data.datamodule import PoseDataModule
from convpose.errors import ConfigError, ModelError
from convpose.models.layer_table import layer_table, layer_table_markdown
from convpose.models.pose_model import PoseModel
from convpose.report.curves import loss_by_rate, save_figure
from convpose.run import Run, hyperparameters
from convpose.training.epoch_report import EpochBar, EpochReport, tensorboard
from convpose.training.module import HEADLINE, LOWER_IS_BETTER, PoseModule
from convpose.training.resume import check_checkpoint, checkpoint_to_resume

IGNORED_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 with torch 2.11 and later
    ".*does not have many workers",  # data.num_workers is chosen with care, see PoseDataModule
    "Checkpoint directory .* exists and is not empty",  # that is what continuing a run means
    "The dirpath has changed from",  # another run's checkpoint was asked for
    "You requested to overfit",  # the fixed order that Lightning chooses is what is wanted
)


def train(cfg: DictConfig, folder: Path) -> float:
    """Train as configured.

    Args:
        cfg: of ``conf/train.yaml``.
        folder: of the run; nothing is written to it before all objects are built.

    Returns:
        The best value of ``cfg.monitor``.

    Raises:
        ConfigError, DataError, ModelError: see `convpose.errors`.
        SystemExit: after Ctrl-C or SIGTERM, see `fit`.
    """
    keep_console_clean()
    check_top_level(cfg)
    check_monitor(cfg)
    checkpoint = checkpoint_to_resume(cfg.ckpt_path, folder)
    seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule = build_datamodule(cfg)
    module = build_module(cfg, build_model(cfg))
    if checkpoint:
        check_checkpoint(checkpoint, module, cfg.trainer.max_epochs)
    report = EpochReport(folder, cfg.monitor, cfg.monitor_mode, hyperparameters(cfg))
    trainer = build_trainer(cfg, build_callbacks(cfg, report), build_logger(cfg, folder), folder)
    datamodule.prepare_data()
    datamodule.setup()
    if cfg.trainer.overfit_batches:
        datamodule.datasets["val"] = datamodule.datasets["train"]
    mean, std = datamodule.keypoint_statistics()
    module.model.set_statistics(torch.from_numpy(mean), torch.from_numpy(std))
    if cfg.lr_find and not checkpoint:
        find_learning_rate(trainer, module, datamodule, folder)
    run = Run(folder)
    if trainer.is_global_zero:
        run.write_start(cfg, datamodule.split)
        write_layers(trainer, module.model, cfg.data.input_size_px, folder)
    if cfg.compile:
        module.model.compile()
    trainer.print(f"run folder {folder}", flush=True)
    fit(trainer, module, datamodule, checkpoint)
    best = report.best()
    if not best:
        raise ModelError(f"no epoch gave a finite {cfg.monitor}; see {report.path}")
    if trainer.is_global_zero:
        run.write_end(best, sum(row["seconds"] for row in report.rows))
    value, epoch = best[cfg.monitor], best["epoch"] + 1
    trainer.print(f"best {cfg.monitor} {value:.4f} in epoch {epoch:.0f}; see it with")
    trainer.print(f"  python -m convpose.evaluate run={folder} split=val")
    trainer.print(f"  tensorboard --logdir {cfg.paths.runs}")
    return value


def fit(
    trainer: Trainer, module: PoseModule, datamodule: PoseDataModule, checkpoint: Path | None
) -> None:
    """Lightning's fit, with advice for what may happen to it.

    Raises:
        ConfigError: what Lightning refuses only now, or a network that cannot be compiled.
        ModelError: out of memory.
        SystemExit: 130 after Ctrl-C and 143 after SIGTERM, when the run folder is in order.
    """
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:  # what Lightning makes of both signals
        if not trainer.interrupted:
            raise
        stop = signal.SIGTERM if isinstance(end, SIGTERMException) else signal.SIGINT
        print(
            f"stopped by {stop.name} in epoch {trainer.current_epoch + 1}; the same command with "
            f"ckpt_path=last continues {trainer.default_root_dir}",
            file=sys.stderr,
        )
        raise SystemExit(128 + stop) from end
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {error}") from error
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"compile=true: {reason}; type compile=false") from error
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"out of memory with data.batch_size={datamodule.batch_size} at "
            f"data.input_size_px={datamodule.input_size_px}; halve data.batch_size and double "
            "trainer.accumulate_grad_batches, or type trainer.precision=bf16-mixed"
        ) from error


def keep_console_clean() -> None:
    """Hide what the user cannot change, or has asked for."""
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    for library in ("lightning.pytorch", "lightning.fabric"):  # what they say of themselves
        logging.getLogger(library).setLevel(logging.WARNING)


def check_monitor(cfg: DictConfig) -> None:
    """Refuse a monitor that no validation gives, or one that would choose the worst epoch.

    Raises:
        ConfigError: with the metrics there are.
    """
    names = ["val/loss", *(f"val/{name}" for name in HEADLINE)]
    if (cfg.get("callbacks") or {}).get("collapse_alarm"):
        names.append("val/spread")
    if cfg.monitor not in names:
        raise ConfigError(
            f"monitor={cfg.monitor}: no such metric\nmetrics there are: {', '.join(names)}"
        )
    mode = "min" if cfg.monitor in LOWER_IS_BETTER else "max"
    if cfg.monitor_mode != mode:
        raise ConfigError(
            f"monitor={cfg.monitor} monitor_mode={cfg.monitor_mode}: would choose the worst epoch; "
            f"type monitor_mode={mode}"
        )


def build_callbacks(cfg: DictConfig, report: EpochReport) -> list[Callback]:
    """The report, the configured callbacks that are not null, a progress bar on a terminal."""
    nodes = (cfg.get("callbacks") or {}).items()
    # the report first: the row of an epoch is written before another callback may end the training
    callbacks: list[Callback] = [report]
    callbacks += [build(node, f"callbacks.{name}") for name, node in nodes if node]
    if cfg.trainer.enable_progress_bar and Console().is_terminal:
        callbacks.append(EpochBar(leave=False))
    return callbacks


def build_logger(cfg: DictConfig, folder: Path) -> Logger | bool:
    """The logger, which writes into the run folder itself; False for ``logger=null``."""
    if not cfg.get("logger"):
        return False
    logger: Logger = build(cfg.logger, "logger", save_dir=str(folder), name="", version="")
    return logger


def write_layers(trainer: Trainer, model: PoseModel, input_size_px: int, folder: Path) -> None:
    """The layer table as ``layers.md``, and as text in TensorBoard."""
    image = torch.zeros(1, 3, input_size_px, input_size_px, dtype=torch.uint8)
    text = layer_table_markdown(layer_table(model, image))
    (folder / "layers.md").write_text(text, encoding="utf-8")
    if writer := tensorboard(trainer):
        writer.add_text("layers", text)


def find_learning_rate(
    trainer: Trainer, module: PoseModule, datamodule: PoseDataModule, folder: Path
) -> None:
    """Search the learning rate and train with it; the curve goes to ``lr_find.png``.

    While the rate rises from step to step (Smith, 2017), the loss falls, then climbs; a tenth of
    the rate at the lowest loss is taken. Lightning's suggestion, the steepest fall, is often noise.

    Raises:
        ConfigError: the loss shows no valley.
    """
    finder = Tuner(trainer).lr_find(
        module, datamodule=datamodule, min_lr=1e-6, attr_name="learning_rate", update_attr=False
    )
    results = finder.results if finder else {"lr": [], "loss": []}
    rates, losses = np.array(results["lr"])[10:], np.array(results["loss"])[10:]  # settled by then
    lowest = int(np.nanargmin(losses)) if np.isfinite(losses).any() else 0
    if lowest == 0:
        raise ConfigError(
            "lr_find=true: the loss shows no valley; choose optimizer.lr yourself, or search over "
            "more steps, with more trainer.max_epochs or a smaller data.batch_size"
        )
    module.learning_rate = float(rates[lowest]) / 10
    figure = loss_by_rate(rates.tolist(), losses.tolist(), module.learning_rate)
    save_figure(figure, folder / "lr_find.png")
    print(f"lr_find: optimizer.lr={module.learning_rate:.3g}", flush=True)
