"""Load the network of a run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from convpose.config.schema import check_table
from convpose.data.crop import Mode, Scale
from convpose.errors import ConfigError
from convpose.hardware import AUTOCAST, resolve_precision, want_gpu
from convpose.models.build import NETWORK, build_model, drop_weights
from convpose.models.pose_model import PoseModel
from convpose.models.weights import load_checkpoint, no_larger_than
from convpose.run import Run
from convpose.runtime import CropSpec
from convpose.runtime.pytorch import TorchRuntime
from convpose.skeleton import LSP14

CROPS = {"data.crop": Mode | Mapping[str, Mode], "data.box_scale": Scale}


def network_config(trained: DictConfig) -> DictConfig:
    """Pick the part of a training's configuration from which its network is rebuilt.

    It holds no path of the training machine, and no weights are downloaded again.

    Raises:
        ConfigError: a key that is missing or out of its range; the file may come from anybody.
    """
    check_table(trained, {**NETWORK, **CROPS, "trainer.precision": str})
    plain: Any = OmegaConf.to_container(trained, resolve=True)
    data = {key: plain["data"][key] for key in ("input_size_px", "crop", "box_scale")}
    data["skeleton"] = plain["data"].get("skeleton", LSP14.name)
    trainer = {"precision": plain["trainer"]["precision"], "accelerator": "auto"}
    parts = {key: plain[key] for key in ("model", "head", "channels_last")}
    drop_weights(parts)
    return OmegaConf.create({"data": data, **parts, "trainer": trainer})


def load_run(
    folder: str | Path, checkpoint: str = "best", accelerator: str = "auto", precision: str = "auto"
) -> TorchRuntime:
    """Load the network of a run folder, or of a study's newest run.

    Args:
        folder: of the run or the study.
        checkpoint: ``best``, ``last`` or a file.
        accelerator: see `to_runtime`.
        precision: see `to_runtime`.

    Raises:
        ConfigError: no run there, or no such accelerator.
        ModelError: no checkpoint, or one of another network.
    """
    return to_runtime(*rebuild_run(folder, checkpoint), accelerator, precision)


def rebuild_run(folder: str | Path, checkpoint: str = "best") -> tuple[PoseModel, DictConfig]:
    """Rebuild the network of a run; return it and its `network_config`. See `load_run`."""
    run = Run.find(Path(folder))
    cfg = network_config(run.config)
    path = run.checkpoint(checkpoint)
    with no_larger_than(path):
        model = build_model(cfg)
    load_checkpoint(model, path)
    return model, cfg


def to_runtime(
    model: PoseModel, cfg: DictConfig, accelerator: str = "auto", precision: str = "auto"
) -> TorchRuntime:
    """Make a network ready to be called.

    Args:
        model: the network with its weights.
        cfg: its `network_config`.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where there is one.
        precision: ``auto`` for the one of `convpose.evaluate`, or see `TorchRuntime`.

    Raises:
        ConfigError: an accelerator that is not there, or an unknown precision.
    """
    on_gpu = want_gpu(accelerator, torch.cuda.is_available(), "PyTorch sees no GPU here")
    if precision not in ("auto", "32-true", *AUTOCAST):
        raise ConfigError(f"precision={precision}: type auto, 32-true, {' or '.join(AUTOCAST)}")
    cfg.trainer.accelerator = accelerator
    kind = resolve_precision(cfg) if precision == "auto" else precision
    return TorchRuntime(model, CropSpec.from_config(cfg.data), "cuda" if on_gpu else "cpu", kind)
