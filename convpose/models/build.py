"""From a configuration to a network: backbone and head, or a cascade over the network of a run."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from convpose.config.allowlist import current_name
from convpose.config.instantiate import build, check, skeleton_of
from convpose.config.schema import Side, check_table
from convpose.errors import ConfigError, ModelError
from convpose.models.cascade import Cascade, Resized
from convpose.models.pose_model import Backbone, PoseModel
from convpose.models.weights import load_checkpoint
from convpose.run import Run
from convpose.skeleton import bundled

NETWORK_KEYS = {
    "model": dict[str, Any],
    "head": dict[str, Any],
    "data": dict[str, Any],
    "data.input_size_px": Side,
    "data.skeleton": str | dict[str, Any] | None,
    "channels_last": bool,
}

STAGE = ("start", "backbone", "head", "skeleton", "channels_last")  # a cascade is given in Python


def build_model(cfg: DictConfig) -> PoseModel:
    """Build backbone and head; with ``model.start`` they are a stage over another network.

    Raises:
        ConfigError: a missing key, or one that its part refuses; the file may come from anybody.
    """
    check_table(cfg, NETWORK_KEYS)
    if "start" in cfg.model:
        return build_cascade(cfg)
    backbone = build_backbone(cfg.model, "model")
    head = build_head(cfg, backbone, cfg.data.input_size_px)
    return PoseModel(backbone, head, skeleton_of(cfg).num_keypoints, cfg.channels_last)


def build_backbone(node: DictConfig, key: str) -> Any:
    """Build a backbone; refuse a module that does not say how its feature maps look."""
    backbone = build(node, key)
    wanted = ("out_channels", "strides", "pixel_mean", "pixel_std")
    if missing := [name for name in wanted if not hasattr(backbone, name)]:
        raise ConfigError(
            f"{key}._target_={node._target_}: no backbone, it has no {missing[0]}; docs/extend.md "
            "shows one, and model=NAME takes one of convpose"
        )
    return backbone


def build_head(cfg: DictConfig, backbone: Backbone, input_size_px: int) -> nn.Module:
    """Build the head for the backbone's feature maps and the side of the backbone's input."""
    head = build(
        cfg.head,
        "head",
        out_channels=backbone.out_channels,
        strides=backbone.strides,
        input_size_px=input_size_px,
        num_keypoints=skeleton_of(cfg).num_keypoints,
    )
    if not isinstance(head, nn.Module):
        raise ConfigError(f"head._target_={cfg.head._target_}: builds no module; type head=NAME")
    return head


def drop_weights(settings: Any) -> None:
    """Forget the files that a network started from: its checkpoint has all weights.

    Classes get the names that they have today.
    """
    for part in ("model", "head"):
        _drop_files(settings[part])


def _drop_files(node: Any) -> None:
    if isinstance(node, ListConfig | list):
        for item in node:
            _drop_files(item)
    elif isinstance(node, DictConfig | dict):
        for key in node:
            if key in ("weights", "run"):
                node[key] = None
            elif key == "_target_":
                node[key] = current_name(str(node[key]))
            else:
                _drop_files(node[key])


def build_cascade(cfg: DictConfig) -> Cascade:
    """Build the network of a run with one more stage.

    In a training, ``model.run`` names the run. In a cascade's own run folder ``model.start`` holds
    the needed part of that run's configuration (see `self_contained`). The cascade is then rebuilt
    without the run and without weights: its own checkpoint has those of all stages.

    Raises:
        ConfigError: no run, a run of another skeleton, or crops smaller than the run was trained
            on.
        ModelError: the run has no checkpoint, or one of another network.
    """
    own = cfg.model.copy()
    stage = stage_of(own)
    check(stage, "model", dict.fromkeys(STAGE))
    run = _find(own.run) if own.start is None else None
    if run is not None:
        own.start = _settings(run.config)
    check_start(cfg, own.start)
    start = build_model(own.start)
    if run is not None:
        load_checkpoint(start, run.checkpoint("best"))
    elif "weights" in own.backbone:
        own.backbone.weights = None
    with _renamed(r"\bmodel\.(?!backbone\b)", "model.backbone."):
        backbone = build_backbone(own.backbone, "model.backbone")
    with _renamed(r"\bdata\.input_size_px\b", "model.subimage_px"):
        head = build_head(cfg, backbone, own.subimage_px)
    cascade: Cascade = build(
        stage,
        "model",
        start=Resized(start, own.start.data.input_size_px),
        backbone=backbone,
        head=head,
        skeleton=skeleton_of(cfg),
        channels_last=cfg.channels_last,
    )
    return cascade


def self_contained(cfg: DictConfig) -> DictConfig:
    """Complete the configuration for a run's folder: a cascade's holds that of its start.

    Raises:
        ConfigError: it does so already, so the training would have a start without weights.
    """
    if "start" not in cfg.model:
        return cfg
    if cfg.model.start is not None:
        raise ConfigError(
            "model.start is given, by which a trained cascade is rebuilt; to train one type "
            "model.start=null model.run=RUN_FOLDER"
        )
    cfg = cfg.copy()
    cfg.model.start = _settings(_find(cfg.model.run).config)
    return cfg


def stage_of(model: DictConfig) -> DictConfig:
    """Take of a cascade's ``model`` the keys that its constructor has."""
    return OmegaConf.masked_copy(
        model, [str(k) for k in model if k not in ("run", "start", "backbone")]
    )


