"""Build the data of a configuration."""

from omegaconf import DictConfig, OmegaConf

from convpose.config.instantiate import build, skeleton_of
from convpose.data.datamodule import PoseDataModule
from convpose.errors import ConfigError
from convpose.skeleton import LSP14

# keys of ``data`` for sources and commands, not for `PoseDataModule`
READ_BY_OTHERS = ("source", "skeleton", "gallery", "gallery_images")


def build_datamodule(cfg: DictConfig) -> PoseDataModule:
    """Build the data of ``cfg.data`` with ``cfg.augment``, seeded by ``cfg.seed``.

    Raises:
        ConfigError: ``data.source`` for data that are not read from a file, or another skeleton
            than the only one that a source has.
    """
    skeleton = skeleton_of(cfg)
    sources = {name: keys for name, keys in (cfg.data.get("sources") or {}).items() if keys}
    fixed = [name for name, keys in sources.items() if "skeleton" not in keys]
    if skeleton != LSP14 and fixed:
        raise ConfigError(
            f"data.skeleton={skeleton.name}: {', '.join(fixed)} has the joints of {LSP14.name} and "
            f"no others; type data.skeleton={LSP14.name}, or data=coco, mpii or flic"
        )
    if cfg.data.get("source") is not None and not any(
        "source" in keys for keys in sources.values()
    ):
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
