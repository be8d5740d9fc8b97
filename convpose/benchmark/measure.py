"""Measure work in rounds, the start of a training, and the peak of memory."""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import torch
from omegaconf import DictConfig

from convpose.errors import ConvposeError

SHORTEST_TRAINING = (
    *("data=synthetic", "data.sources.synthetic.num_images=64", "data.batch_size=4"),
    *("data.input_size_px=64", "data.num_workers=0", "model.width=0.125"),
    *("debug=fast", "logger=none", "callbacks.preview=null", "study=start"),
)


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


def start_speed(cfg: DictConfig) -> list[Speed]:
    """Time the start of a training, to its configuration and to its first batch, in seconds.

    Raises:
        ConvposeError: the command fails; its message says why.
    """
    tasks = {"--cfg job": ("--cfg", "job"), "one batch": SHORTEST_TRAINING}
    seconds: dict[str, list[float]] = {what: [] for what in tasks}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(cfg.rounds):
            for what, arguments in tasks.items():
                command = [sys.executable, "-m", "convpose.train", *arguments]
                start = time.perf_counter()
                done = subprocess.run(command, capture_output=True, cwd=folder, check=False)
                if done.returncode != 0:
                    raise ConvposeError(f"{' '.join(command)}: {done.stderr.decode()}")
                seconds[what].append(time.perf_counter() - start)
    return [Speed(f"convpose.train, {what}", rounds, "s") for what, rounds in seconds.items()]


def memory() -> list[Speed]:
    """Read the peak memory so far of this process and of the GPU."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peaks = [Speed("peak memory of this process", [peak], "MiB")]
    if torch.cuda.is_available():
        used = torch.cuda.max_memory_allocated() / 2**20
        total = torch.cuda.get_device_properties(0).total_memory / 2**20
        peaks.append(Speed("peak memory of the GPU", [used], "MiB", total, "what it has"))
    return peaks
