"""From configuration to objects: the only file that calls `hydra.utils.instantiate`.

Before a class is built, it is held against what a configuration may name (`convpose.trust`), and
its keys against its constructor: the signature is the schema. An unknown key or a value of another
type is a `ConfigError` that says what to type.
"""

import functools
import inspect
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from convpose.errors import ConfigError, ConvposeError, ModelError
from convpose.hints import check_seed, check_types, hints_of, require
from convpose.models.pose_model import Backbone, PoseModel
from convpose.skeleton import LSP14, Skeleton, skeleton_named
from convpose.trust import find_target

if TYPE_CHECKING:  # Lightning takes seconds to import, and whoever predicts needs none of it
    from lightning import Callback, Trainer
    from lightning.pytorch.loggers import Logger

    from convpose.data.datamodule import PoseDataModule
    from convpose.training.module import PoseModule

TOP_LEVEL: dict[str, Any] = {
    "study": str | int | None,
    "seed": int,
    "monitor": str,
    "monitor_mode": Literal["max", "min"],
    "ckpt_path": str | None,
    "weights": str | None,
    "lr_find": bool,
    "channels_last": bool,
    "compile": bool,
}
ABOVE_ZERO = (  # numbers of the trainer, null where they may be left out
    *("max_epochs", "limit_train_batches", "limit_val_batches", "gradient_clip_val"),
    *("accumulate_grad_batches", "check_val_every_n_epoch"),
)
# keys of data that sources or apps read
READ_BY_OTHERS = ("source", "skeleton", "gallery", "gallery_images")


def check_top_level(cfg: DictConfig) -> None:
    """Hold the keys that belong to no constructor against their types.

    Raises:
        ConfigError: a value of another type, or a seed that no generator takes.
    """
    check_types(cfg, TOP_LEVEL)
    check_seed(cfg.seed)


def skeleton_of(cfg: DictConfig) -> Skeleton:
    """The skeleton of ``data.skeleton``; LSP's for runs that are older than the key."""
    return skeleton_named(cfg.data.get("skeleton", LSP14.name))


def build_datamodule(cfg: DictConfig) -> "PoseDataModule":
    """The data of ``cfg.data`` with ``cfg.augment``, seeded by ``cfg.seed``.

    Raises:
        ConfigError: ``data.source`` for data that are not read from a file, or another skeleton
            than the only one that a source has.
    """
    skeleton = skeleton_of(cfg)
    sources = (cfg.data.get("sources") or {}).values()
    named = (cfg.data.get("sources") or {}).items()
    fixed = [name for name, source in named if source and "skeleton" not in source]
    if skeleton != LSP14 and fixed:
        raise ConfigError(
            f"data.skeleton={skeleton.name}: {', '.join(fixed)} has the joints of {LSP14.name} and "
            f"no others; type data.skeleton={LSP14.name}, or data=coco, mpii or flic"
        )
    if cfg.data.get("source") is not None and not any("source" in s for s in sources if s):
        raise ConfigError(
            f"data.source={cfg.data.source}: this data set is not read from a file; type "
            "data=lspet, data=lsp or data=lsp_lspet, or leave data.source out"
        )
    augment = build(cfg.augment, "augment") if "augment" in cfg else None
    settings = OmegaConf.masked_copy(cfg.data, [k for k in cfg.data if k not in READ_BY_OTHERS])
    settings._set_parent(cfg)  # interpolations look for their keys there
    given = {"augment": augment, "seed": cfg.get("seed", 0), "skeleton": skeleton}
    datamodule: PoseDataModule = build(settings, "data", **given)
    return datamodule


def build_model(cfg: DictConfig) -> PoseModel:
    """Backbone and head; with ``model.start`` they are a stage over another network."""
    if "start" in cfg.model:
        from convpose.build_cascade import build_cascade  # which builds with this module

        return build_cascade(cfg)
    backbone = build(cfg.model, "model")
    head = build_head(cfg, backbone, cfg.data.input_size_px)
    return PoseModel(backbone, head, skeleton_of(cfg).num_keypoints, cfg.channels_last)


def build_head(cfg: DictConfig, backbone: Backbone, input_size_px: int) -> nn.Module:
    """The head, told the backbone's feature maps and the side of what the backbone sees."""
    head: nn.Module = build(
        cfg.head,
        "head",
        out_channels=backbone.out_channels,
        strides=backbone.strides,
        input_size_px=input_size_px,
        num_keypoints=skeleton_of(cfg).num_keypoints,
    )
    return head


def build_module(cfg: DictConfig, model: PoseModel) -> "PoseModule":
    """Model, loss, optimizer and schedule; a rate that no optimizer takes is refused here."""
    from convpose.training.module import PoseModule

    loss: nn.Module = build(cfg.loss, "loss")
    optimizer = build(cfg.optimizer, "optimizer")
    scheduler = build(cfg.scheduler, "scheduler")
    try:
        scheduler(optimizer([nn.Parameter(torch.zeros(1))]), 100)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"optimizer: {error}; {_line(cfg.optimizer)}") from error
    parameters = build(cfg.parameters, "parameters")
    check_pair(model.head, loss)
    return PoseModule(model, loss, optimizer, parameters, scheduler, skeleton_of(cfg), cfg.seed)


