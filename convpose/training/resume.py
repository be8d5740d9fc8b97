"""Continuing a training from a checkpoint: which one, and whether it fits."""

import logging
from pathlib import Path

import torch
from torch import nn

from convpose.errors import ModelError
from convpose.models.weights import read_weights

log = logging.getLogger(__name__)


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


def check_checkpoint(path: Path, module: nn.Module, max_epochs: int) -> None:
    """Hold a checkpoint against the network and the epochs that are wanted.

    Raises:
        ModelError: of another network, or of more epochs.
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
    epochs = torch.load(path, weights_only=True, mmap=True).get("epoch", 0) + 1
    if epochs > max_epochs:
        raise ModelError(
            f"ckpt_path={path}: {epochs} epochs are trained already; type "
            f"trainer.max_epochs={epochs} or more"
        )
