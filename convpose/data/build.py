"""Build the data of a configuration."""

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convpose.bounded import UNEXPECTED
from convpose.config.arguments import refuse_overwritten
from convpose.config.instantiate import build, build_skeleton, skeleton_of
from convpose.data import readers_of
from convpose.data.cache import cached_skeleton
from convpose.data.datamodule import PoseDataModule
from convpose.errors import ConfigError, DataError
from convpose.skeleton import LSP14, Skeleton, bundled, counterparts, spelled

log = logging.getLogger(__name__)
# keys of ``data`` for sources and commands, not for `PoseDataModule`
READ_BY_OTHERS = (
    *("source", "skeleton", "names", "category", "missing", "gallery", "gallery_images"),
)


def build_datamodule(cfg: DictConfig) -> PoseDataModule:
    """Build the data of ``cfg.data`` with ``cfg.augment``, seeded by ``cfg.seed``.

    Afterwards ``cfg.data.skeleton`` is a mapping, see `settle_skeleton`.

    Raises:
        ConfigError: ``data.source`` for data that are not read from a file, or another skeleton
            than the only one that a source has.
    """
    skeleton = settle_skeleton(cfg)
    sources = list(readers_of(cfg))
    fixed = [
        n for n, reader, _ in sources if "skeleton" not in inspect.signature(reader).parameters
    ]
    if skeleton != LSP14 and fixed:
        raise ConfigError(
            f"data.skeleton={skeleton.name}: {', '.join(fixed)} has the joints of {LSP14.name} and "
            f"no others; type data.skeleton={LSP14.name}, or data=coco, mpii or flic"
        )
    if cfg.data.get("source") is not None and not any("source" in keys for *_, keys in sources):
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


def refuse_other_crops(cfg: DictConfig, own: Mapping[str, Any], skeleton: Skeleton) -> None:
    """Refuse data keys that were typed for a trained network and that differ from its own.

    Args:
        cfg: with ``data``.
        own: the network's values by key.
        skeleton: the network's.

    Raises:
        ConfigError: see `refuse_overwritten`.
    """
    typed = cfg.data.get("skeleton", "auto")
    other = typed not in ("auto", "category") and skeleton_of(cfg) != skeleton
    refuse_overwritten(cfg, {**own, **({"data.skeleton": skeleton.name} if other else {})})


def settle_skeleton(cfg: DictConfig) -> Skeleton:
    """Build the skeleton of ``data.skeleton``, and write it there as a mapping.

    So it travels with the configuration. ``category`` is the skeleton that a data set describes
    itself. ``auto`` is that one too, if it has joints that no skeleton of convpose has; people of
    published data sets are mapped to LSP's joints.

    Raises:
        ConfigError: no such skeleton, or data that describe none.
    """
    wanted = cfg.data.get("skeleton", LSP14.name)
    if wanted not in ("auto", "category"):
        skeleton = skeleton_of(cfg)
    else:
        own = _own_skeleton(cfg, wanted)
        if wanted == "category" and own is None:
            raise ConfigError(
                "data.skeleton=category: only files with a category describe a skeleton; type "
                f"data=coco, or data.skeleton={LSP14.name} or FILE.yaml"
            )
        skeleton = own if own and wanted == "category" else _chosen(own)
        if skeleton is own:
            log.info("%s", describe_skeleton(own, cfg.data.get("source")))
    OmegaConf.update(cfg, "data.skeleton", skeleton.to_dict(), merge=False, force_add=True)
    return skeleton


def _chosen(own: Skeleton | None) -> Skeleton:
    """Choose LSP's skeleton for its joints, else a known one for others, else the data's own."""
    joints = {spelled(name) for name in own.keypoints} if own else set()
    for known in bundled().values():
        if joints <= {spelled(name) for name in known.keypoints}:
            shared = any(i >= 0 for i in counterparts(known.keypoints, LSP14))
            return LSP14 if shared else known
    return own or LSP14


def describe_skeleton(skeleton: Skeleton, source: str | None) -> str:
    """Say which skeleton was taken from a data set, what was guessed, and how to say otherwise."""
    pairs = ", ".join(f"{a}–{b}" for a, b in skeleton.pairs or ())
    mirror = f"mirror pairs, guessed from the names: {pairs}"
    if alone := ", ".join(skeleton.keypoints[i] for i in skeleton.one_sided):
        mirror += f"; without a partner, so unlabelled in mirrored samples: {alone}"
    if not pairs:
        mirror = "no mirror pairs in the names, so no mirror augmentation and no flip test"
    return (
        f"data.source={source}: its own skeleton {skeleton.name} with {skeleton.num_keypoints} "
        f"keypoints: {', '.join(skeleton.keypoints)}\n  {mirror}\n  PCK in {skeleton.unit}\n"
        "  to say otherwise: data.skeleton=FILE.yaml with keypoints, limbs, pairs, normaliser; "
        "data.names={JOINT: KEYPOINT} renames"
    )


def _own_skeleton(cfg: DictConfig, wanted: str) -> Skeleton | None:
    """Ask the sources for their skeleton; where the files are gone, the crop cache."""
    try:
        for name, reader, keys in readers_of(cfg):
            ask = getattr(reader, "own_skeleton", None)
            try:
                own: Skeleton | None = ask(keys) if ask else None
            except UNEXPECTED as error:
                reason = f"{type(error).__name__}: {error}"
                raise DataError(f"{keys.get('source')}: not as {name} has it ({reason})") from error
            if own:
                return own
    except DataError:
        cached = cached_skeleton(Path(cfg.data.cache)) if cfg.data.get("cache") else None
        if cached or wanted == "auto":  # whoever opens the source says what is missing
            return build_skeleton(cached) if cached else None
        raise
    return None
