"""Choose the checkpoint that a training continues from, and check that it may."""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from convpose import files
from convpose.bounded import MAX_BYTES, load_json
from convpose.config.arguments import typed
from convpose.config.instantiate import skeleton_of
from convpose.data.splits import Split
from convpose.errors import ConfigError, DataError, ModelError
from convpose.models.weights import read_weights
from convpose.run import Run, Value, changed_keys, flat
from convpose.skeleton import LSP14
from convpose.train.checkpoints import LAST, PREVIOUS, damage
from convpose.train.module import PoseModule

log = logging.getLogger(__name__)
# keys of what is learnt and measured: a change of them is another run
MEASURED = re.compile(
    r"data\.((input_size_px|crop|box_scale|skeleton|names|category)\b"
    r"|sources\.\w+\.(?!source$|folder$|images$|missing$|mirrors$|sha256$))"  # not where they lie
)
# keys whose change makes another training of a continued run
REPORTED = re.compile(
    r"seed$|augment\b|loss\b|scheduler\b|head\.|model\.(?!start\b|run$|weights$)"
    r"|data\.(batch_size|repeat)\b|callbacks\.(?!early_stopping|checkpoint|preview|.*alarm|nan)"
    r"|trainer\.(gradient_clip_val|accumulate_grad_batches|precision|limit_|overfit_)"
)
NEWER = ("data.sources.", "head.", "model.")  # parts whose keys an older run may lack
UNREAD = {"weights": "its own weights", "lr_find": "its own rate"}  # keys that only begin a run


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


def run_of(checkpoint: Path) -> Run:
    """Return the run that a checkpoint lies in."""
    return Run(checkpoint.absolute().parents[1])


def check_run(run: Run, cfg: DictConfig, split: Split) -> None:
    """Check that a run is continued with its own data, split and monitor; log other changes.

    Keys that only begin a run become again what they were.

    Raises:
        ConfigError: another split, whose held-out images the network may know, other data, by which
            no epoch has been measured, or another monitor, by which nobody has kept the best epoch.
    """
    try:
        before = run.config
        split_before = load_json(run.folder / "splits.json", most=MAX_BYTES)
    except (OSError, DataError, ConfigError):
        return  # lost or damaged, and written anew
    new = flat(cfg, {})
    old = {"data.skeleton": LSP14.name, **flat(before, {})}
    new = {k: v for k, v in new.items() if k in old or not k.startswith(NEWER)}
    wrong = "on another split" if split_before != split else ""
    changes = _changed(MEASURED, new, old)
    one, other = skeleton_of(cfg), skeleton_of(before)
    if (one.keypoints, one.normaliser) != (other.keypoints, other.normaliser) and not changes:
        changes = [f"data.skeleton={one.name}, of other keypoints or another normaliser"]
    if changes:
        wrong = f"with other data ({'; '.join(changes)})"
    if wrong:
        raise ConfigError(
            f"ckpt_path={cfg.ckpt_path}: {files.shown(run.folder)} was trained {wrong}; type the "
            f"data keys of its run, or {typed('weights', run.folder)} to start another run from "
            "its weights"
        )
    if cfg.monitor != before.get("monitor", cfg.monitor):
        raise ConfigError(
            f"monitor={cfg.monitor} ckpt_path={cfg.ckpt_path}: the best epoch of {run.folder} was "
            f"kept by {before.monitor}; type monitor={before.monitor}"
        )
    changes = _changed(REPORTED, new, old)
    for key, own in UNREAD.items():
        if cfg[key] and cfg[key] != before.get(key):
            changes.append(f"{own}, not {key}={cfg[key]}")
            cfg[key] = before.get(key)  # the run's folder says what it began with
    if changes:
        log.warning("ckpt_path=%s: goes on with %s", cfg.ckpt_path, "; ".join(changes))


def _changed(keys: re.Pattern[str], new: dict[str, Value], old: dict[str, Value]) -> list[str]:
    """Describe the changes of some keys."""
    ours, theirs = ({k: v for k, v in c.items() if keys.match(k)} for c in (new, old))
    return changed_keys(ours, theirs)


def check_optimizer(path: Path, module: PoseModule) -> None:
    """Check that a checkpoint's optimizer is the module's; log what it keeps of its own.

    Raises:
        ModelError: another optimizer, or other groups of parameters.
    """
    own = module.make_optimizer()
    asked = [dict(group) for group in own.param_groups]
    saved = _read(path)["optimizer_states"][0]
    try:
        own.load_state_dict(saved)  # it adds the keys of a newer torch
        fits = all(
            new.keys() >= old.keys() for new, old in zip(own.param_groups, asked, strict=True)
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
        for old, new in zip(kept, asked, strict=True)
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
