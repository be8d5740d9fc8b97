"""Data sets: reading, cropping, augmenting, caching, splitting.

Here are the readers of a configuration, which nothing heavy is imported for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convpose.config.allowlist import find_target


def readers_of(cfg: DictConfig) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield the name, the class and its arguments of each source of ``cfg.data``.

    Raises:
        ConfigError: a class that may not be named.
    """
    plain: Any = OmegaConf.to_container(cfg.data, resolve=True)
    for name, keys in (plain.get("sources") or {}).items():
        if keys:
            yield name, find_target(keys.get("_target_"), f"data.sources.{name}"), keys


def check_sources(cfg: DictConfig) -> None:
    """Find the files of each source of ``cfg.data``, and download those that can be.

    Where a crop cache lies, nobody needs them.

    Raises:
        ConfigError: a class that may not be named.
        DataError: no such file, see the readers.
    """
    if not Path(str(cfg.data.get("cache"))).is_file():
        for _, reader, keys in readers_of(cfg):
            if locate := getattr(reader, "locate", None):
                locate(keys)
