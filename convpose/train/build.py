"""Build module, Trainer, callbacks and logger from a configuration."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from rich.console import Console
from torch import nn

from convpose.config.allowlist import find_target
from convpose.config.instantiate import build, check, describe, skeleton_of
from convpose.errors import ConfigError
from convpose.hardware import resolve_precision
from convpose.models.build import STAGE, check_skeleton, stage_of
from convpose.models.cascade import Resized
from convpose.models.pose_model import PoseModel
from convpose.plot.tables import metric_of
from convpose.runtime.engines import NAMES
from convpose.runtime.packaged import rebuild
from convpose.runtime.pytorch import rebuild_run
from convpose.train.epoch_report import EpochBar, EpochReport
from convpose.train.loggers import OURS
from convpose.train.module import HEADLINE, PoseModule


def check_parts(cfg: DictConfig) -> None:
    """Hold the keys of all parts against their constructors: what follows may download files.

    Raises:
        ConfigError: an unknown key, or a value of another type or out of its range.
    """
    computed = ("out_channels", "strides", "input_size_px", "num_keypoints")
    given = {"head": computed, "loss": ("network",), "model": STAGE}
    cfg = cfg.copy()
    cfg.trainer.precision = resolve_precision(cfg)
    if "start" in cfg.model:
        cfg.model = stage_of(cfg.model)
    for group in ("model", "head", "loss", "optimizer", "scheduler", "parameters", "trainer"):
        check(cfg[group], group, dict.fromkeys(given.get(group, ())))
    for name, node in (cfg.get("callbacks") or {}).items():
        check(node, f"callbacks.{name}")


def build_module(cfg: DictConfig, model: PoseModel) -> PoseModule:
    """Build loss, optimizer and schedule; refuse a rate that no optimizer takes."""
    teacher = {"network": build_teacher(cfg)} if "teacher" in cfg.loss else {}
    loss = build(cfg.loss, "loss", **teacher)
    try:
        inspect.signature(loss.forward).bind("output", "keypoints", "visibility")
    except (AttributeError, TypeError) as error:
        raise ConfigError(
            f"loss._target_={cfg.loss._target_}: no loss of poses, which is called with output, "
            "keypoints and visibility; type loss=regression, or see docs/extend.md"
        ) from error
    optimizer = build(cfg.optimizer, "optimizer")
    scheduler = build(cfg.scheduler, "scheduler")
    try:
        scheduler(optimizer([nn.Parameter(torch.zeros(1))]), 100)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"optimizer: {error}; {describe(cfg.optimizer)}") from error
    parameters = build(cfg.parameters, "parameters")
    check_pair(model.head, loss)
    return PoseModule(model, loss, optimizer, parameters, scheduler, skeleton_of(cfg), cfg.seed)


def build_teacher(cfg: DictConfig) -> Resized:
    """Build the network of ``loss.teacher``; it sees crops in the size of its training.

    Raises:
        ConfigError: no teacher, a cascade as pupil, or a teacher of another skeleton or without
            heatmaps.
        ModelError: see `rebuild` and `rebuild_run`.
    """
    if cfg.loss.teacher is None:
        raise ConfigError(
            "loss=distill: learns from a trained network; type loss.teacher=large, or a run "
            "folder, or loss=heatmap to learn from the labels alone"
        )
    if "start" in cfg.model:
        raise ConfigError(
            "loss=distill model=cascade: a teacher looks at whole crops and a cascade's last stage "
            "at parts of them; type loss=heatmap"
        )
    teacher = str(cfg.loss.teacher)
    packaged = teacher in (*NAMES, "packaged") or teacher.endswith(".safetensors")
    network, trained = rebuild(teacher) if packaged else rebuild_run(teacher, key="loss.teacher")
    check_skeleton(cfg, trained, f"loss.teacher={teacher}")
    if "heatmap_logits" not in getattr(network.head, "outputs", ()):
        raise ConfigError(
            f"loss.teacher={cfg.loss.teacher}: {type(network.head).__name__} gives no heatmaps; "
            "type a run with head=heatmap, head=integral or head=movenet"
        )
    return Resized(network.eval(), trained.data.input_size_px)


def check_pair(head: nn.Module, loss: nn.Module) -> None:
    """Check that a head has the outputs that a loss trains, see `convpose.models.keypoints`.

    Raises:
        ConfigError: a loss of another head, or one whose settings do not suit the head's.
    """
    outputs = getattr(head, "outputs", getattr(head, "gives", ("keypoints",)))  # gives, needs: 0.1
    required = getattr(loss, "requires", getattr(loss, "needs", ()))
    if missing := [key for key in required if key not in outputs]:
        proposal = getattr(head, "default_loss", None)
        raise ConfigError(
            f"loss: {type(loss).__name__} trains {missing[0]}, and {type(head).__name__} has only "
            f"{' and '.join(outputs)} to train; type "
            + (f"loss={proposal}" if proposal else f"a loss that trains {outputs[0]}")
        )
    check_loss: Callable[[nn.Module], None] | None = getattr(head, "check_loss", None)
    if check_loss is not None:
        check_loss(loss)


def build_trainer(
    cfg: DictConfig, callbacks: list[Callback], loggers: list[Logger], folder: Path
) -> Trainer:
    """Build Lightning's trainer, with ``precision=auto`` resolved.

    Raises:
        ConfigError: no epoch to train, or what Lightning refuses.
    """
    settings = cfg.trainer.copy()
    settings.precision = resolve_precision(cfg)
    settings.enable_progress_bar = any(isinstance(c, ProgressBar) for c in callbacks)
    given: dict[str, Any] = {"callbacks": callbacks, "logger": loggers}
    given["default_root_dir"] = str(folder)
    given["enable_checkpointing"] = any(isinstance(c, Checkpoint) for c in callbacks)
    trainer: Trainer = build(settings, "trainer", **given)
    every, epochs = settings.check_val_every_n_epoch, settings.max_epochs
    if every > epochs:
        raise ConfigError(
            f"trainer.max_epochs={epochs}: expected at least "
            f"trainer.check_val_every_n_epoch={every} so that an epoch is validated"
        )
    return trainer


def build_callbacks(cfg: DictConfig, report: EpochReport) -> list[Callback]:
    """Build the configured callbacks that are not null; add a progress bar on a terminal."""
    nodes = (cfg.get("callbacks") or {}).items()
    # the report first: the row of an epoch is written before another callback may end the training
    callbacks: list[Callback] = [report]
    callbacks += [build(node, f"callbacks.{name}") for name, node in nodes if node]
    if cfg.trainer.enable_progress_bar and Console().is_terminal:
        callbacks.append(EpochBar(leave=False))
    return callbacks


def build_loggers(cfg: DictConfig, folder: Path, resumed: bool = False) -> list[Logger]:
    """Build the loggers of a run; none for ``logger=none``.

    A logger of somebody else writes into the run folder itself, or where its ``save_dir`` says.

    Args:
        cfg: with ``logger``, one of them or some by name.
        folder: of the run.
        resumed: whether the run is continued.

    Raises:
        ConfigError: the package of a logger is not installed.
    """
    group: Any = cfg.get("logger") or {}
    nodes: dict[str, DictConfig] = (
        {"": group} if "_target_" in group else {f".{k}": v for k, v in group.items() if v}
    )
    loggers: list[Logger] = []
    for name, node in nodes.items():
        target = find_target(node.get("_target_"), f"logger{name}")
        given: dict[str, Any] = {"save_dir": str(folder), "name": "", "version": ""}
        given = {key: value for key, value in given.items() if node.get(key) is None}
        if isinstance(target, type) and issubclass(target, OURS):
            given = {"run_folder": str(folder), "resumed": resumed}
        loggers.append(build(node, f"logger{name}", **given))
    return loggers


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
    mode = "min" if metric_of(cfg.monitor).less_is_better else "max"
    if cfg.monitor_mode != mode:
        raise ConfigError(
            f"monitor={cfg.monitor} monitor_mode={cfg.monitor_mode}: would choose the worst epoch; "
            f"type monitor_mode={mode}"
        )
