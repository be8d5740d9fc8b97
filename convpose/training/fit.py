"""One training run, from its configuration to its folder."""

import logging
from pathlib import Path

import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.tuner.tuning import Tuner
from omegaconf import DictConfig
from rich.console import Console

from convpose.build import build, build_datamodule, build_model, build_module, build_trainer
from convpose.data.datamodule import PoseDataModule
from convpose.errors import ConfigError, ModelError
from convpose.models.layer_table import layer_table, layer_table_markdown
from convpose.models.pose_model import PoseModel
from convpose.report.curves import loss_by_rate, save_figure
from convpose.run import Run, hyperparameters
from convpose.training.epoch_report import EpochReport, tensorboard
from convpose.training.module import PoseModule

log = logging.getLogger(__name__)
for library in ("lightning.pytorch", "lightning.fabric"):  # what they say of themselves is known
    logging.getLogger(library).setLevel(logging.WARNING)


def train(cfg: DictConfig, folder: Path) -> float:
    """Train as configured.

    Args:
        cfg: of ``conf/train.yaml``.
        folder: of the run; nothing is written to it before all objects are built.

    Returns:
        The best value of ``cfg.monitor``.

    Raises:
        ConfigError, DataError, ModelError: see `convpose.errors`.
    """
    checkpoint = checkpoint_to_resume(cfg.ckpt_path, folder)
    seed_everything(cfg.seed, workers=True, verbose=False)
    datamodule = build_datamodule(cfg)
    datamodule.prepare_data()
    datamodule.setup()
    model = build_model(cfg)
    mean, std = datamodule.keypoint_statistics()
    model.set_statistics(torch.from_numpy(mean), torch.from_numpy(std))
    module = build_module(cfg, model)
    report = EpochReport(folder, cfg.monitor, cfg.monitor_mode, hyperparameters(cfg))
    callbacks: list[Callback] = [
        build(node, f"callbacks.{name}") for name, node in cfg.callbacks.items() if node
    ]
    # first, so that the row of an epoch is written before a callback may end the training
    callbacks = [report, *callbacks]
    if cfg.trainer.enable_progress_bar and Console().is_terminal:
        callbacks.append(RichProgressBar(leave=False))
    else:
        cfg.trainer.enable_progress_bar = False
    logger = build(cfg.logger, "logger", save_dir=str(folder), name="", version="")
    trainer = build_trainer(cfg, callbacks, logger, folder)
    run = Run(folder)
    run.write_start(cfg, datamodule.split)
    write_layers(trainer, model, cfg.data.input_size_px, folder)
    if cfg.lr_find:
        find_learning_rate(trainer, module, datamodule, folder)
    if cfg.compile:
        module.model.compile()
    print(f"run folder {folder}")
    fit(trainer, module, datamodule, checkpoint)
    best = report.best()
    run.write_end(best)
    print(
        f"best {cfg.monitor} {best[cfg.monitor]:.4f} in epoch {best['epoch'] + 1:.0f}; see it with"
    )
    print(f"  python -m convpose.evaluate run={folder} split=val")
    print(f"  tensorboard --logdir {cfg.paths.runs}")
    return best[cfg.monitor]


def fit(
    trainer: Trainer, module: PoseModule, datamodule: PoseDataModule, checkpoint: Path | None
) -> None:
    """Lightning's fit, with an interruption as an exception and memory shortage as advice.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when the run folder is in order.
        ModelError: out of memory.
    """
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:  # what Lightning makes of Ctrl-C
        if trainer.interrupted:
            raise KeyboardInterrupt from end
        raise
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"out of memory with data.batch_size={datamodule.batch_size} at "
            f"data.input_size_px={datamodule.input_size_px}; halve data.batch_size and double "
            "trainer.accumulate_grad_batches, or type trainer.precision=bf16-mixed"
        ) from error


def checkpoint_to_resume(ckpt_path: str | None, folder: Path) -> Path | None:
    """The checkpoint to continue from; None to start.

    ``last`` in a folder without a checkpoint starts, so that a scheduler can put the same command
    into its queue again and again.

    Raises:
        ModelError: a file that does not exist.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == "last":
        last = folder / "checkpoints" / "last.ckpt"
        if last.is_file():
            return last
        log.info("ckpt_path=last: nothing to continue in %s, starting", folder)
        return None
    if not Path(ckpt_path).is_file():
        raise ModelError(f"ckpt_path={ckpt_path}: no such file; type ckpt_path=last or a .ckpt")
    return Path(ckpt_path)


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
    """Search the learning rate (Smith, 2017) and train with it; the curve goes to ``lr_find.png``.

    Raises:
        ConfigError: the loss shows no valley.
    """
    finder = Tuner(trainer).lr_find(
        module, datamodule=datamodule, attr_name="learning_rate", update_attr=False
    )
    rate = finder.suggestion() if finder else None
    if finder is None or rate is None:
        raise ConfigError("lr_find=true: the loss shows no valley; choose optimizer.lr yourself")
    module.learning_rate = rate
    figure = loss_by_rate(finder.results["lr"], finder.results["loss"], rate)
    save_figure(figure, folder / "lr_find.png")
    print(f"lr_find: optimizer.lr={rate:.3g}")
