"""Run folders as a training leaves them, in milliseconds: learning curves that nobody trained."""

import functools
import json
import math
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from tiny import tiny_config

from convpose.history import write_history
from convpose.skeleton import LSP14

CHOICES = {"data": "synthetic", "model": "vgg_bn", "optimizer": "sgd", "augment": "default"}


@functools.cache
def plain_config() -> DictConfig:
    cfg = tiny_config("trainer.max_epochs=10")
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


def fake_run(
    folder: Path,
    *keys: str,
    pck: float = 0.5,
    epochs: int = 4,
    choices: dict[str, str] | None = None,
    facts: dict | None = None,
) -> Path:
    """Write a finished run.

    Args:
        folder: of the run.
        keys: what its command line set, ``optimizer.lr=0.1``.
        pck: val/pck@0.2 of the last epoch, which is the best one.
        epochs: rows of its history.
        choices: of ``run.json``; those that differ from `CHOICES`.
        facts: more of ``run.json``, or others.
    """
    folder.mkdir(parents=True)
    cfg = OmegaConf.merge(plain_config(), OmegaConf.from_dotlist(list(keys)))
    # OmegaConf's own writer is written in Python, twenty times slower
    text = yaml.dump(OmegaConf.to_container(cfg), Dumper=yaml.CSafeDumper, sort_keys=False)
    (folder / "config.yaml").write_text(text)
    content = {
        "choices": CHOICES | (choices or {}),
        "overrides": list(keys),
        "seconds": 2.0 * epochs,
    }
    content |= {"started": "2026-11-22 10:00:00", "revision": "abc", "hardware": "a machine"}
    (folder / "run.json").write_text(json.dumps(content | (facts or {})))
    (folder / "layers.md").write_text("| # | layer |\n\n10 layers, 1,234,567 parameters\n")
    write_history(folder / "metrics.csv", [row(epoch, epochs, pck) for epoch in range(epochs)])
    return folder


def row(epoch: int, epochs: int, pck: float) -> dict[str, float]:
    """A curve that saturates; the two sides of the body differ by the parity of the joint."""
    reached = pck * (1 - math.exp(-3 * (epoch + 1) / epochs)) / (1 - math.exp(-3))
    joints = {
        f"joint/{name}": reached * (0.8 + 0.1 * (i % 4)) for i, name in enumerate(LSP14.keypoints)
    }
    return {
        "epoch": float(epoch),
        "val/loss": 0.1 * (1 - reached),
        "val/pck@0.2": reached,
        "val/auc": reached / 2,
        "val/epe_px": 20 * (1 - reached),
        "train/loss": 0.1 * (1 - 1.1 * reached),
        **joints,
        "lr": 0.1,
        "images_per_s": 100.0,
        "seconds": 2.0,
    }
