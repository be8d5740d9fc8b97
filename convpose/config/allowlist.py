"""Allow a configuration to name harmless classes only: a run folder may come from anybody.

Hydra calls whatever ``_target_`` names, and imports its module first, which runs that module's
code. A run folder that was downloaded could so name ``os.system``, ``torch.hub.load`` or a file
that lies beside it. Hydra refuses a list of functions that are known to be dangerous.
This module allows a list instead, the building blocks of a run:

- The module belongs to convpose, to one of `PACKAGES`, or to a package of the user's own, which
  the environment variable CONVPOSE_PACKAGES names (several with commas). No other is imported.
- A class of convpose or of the user's own packages is allowed. A class of `PACKAGES` must be one of
  `KINDS`, whose constructors compute, log and read, but run no code that their arguments name.
- A function must be of convpose or of the user's own packages, and its return annotation must be
  one of `KINDS`.
"""

import inspect
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from convpose.bounded import MAX_FACTS, key_values, parse_yaml, read_file
from convpose.errors import ConfigError, DataError

PACKAGES = ("convpose", "torch", "torchvision", "lightning", "albumentations", "timm", "optuna")
KINDS = {
    "torch.nn.modules.module.Module",
    "torch.optim.optimizer.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
    "lightning.pytorch.trainer.trainer.Trainer",
    "lightning.pytorch.callbacks.callback.Callback",
    "lightning.pytorch.loggers.logger.Logger",
    "lightning.pytorch.strategies.strategy.Strategy",
    "lightning.pytorch.profilers.profiler.Profiler",
    "lightning.pytorch.core.datamodule.LightningDataModule",
    "albumentations.core.transforms_interface.BasicTransform",
    "albumentations.core.composition.BaseCompose",
    "optuna.distributions.BaseDistribution",
    "optuna.samplers._base.BaseSampler",
    "optuna.pruners._base.BasePruner",
    "convpose.predict.detectors.Detector",
}

# today's modules, and parts of them → the names that they had, in run folders, packaged weights,
# exports and yamls
OLDER_NAMES = {
    "models.backbones.movenet": "models.movenet",
    "models.backbones.timm": "models.timm_backbone",
    "models.backbones.vgg": "models.vgg",
    "models.keypoints.distill": "models.losses.distill",
    "models.keypoints.heatmap": "models.heads.heatmap models.heads.integral "
    "models.keypoints.integral models.losses.heatmap models.losses.integral",
    "models.keypoints.movenet": "models.heads.movenet",
    "models.keypoints.regression": "models.heads.regression models.heads.rle "
    "models.losses.coordinate models.keypoints.rle models.losses.rle",
    "models.keypoints.simcc": "models.heads.simcc models.losses.simcc",
    "predict.clips": "inference.smoothing inference.tracking",
    "predict.cluster": "inference.cluster",
    "predict.detectors": "inference.detector",
    "predict.onnx_detectors": "inference.yolox",
    "predict.onnx_detectors.YoloxDetector": "predict.detectors.YoloxDetector",
    "predict.onnx_detectors.find_detector": "predict.detectors.find_detector",
    "search.space": "search.samplers searching.samplers",
    "train.callbacks": "train.callbacks.alarms train.callbacks.early_stopping train.callbacks.ema "
    "train.callbacks.freeze training.alarms training.early_stopping training.ema training.freeze",
    "train.checkpoints": "training.checkpoints",
    "train.epoch_report": "train.callbacks.preview training.preview",
    "train.loggers": "train.callbacks.epoch_report training.board",
    "train.loggers.CsvTable": "train.loggers.Table",
    "train.module": "train.optim training.parameters training.schedules",
}
MOVED = {
    f"convpose.{old}": f"convpose.{new}" for new, of in OLDER_NAMES.items() for old in of.split()
}


def current_name(path: str) -> str:
    """Translate the ``_target_`` of an older version to the name that it has today."""
    module, _, name = path.rpartition(".")
    return MOVED.get(path) or (f"{MOVED[module]}.{name}" if module in MOVED else path)


