"""Work of ``convpose.data``: verify, draw and export a data set."""

from functools import partial
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from PIL import Image as PillowImage
from rich.console import Console

from convpose.config.schema import Count, Seed, Subset, check_table
from convpose.data.build import build_datamodule
from convpose.data.coco import write_coco
from convpose.data.inspect import gallery, inspect_source, render
from convpose.errors import ConfigError, DataError
from convpose.files import check_output, replacing

KEYS = {
    "seed": Seed,
    "decode": bool,
    "coco": str | None,
    "coco_part": Subset | None,
    "data.gallery_images": Count,
}


def inspect(cfg: DictConfig) -> None:
    """Verify a data set: print its contents, draw it, write its crop cache, export it.

    Args:
        cfg: of ``conf/data.yaml``.

    Raises:
        ConfigError: a value that does not fit, or no place to write to.
        DataError: an image that cannot be decoded.
    """
    check_table(cfg, KEYS)
    drawing = cfg.data.gallery is not None
    suffix = Path(f"{cfg.data.gallery}").suffix.lower()
    if drawing and suffix not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"data.gallery={cfg.data.gallery}: type a name that ends in .png or .jpg")
    for key, path in (("data.gallery", cfg.data.gallery), ("coco", cfg.coco)):
        if path is not None:
            check_output(Path(path), key, file=True)
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    train = datamodule.datasets["train"]
    console = Console()
    say = partial(console.print, highlight=False, soft_wrap=True)
    inspection = inspect_source(train.source, datamodule.skeleton, decode=cfg.decode)
    console.print(render(inspection))
    sizes = ", ".join(f"{subset} {len(data):,}" for subset, data in datamodule.datasets.items())
    say(f"split {datamodule.split_name}: {sizes}")
    if datamodule.cache is not None:
        size = datamodule.cache.stat().st_size / 2**20
        say(f"crop cache {datamodule.cache}, {size:.1f} MiB")
    if drawing:
        chosen = np.random.default_rng(cfg.seed).permutation(len(train))[: cfg.data.gallery_images]
        sheet = gallery(train, chosen.tolist(), datamodule.skeleton, columns=6)
        path = Path(cfg.data.gallery)
        with replacing(path) as file:
            PillowImage.fromarray(sheet).save(file, "PNG" if suffix == ".png" else "JPEG")
        say(f"gallery {path}")
    if cfg.coco is not None:
        annotations = train.source.annotations
        if cfg.coco_part is not None:
            annotations = [annotations[i] for i in datamodule.datasets[cfg.coco_part].indices]
        write_coco(annotations, datamodule.skeleton, Path(cfg.coco))
        people = f"{len(annotations):,} people of {datamodule.skeleton.name}"
        say(f"coco {cfg.coco}, {people}")
    if inspection.undecodable:
        raise DataError(
            f"{len(inspection.undecodable)} images cannot be decoded, the first is "
            f"{inspection.undecodable[0]}; fetch the archive again or name another data.source"
        )