@contextlib.contextmanager
def _renamed(pattern: str, key: str) -> Iterator[None]:
    """Rename keys in error messages: those of a plain network to those of a cascade."""
    try:
        yield
    except (ConfigError, ModelError) as error:
        raise type(error)(re.sub(pattern, key, str(error))) from error


def _find(path: Any) -> Run:
    if path is None:
        raise ConfigError(
            "model=cascade: refines the poses of a trained network; type model.run=RUN_FOLDER, of "
            "any run, also of a cascade"
        )
    return Run.find(Path(str(path)), "model.run")


def _settings(trained: DictConfig) -> dict[str, Any]:
    """Take the part of a run's configuration that its network is built from, without weights."""
    settings: Any = OmegaConf.to_container(trained)
    drop_weights(settings)
    data = {k: v for k, v in settings["data"].items() if k in ("input_size_px", "skeleton")}
    return {key: settings[key] for key in ("model", "head", "channels_last")} | {"data": data}


def check_start(cfg: DictConfig, start: Any) -> None:
    """Compare the start's skeleton and the size of its crops with the data.

    Raises:
        ConfigError: another skeleton, or crops smaller than those of the start.
    """
    if not isinstance(start, DictConfig):
        raise ConfigError(
            f"model.start={start}: is written by the training; type model.run=RUN_FOLDER"
        )
    check_skeleton(cfg, start, f"model.run={cfg.model.run}")
    seen, given = start.data.input_size_px, cfg.data.input_size_px
    if given < seen:
        raise ConfigError(
            f"data.input_size_px={given}: model.run={cfg.model.run} sees crops of {seen} px, and "
            f"a closer look needs more; type data.input_size_px={2 * seen}"
        )
    stored = cfg.data.get("cache_size_px", given)
    if cfg.data.get("cache") and stored < given:
        raise ConfigError(
            f"data.cache_size_px={stored}: the cache holds less than a cascade is to see; type "
            f"data.cache_size_px={given} and data.cache=ANOTHER_FILE"
        )


def check_skeleton(cfg: DictConfig, trained: DictConfig, typed: str) -> None:
    """Check that a trained network, named by what was typed, has the skeleton of the data.

    Raises:
        ConfigError: another skeleton.
    """
    own, other = skeleton_of(cfg), skeleton_of(trained)
    if own != other:
        known = other.name if bundled().get(other.name) == other else "FILE.yaml of its training"
        raise ConfigError(
            f"{typed}: has the skeleton {other.name}, the data {own.name}; type a run of "
            f"{own.name}, or data.skeleton={known}"
        )
