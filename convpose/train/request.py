"""Check what is asked of a training; apart from the training, which imports torch."""

from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from convpose.config.schema import Count, Positive, Seed, check_table
from convpose.errors import ConfigError
from convpose.run import Run
from convpose.runtime.engines import weights_file

KEYS: dict[str, Any] = {
    "study": str | int | None,
    "seed": Seed,
    "monitor": str,
    "monitor_mode": Literal["max", "min"],
    "ckpt_path": str | None,
    "weights": str | None,
    "take_network": bool | None,
    "lr_find": bool,
    "channels_last": bool,
    "compile": bool,
    # Lightning gives 0 and -1 a meaning that no training here has
    "trainer.max_epochs": Count,
    "trainer.check_val_every_n_epoch": Count,
    "trainer.accumulate_grad_batches": Count | None,
    "trainer.limit_train_batches": Positive | None,
    "trainer.limit_val_batches": Positive | None,
    "trainer.gradient_clip_val": Positive | None,
}


def check_keys(cfg: DictConfig) -> None:
    """Check the keys that belong to no constructor, and what Lightning allows but no training.

    Raises:
        ConfigError: a value that cannot be, or no run where ``weights`` names one.
        ModelError: no such network.
    """
    check_table(cfg, KEYS)
    if cfg.data.split == "whole":
        raise ConfigError(
            "data.split=whole: the training images would validate and test; type data.split=seeded "
            "(whole is for convpose.evaluate)"
        )
    if cfg.weights is not None:
        find_weights(cfg.weights)


def find_weights(weights: str) -> Path:
    """Find the folder or file that ``weights=`` names; of a run, its folder.

    Raises:
        ConfigError: no run there.
        ModelError: a name that is no network's.
    """
    path = Path(weights)
    if not path.exists() and path.name == weights:
        path = weights_file(weights)
    return Run.find(path, "weights").folder if path.is_dir() else path
