"""One measurement: some rounds of work, their median, and the limit it is held against."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
from omegaconf import DictConfig


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured.

    Attributes:
        what: the work.
        rounds: the value of each round.
        unit: of the values.
        limit: the value that something else in the same table allows; None if nothing does.
        limited_by: what that is.
        single: whether each round is a single repetition, of which there are many: the slowest
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
        """Lowest and highest round; of single repetitions the lowest and the 95th percentile."""
        highest = statistics.quantiles(self.rounds, n=20)[-1] if self.single else max(self.rounds)
        return min(self.rounds), highest

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rounds)

    @property
    def share(self) -> float | None:
        """Reached share of the limit."""
        return None if self.limit is None else self.median / self.limit


def measure(cfg: DictConfig, work: Callable[[], Iterator[int]]) -> list[float]:
    """Images a second of each of ``cfg.rounds`` rounds of ``cfg.seconds``.

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
    """Milliseconds of each of ``cfg.latency.repetitions`` calls.

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
