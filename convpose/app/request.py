"""Check what is asked of the page; apart from the page, which imports torch and Gradio."""

import ipaddress
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le
from omegaconf import DictConfig

from convpose.config.schema import Count, Looks, Packaged, check_table
from convpose.errors import ConfigError
from convpose.predict import images
from convpose.run import Run

KEYS = {
    "host": str,
    "names": list[str],
    "password": str | None,
    "open": bool,
    "network": Packaged,
    "looks": Looks,
    "port": Annotated[int, Ge(1), Le(65535)],
    **images.KEYS,
    **dict.fromkeys(("max_file_mb", "max_frames", "at_once"), Count),
}


def check_keys(cfg: DictConfig) -> None:
    """Check the keys, and that the run is there.

    Raises:
        ConfigError: a value out of its range, no run, or a page for everybody that nobody has asked
            for: other machines reach it, and there is neither a password nor ``open=true``.
    """
    check_table(cfg, KEYS)
    if cfg.run is not None:
        Run.find(Path(cfg.run))
    try:
        alone = cfg.host == "localhost" or ipaddress.ip_address(cfg.host).is_loopback
    except ValueError:  # a name
        alone = False
    if not (alone or cfg.password or cfg.open):
        raise ConfigError(
            f"host={cfg.host}: everybody who reaches this machine could use the page; set "
            "CONVPOSE_PASSWORD, or type open=true for a page without a password"
        )