def check_pair(head: nn.Module, loss: nn.Module) -> None:
    """Hold what a loss trains against what the head gives it, see `convpose.models.heads`.

    Raises:
        ConfigError: a loss of another head.
    """
    gives = getattr(head, "gives", ("keypoints",))
    if missing := [key for key in getattr(loss, "needs", ()) if key not in gives]:
        own = type(head).__module__.rpartition(".")[2]  # a head's file and its loss share the name
        raise ConfigError(
            f"loss: {type(loss).__name__} trains {missing[0]}, and {type(head).__name__} has only "
            f"{' and '.join(gives)} to train; type loss={own}"
        )


def build_trainer(
    cfg: DictConfig, callbacks: "list[Callback]", logger: "Logger | bool", folder: Path
) -> "Trainer":
    """Lightning's trainer with ``precision=auto`` made concrete.

    Raises:
        ConfigError: no epoch to train, or what Lightning refuses.
    """
    from lightning.pytorch.callbacks import Checkpoint, ProgressBar

    settings = cfg.trainer.copy()
    settings.precision = resolve_precision(cfg)
    settings.enable_progress_bar = any(isinstance(c, ProgressBar) for c in callbacks)
    given: dict[str, Any] = {"callbacks": callbacks, "logger": logger}
    given["default_root_dir"] = str(folder)
    given["enable_checkpointing"] = any(isinstance(c, Checkpoint) for c in callbacks)
    trainer: Trainer = build(settings, "trainer", **given)
    for key in ABOVE_ZERO:
        value = settings.get(key)
        if value is not None and value <= 0:
            raise ConfigError(f"trainer.{key}={value}: expected more than 0")
    every, epochs = settings.check_val_every_n_epoch, settings.max_epochs
    if every is None or epochs is None or every > epochs:
        raise ConfigError(
            f"trainer.max_epochs={epochs}: expected a whole number, and at least "
            f"trainer.check_val_every_n_epoch={every} so that an epoch is validated"
        )
    return trainer


def resolve_precision(cfg: DictConfig) -> str:
    """``trainer.precision=auto``: bf16 where the hardware multiplies it, else fp16 or 32-bit."""
    if cfg.trainer.precision != "auto":
        return str(cfg.trainer.precision)
    if cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if bf16 else "16-mixed"
    amx = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if amx else "32-true"


def build(node: DictConfig, key: str, **given: Any) -> Any:
    """Instantiate a config node.

    Args:
        node: with ``_target_``, perhaps nested.
        key: where the node stands, for messages.
        given: arguments that are computed, not configured.

    Raises:
        ConfigError: an unknown or missing key, or a value that the constructor refuses.
        ConvposeError: what a constructor of ours refuses.
    """
    check(node, key, given)
    try:
        make = instantiate(node, _partial_=True)  # `given` must not pass through OmegaConf
        return functools.partial(make, **given) if node.get("_partial_") else make(**given)
    except InstantiationException as error:  # of a nested node
        if isinstance(error.__cause__, ConvposeError):
            raise error.__cause__ from error
        raise ConfigError(f"{key}: {error.__cause__ or error}; {_line(node)}") from error
    except _refusals() as error:
        raise ConfigError(f"{key}: {error}; {_line(node)}") from error
    except RuntimeError as error:
        from convpose.training.memory import out_of_memory

        if not out_of_memory(error):
            raise
        raise ModelError(
            f"{key}: wants more memory than there is; {_line(node)}; type a smaller "
            "data.input_size_px, or a smaller network"
        ) from error


def _refusals() -> tuple[type[Exception], ...]:
    """What constructors raise on a bad value, and Lightning's where it has been imported."""
    lightning = sys.modules.get("lightning.fabric.utilities.exceptions")
    return (ValueError, TypeError, *([lightning.MisconfigurationException] if lightning else []))


def check(node: Any, key: str, given: Mapping[str, Any] = types.MappingProxyType({})) -> None:
    """Hold a node's keys and plain values against the constructor that it names, recursively."""
    if isinstance(node, ListConfig):
        for i, child in enumerate(node):
            check(child, f"{key}.{i}")
    if not isinstance(node, DictConfig):
        return
    for name in map(str, node):
        check(node[name], f"{key}.{name}")
    if "_target_" not in node:
        return
    target = find_target(node["_target_"], key)
    parameters = inspect.signature(target).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    types_of = hints_of(target)
    known = ", ".join(n for n in parameters if n not in given)
    plain: Any = OmegaConf.to_container(node, resolve=True)
    for name in (n for n in map(str, plain) if not (n[0] == "_" == n[-1])):
        if name not in parameters and not open_ended:
            raise ConfigError(f"unknown key {key}.{name}; keys there: {known}")
        if name in types_of:
            require(f"{key}.{name}", plain[name], types_of[name])
    for name, parameter in parameters.items():
        starred = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        needed = parameter.default is parameter.empty and not starred
        if needed and not (name in plain or name in given or "_partial_" in plain):
            raise ConfigError(f"{key}.{name} is missing; keys there: {known}")


def _line(node: DictConfig) -> str:
    """A node's own keys as they were set, the first ones, for a message."""
    keys = [key for key in map(str, node) if key[0] != "_"][:4]
    return "it was given " + " ".join(f"{key}={node[key]}" for key in keys)
