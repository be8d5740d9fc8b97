"""Check what is asked of a benchmark, and measure work in rounds; without torch."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
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


@dataclass(frozen=True, slots=True)
class Speed:
    """One measurement.

    Attributes:
        what: the work.
        rounds: the value of each round.
        unit: of the values.
        limit: the highest value that another line of the table allows; None without such a line.
        limited_by: names that line.
        single: True if each round is a single repetition, of which there are many: the slowest
            twentieth is then left out of the range.
    """

    what: str
    rounds: list[float]
    unit: str = "images/s"
    limit: float | None = None
    limited_by: str = ""
    single: bool = False

    @property
    def range(self) -> tuple[float, float]:
        """Return the lowest and highest round; of single repetitions, the 95th percentile."""
        highest = statistics.quantiles(self.rounds, n=20)[-1] if self.single else max(self.rounds)
        return min(self.rounds), highest

    @property
    def median(self) -> float:
        """Return the median of the rounds."""
        return statistics.median(self.rounds)

    @property
    def share(self) -> float | None:
        """Return the reached share of the limit."""
        return None if self.limit is None else self.median / self.limit


def measure(cfg: DictConfig, work: Callable[[], Iterator[int]]) -> list[float]:
    """Measure images a second in each of ``cfg.rounds`` rounds of ``cfg.seconds``.

    A tenth of a round warms up before it. Threads of OpenCV are off, as in a loader's worker.

    Args:
        cfg: of ``conf/benchmark.yaml``.
        work: makes an iterator that does some work and yields how many images it was.
    """
    cv2.setNumThreads(0)
    return [_round(work(), cfg.seconds) for _ in range(cfg.rounds)]


def _round(work: Iterator[int], seconds: float) -> float:
    start = time.perf_counter()
    while time.perf_counter() - start < seconds / 10:
        next(work)
    images, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        images += next(work)
    return images / elapsed


def repeat(cfg: DictConfig, work: Callable[[], object]) -> list[float]:
    """Time each of ``cfg.latency.repetitions`` calls, in milliseconds.

    A tenth as many warm up before them. Threads of OpenCV are off.
    """
    cv2.setNumThreads(0)
    for _ in range(cfg.latency.repetitions // 10 + 1):
        work()
    durations = []
    for _ in range(cfg.latency.repetitions):
        start = time.perf_counter()
        work()
        durations.append(1000 * (time.perf_counter() - start))
    return durations
