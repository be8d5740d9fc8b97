"""Check what is asked of a benchmark; apart from the measuring, which imports torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from annotated_types import Ge
from omegaconf import DictConfig, ListConfig

from convpose import files
from convpose.config.schema import Count, check_table
from convpose.errors import ConfigError

PARTS = ("data", "synthetic", "training", "loaded", "pixels", "start", "latency", "clip")
KEYS = {
    "rounds": Count,
    "seconds": Annotated[float, Ge(0.001)],
    "threads": Count | None,
    "batch_sizes": Sequence[Count],
    "latency.threads": Sequence[Count],
    "latency.repetitions": Annotated[int, Ge(2)],  # fewer have no range
}


def check_keys(cfg: DictConfig) -> Sequence[str]:
    """Check the keys, before minutes of measuring; return the parts to measure.

    Raises:
        ConfigError: an unknown part, a number out of its range, or no place for ``output``.
    """
    parts = cfg.what if isinstance(cfg.what, ListConfig) else [cfg.what]
    unknown = [str(part) for part in parts if part not in PARTS]
    if unknown or not parts:
        problem = "unknown part" if unknown else "nothing to measure"
        known = ",".join(PARTS)
        raise ConfigError(f"what=[{','.join(unknown)}]: {problem}; type what=[{known}]")
    check_table(cfg, KEYS)
    if cfg.output is not None:
        files.check_output(Path(cfg.output), file=True)
    return list(parts)
