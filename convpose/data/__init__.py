"""Data sets: reading, cropping, augmenting, caching, splitting."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convpose.config.allowlist import current_name, find_target


def check_sources(cfg: DictConfig) -> None:
    """Find the files of each source of ``cfg.data``, and download those that can be.

    Where a crop cache lies, nobody needs them.

    Raises:
        ConfigError: a class that may not be named.
        DataError: no such file, see the readers.
    """
    if Path(str(cfg.data.get("cache"))).is_file():
        return
    plain: Any = OmegaConf.to_container(cfg.data, resolve=True)
    for name, keys in (plain.get("sources") or {}).items():
        if keys:
            reader = find_target(current_name(str(keys.get("_target_"))), f"data.sources.{name}")
            if locate := getattr(reader, "locate", None):
                locate(keys)
