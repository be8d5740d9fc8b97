"""Load the network of a run folder."""

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from convpose.errors import ConfigError
from convpose.hardware import AUTOCAST, resolve_precision, want_gpu
from convpose.models.build import build_model
from convpose.models.pose_model import PoseModel
from convpose.models.weights import load_checkpoint
from convpose.run import Run
from convpose.runtime import CropSpec, TorchRuntime
from convpose.skeleton import LSP14


def network_config(trained: DictConfig) -> DictConfig:
    """Pick the part of a training's configuration from which its network is rebuilt.

    It holds no path of the training machine, and no weights are downloaded again.
    """
    data: Any = {key: trained.data[key] for key in ("input_size_px", "crop", "box_scale")}
    data["skeleton"] = trained.data.get("skeleton", LSP14.name)
    model: Any = _without_files(OmegaConf.to_container(trained.model, resolve=True))
    head: Any = _without_files(OmegaConf.to_container(trained.head, resolve=True))
    trainer = {"precision": trained.trainer.precision, "accelerator": "auto"}
    return OmegaConf.create(
        {
            "data": OmegaConf.to_container(OmegaConf.create(data), resolve=True),
            "model": model,
            "head": head,
            "channels_last": trained.channels_last,
            "trainer": trainer,
        }
    )


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
    run = Run.find(Path(folder))
    cfg = network_config(run.config)
    path = run.checkpoint(checkpoint)
    model = build_model(cfg)
    load_checkpoint(model, path)
    return to_runtime(model, cfg, accelerator, precision)


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


def _without_files(node: Any) -> Any:
    """Drop the keys that say where the network's first weights came from."""
    if isinstance(node, list):
        return [_without_files(item) for item in node]
    if not isinstance(node, dict):
        return node
    files = ("weights", "run")
    return {key: None if key in files else _without_files(item) for key, item in node.items()}
