"""Measure the parts of a benchmark and print one table."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from convpose import files
from convpose.benchmark import prediction, training
from convpose.benchmark.measure import Speed, check_keys
from convpose.errors import ConvposeError
from convpose.hardware import describe_hardware
from convpose.plot.tables import Table

SHORTEST_TRAINING = (
    *("data=synthetic", "data.sources.synthetic.num_images=64", "data.batch_size=4"),
    *("data.input_size_px=64", "data.num_workers=0", "model.width=0.125"),
    *("debug=fast", "logger=none", "callbacks.preview=null", "study=start"),
)


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


MEASURED: dict[str, Callable[[DictConfig], list[Speed]]] = {
    "data": training.data_speed,
    "synthetic": training.synthetic_speed,
    "training": training.training_speed,
    "loaded": training.loaded_speed,
    "pixels": training.pixel_speed,
    "start": start_speed,
    "latency": prediction.latency_speed,
    "clip": prediction.clip_speed,
}
LEAST_WIDTH = 110  # characters


def benchmark(cfg: DictConfig) -> list[Speed]:
    """Measure what ``cfg.what`` names and print one table.

    Args:
        cfg: of ``conf/benchmark.yaml``.

    Raises:
        ConfigError: an unknown part, or a number that nothing can be measured with.
    """
    parts = check_keys(cfg)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    threads = torch.get_num_threads()  # the engines of latency and clip may set others
    speeds = [speed for name in parts for speed in MEASURED[name](cfg)] + memory()
    hardware = describe_hardware()
    caption = f"{hardware}, {threads} threads, median of {cfg.rounds} rounds of {cfg.seconds} s"
    if any(speed.single for speed in speeds):
        caption += f"; ms: lowest to 95th percentile of {cfg.latency.repetitions} repetitions"
    console = Console(width=max(LEAST_WIDTH, Console().width))  # figures are not cut off
    console.print(table(speeds, caption).to_rich())
    if cfg.output is not None:
        content = {
            "hardware": hardware,
            "threads": threads,
            "speeds": [asdict(s) | {"median": s.median, "range": s.range} for s in speeds],
        }
        files.write(Path(cfg.output), json.dumps(content, indent=1))
    return speeds


def table(speeds: list[Speed], caption: str) -> Table:
    """List each measurement: median, range, and the reached share of its limit if it has one."""
    rows: list[tuple[str, ...]] = [
        (
            speed.what,
            f"{_figure(speed.median)} {speed.unit}",
            "–".join(map(_figure, speed.range)),
            ""
            if speed.limit is None or speed.share is None
            else f"{100 * speed.share:.0f} % of {_figure(speed.limit)}, {speed.limited_by}",
        )
        for speed in speeds
    ]
    header: tuple[str, ...] = ("what", "median", "range", "of its limit")
    if all(speed.limit is None for speed in speeds):
        header, rows = header[:3], [row[:3] for row in rows]
    return Table("Speeds", header, rows, caption)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
