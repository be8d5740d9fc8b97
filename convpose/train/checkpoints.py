"""Keep the checkpoints of a run, write them to the disk, and check the one to continue from."""

import logging
import math
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from omegaconf import DictConfig
from torch import nn

from convpose import files
from convpose.bounded import MAX_BYTES, load_json
from convpose.data.splits import Split
from convpose.errors import ConfigError, DataError, ModelError
from convpose.models.weights import read_weights
from convpose.run import Run, changed_keys, flat
from convpose.train.module import PoseModule

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
log = logging.getLogger(__name__)
# keys whose change makes another training of a continued run
REPORTED_KEYS = (
    *("seed", "augment", "loss", "scheduler", "data.batch_size", "data.crop", "data.box_scale"),
    *("trainer.gradient_clip_val", "trainer.accumulate_grad_batches"),
)


class BestAndLast(Checkpoint):
    """Keep ``best``, ``last`` and ``previous.ckpt`` in the run's folder ``checkpoints``.

    Checkpoints stand at the end of an epoch, so that a resumed run repeats an interrupted epoch
    exactly; an interruption costs one epoch at most. There is a ``last`` from before the first step
    on, and ``previous``, the one before it, serves where a failing disk has damaged it.

    Each name is a file of its own, which is on the disk before it takes its place in one step:
    whenever the process is killed or the power cut, every name is a complete checkpoint.
    Lightning's ModelCheckpoint writes an epoch once for each name, and its ``save_last`` follows
    the best epoch only, so that a resumed run would forget all epochs since.

    Args:
        monitor: metric that chooses the best epoch.
        mode: ``max`` or ``min``.
    """

    def __init__(self, monitor: str, mode: Literal["max", "min"]) -> None:
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.best: float | None = None
        self._last_is_damaged = False

    def state_dict(self) -> dict[str, Any]:
        """Save the best value, for a resumed run."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value so far."""
        self.best = state_dict["best"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the untrained network: an interruption in the first epoch leaves something too."""
        # a run that goes on from the previous one must not overwrite it with the damaged last one
        self._last_is_damaged = Path(str(trainer.ckpt_path)).name == PREVIOUS
        best = Path(trainer.default_root_dir) / "checkpoints" / BEST
        if best.is_file() and trainer.ckpt_path and (problem := damage(best)):
            log.warning(
                "%s is damaged (%s); the best of the epochs to come takes its place", best, problem
            )
            if trainer.is_global_zero:
                best.replace(best.with_name("damaged.ckpt"))
            self.best = None
        elif not best.is_file():
            self.best = None  # of another folder, whose best this one must not be left without
        if trainer.current_epoch == 0:
            self._save(trainer, best=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch as the last, and as the best if it is."""
        value = float(trainer.callback_metrics.get(self.monitor, math.nan))
        better = self.best is None or self.sign * (value - self.best) > 0
        if better := better and math.isfinite(value):
            self.best = value
        self._save(trainer, better)

    def _save(self, trainer: Trainer, best: bool) -> None:
        folder = Path(trainer.default_root_dir) / "checkpoints"
        new, last = folder / "next.ckpt", folder / LAST
        trainer.save_checkpoint(new)  # all processes together; the first one writes
        if not trainer.is_global_zero:
            return
        if best:
            files.duplicate(new, folder / BEST)
        if last.exists() and not self._last_is_damaged:
            files.keep(last, folder / PREVIOUS)
        new.replace(last)
        files.sync_names(folder)
        self._last_is_damaged = False


def damage(path: Path) -> str | None:
    """Describe the damage of a checkpoint that a run has written; None if there is none.

    Every byte is checked by the file's checksums, which `torch.load` does not do, and nothing but
    tensors and plain containers is unpickled.
    """
    try:
        with zipfile.ZipFile(path) as file:
            wrong = file.testzip()
        if wrong is not None:
            return f"the checksum of {wrong} does not match"
        read_weights(path)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        return str(error) or type(error).__name__
    except ModelError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


class DirectFiles(TorchCheckpointIO):
    """Write a checkpoint beside its place, then move it there.

    Lightning writes to memory, then to the system's folder for temporary files. Where that is
    another file system, its move is a copy, which a kill or a full disk cuts off.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Save tensors and plain containers."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(Path(path), synced=True) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch closes its archive after a failed write, fails again, and hides the reason
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise


def checkpoint_to_resume(ckpt_path: str | None, folder: Path) -> Path | None:
    """Find the checkpoint to continue from; None to start.

    ``last`` in a folder without a checkpoint starts, so that a scheduler can put the same command
    into its queue again and again. Where the last one is damaged, the one before it is taken.

    Raises:
        ConfigError: a start in the folder of another run, whose checkpoints it would overwrite.
        ModelError: a file that does not exist, or checkpoints that are all damaged.
    """
    kept = [folder / "checkpoints" / name for name in (LAST, PREVIOUS)]
    kept = [path for path in kept if path.is_file()]
    if ckpt_path is None:
        if kept:
            raise ConfigError(
                f"{folder}: holds a run already; type ckpt_path=last to continue it, or "
                "hydra.run.dir=ANOTHER_FOLDER"
            )
        return None
    if ckpt_path != "last":
        path = Path(ckpt_path)
        if not path.is_file():
            raise ModelError(f"ckpt_path={path}: no such file; type ckpt_path=last or a .ckpt")
        return path
    problems: list[str] = []
    for path in kept:
        problem = damage(path)
        if problem is None:
            if problems:
                log.warning("%s; continuing from %s", problems[0], path)
            return path
        problems.append(f"{path} is damaged ({problem})")
    if problems:
        raise ModelError(
            f"ckpt_path=last: {' and '.join(problems)}; type hydra.run.dir=ANOTHER_FOLDER to start "
            "again, or ckpt_path=FILE for another checkpoint, such as best.ckpt"
        )
    log.info("ckpt_path=last: nothing to continue in %s, starting", folder)
    return None


def check_checkpoint(path: Path, module: nn.Module, max_epochs: int) -> int:
    """Check that a checkpoint is of this network and of no more epochs than are wanted.

    Returns:
        How many epochs it has behind it.

    Raises:
        ModelError: of another network, of more epochs, or of weights alone.
    """
    saved, own = read_weights(path), module.state_dict()
    misfits = [k for k in {**own, **saved} if k not in own or k not in saved]
    misfits = misfits or [k for k in own if own[k].shape != saved[k].shape]
    if misfits:
        raise ModelError(
            f"ckpt_path={path}: the checkpoint of another network: {len(misfits)} tensors are "
            f"missing, left over or of another shape, the first is {misfits[0]}; type the model, "
            "head and data.input_size_px keys of its run"
        )
    content = _read(path)
    epochs: int = content["epoch"] + 1 if content.get("global_step") else 0
    if epochs > max_epochs:
        raise ModelError(
            f"ckpt_path={path}: {epochs} epochs are trained already; type "
            f"trainer.max_epochs={epochs} or more"
        )
    return epochs


def check_run(run: Run, cfg: DictConfig, split: Split) -> None:
    """Check that a run is continued with its own split and monitor; log other changes.

    Raises:
        ConfigError: another split, whose held-out images the network may know, or another monitor,
            by which nobody has kept the best epoch.
    """
    try:
        before = run.config
        split_before = load_json(run.folder / "splits.json", most=MAX_BYTES)
    except (OSError, DataError, ConfigError):
        return  # lost or damaged, and written anew
    if split_before != split:
        raise ConfigError(
            f"ckpt_path={cfg.ckpt_path}: {run.folder} was trained on another split; type the data "
            f"keys of its run, or weights={run.folder} to start another run from its weights"
        )
    if cfg.monitor != before.get("monitor", cfg.monitor):
        raise ConfigError(
            f"monitor={cfg.monitor} ckpt_path={cfg.ckpt_path}: the best epoch of {run.folder} was "
            f"kept by {before.monitor}; type monitor={before.monitor}"
        )
    old, new = (
        {k: v for k, v in flat(c, {}).items() if k.startswith(REPORTED_KEYS)} for c in (before, cfg)
    )
    if changes := changed_keys(new, old):
        log.warning("ckpt_path=%s: goes on with %s", cfg.ckpt_path, "; ".join(changes))


def check_optimizer(path: Path, module: PoseModule) -> None:
    """Check that a checkpoint's optimizer is the module's; log what it keeps of its own.

    Raises:
        ModelError: another optimizer, or other groups of parameters.
    """
    own = module.make_optimizer()
    typed = [dict(group) for group in own.param_groups]
    saved = _read(path)["optimizer_states"][0]
    try:
        own.load_state_dict(saved)  # it adds the keys of a newer torch
        fits = all(
            new.keys() >= old.keys() for new, old in zip(own.param_groups, typed, strict=True)
        )
    except (ValueError, KeyError):
        fits = False
    if not fits:
        raise ModelError(
            f"ckpt_path={path}: the checkpoint of another optimizer or of other groups of "
            "parameters; type the optimizer and parameters keys of its run, or weights=FILE "
            "instead, which starts afresh from its weights"
        )
    kept = [dict(group, lr=group["initial_lr"]) for group in saved["param_groups"]]
    changes = dict.fromkeys(
        f"{key}={old[key]}, not {new[key]}"
        for old, new in zip(kept, typed, strict=True)
        for key in new
        if key in old and key not in ("params", "lr_factor") and old[key] != new[key]
    )
    if changes:
        log.warning("ckpt_path=%s: its optimizer goes on with %s", path, "; ".join(changes))


def _read(path: Path) -> dict[str, Any]:
    """Read the content of a checkpoint, also of one that a GPU has written."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if "optimizer_states" not in content:
        raise ModelError(
            f"ckpt_path={path}: weights without the state of a training; type weights={path}"
        )
    return content