def find_target(path: Any, key: str) -> Callable[..., Any]:
    """Find the class or function that a ``_target_`` names.

    Args:
        path: value of ``_target_``, perhaps of an older version.
        key: of the node, for messages.

    Raises:
        ConfigError: not allowed, or not found.
    """
    path = current_name(str(path))
    own = ("convpose", *filter(None, os.environ.get("CONVPOSE_PACKAGES", "").split(",")))
    parts = path.split(".")
    if parts[0] not in (*PACKAGES, *own) or any(part.startswith("_") for part in parts):
        raise ConfigError(
            f"{key}._target_={path}: not one of the packages that a configuration may name, "
            f"{', '.join(dict.fromkeys((*PACKAGES, *own)))}; if {parts[0]} is yours, put "
            f"CONVPOSE_PACKAGES={parts[0]} before the command"
        )
    try:
        target = get_object(path)
    except Exception as error:  # an import may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{key}._target_={path}: not found ({reason})") from error
    ours = str(getattr(target, "__module__", "")).partition(".")[0] in own
    if inspect.isclass(target):
        allowed = ours or is_kind(target)
    else:
        allowed = ours and inspect.isfunction(target) and is_kind(_returned(target))
    if not allowed:
        raise ConfigError(
            f"{key}._target_={path}: not a part of a run; expected a class that is a module, "
            "optimizer, callback, logger, transform or the like, or a function of convpose or of "
            "CONVPOSE_PACKAGES whose annotation says that it returns one"
        )
    return target  # type: ignore[no-any-return]


def is_kind(target: Any) -> bool:
    """Return True for a class that is one of `KINDS`, or a source of annotated images."""
    classes = inspect.getmro(target) if inspect.isclass(target) else ()
    names = {f"{parent.__module__}.{parent.__qualname__}" for parent in classes}
    return bool(names & KINDS) or all(hasattr(target, x) for x in ("annotations", "read_image"))


def read_config(path: Path) -> DictConfig:
    """Read the configuration of a run folder without evaluating anything in it.

    Raises:
        ConfigError: not a mapping in YAML, or see `as_data`.
    """
    try:
        text = read_file(path, MAX_FACTS).decode("utf-8")
        plain = parse_yaml(str(path), text)
    except (DataError, OSError, UnicodeError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ConfigError(f"{path}: not a configuration ({reason})") from error
    _check_data(plain, str(path))
    return _create(io.StringIO(text), str(path))  # again: OmegaConf reads 1e-3 as a number


def as_data(plain: Any, where: str) -> DictConfig:
    """Make a configuration of mappings, lists and values, none of which is evaluated.

    Args:
        plain: out of a file that anybody may have written.
        where: the file, for messages.

    Raises:
        ConfigError: no mapping, or a value with an interpolation, ``${…}``.
    """
    _check_data(plain, where)
    return _create(plain, where)


def _check_data(plain: Any, where: str) -> None:
    if not isinstance(plain, dict) or not plain:
        raise ConfigError(f"{where}: not a configuration")
    for key, value in key_values(plain):
        if "${" in key or (isinstance(value, str) and ("${" in value or value == "???")):
            raise ConfigError(
                f"{where}: {key}={value}: a run's configuration is written resolved and nothing "
                "in it is evaluated; write the value itself"
            )


def _create(content: Any, where: str) -> DictConfig:
    try:
        file = isinstance(content, io.StringIO)
        cfg = OmegaConf.load(content) if file else OmegaConf.create(content)
    except Exception as error:  # a broken file can raise any of a dozen kinds
        reason = " ".join(str(error).split())
        raise ConfigError(f"{where}: not a configuration ({reason})") from error
    if not isinstance(cfg, DictConfig):
        raise ConfigError(f"{where}: not a configuration")
    return cfg


def _returned(function: Callable[..., Any]) -> Any:
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError):  # names that exist for a type checker only
        return None
