"""Measure the parts of a benchmark and print one table."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from convpose import files
from convpose.benchmark import training
from convpose.benchmark.measure import Speed, memory, start_speed
from convpose.benchmark.request import check_keys
from convpose.hardware import describe_hardware as hardware
from convpose.plot.tables import Table


def _latency_speed(cfg: DictConfig) -> list[Speed]:
    # imported late: a machine that only trains may lack packages of prediction, such as PyAV
    from convpose.benchmark.prediction import latency_speed

    return latency_speed(cfg)


def _clip_speed(cfg: DictConfig) -> list[Speed]:
    from convpose.benchmark.prediction import clip_speed  # late, see above

    return clip_speed(cfg)


MEASURED: dict[str, Callable[[DictConfig], list[Speed]]] = {
    "data": training.data_speed,
    "synthetic": training.synthetic_speed,
    "training": training.training_speed,
    "loaded": training.loaded_speed,
    "pixels": training.pixel_speed,
    "start": start_speed,
    "latency": _latency_speed,
    "clip": _clip_speed,
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
    caption = f"{hardware()}, {threads} threads, median of {cfg.rounds} rounds of {cfg.seconds} s"
    if any(speed.single for speed in speeds):
        caption += f"; ms: lowest to 95th percentile of {cfg.latency.repetitions} repetitions"
    console = Console(width=max(LEAST_WIDTH, Console().width))  # figures are not cut off
    console.print(table(speeds, caption).to_rich())
    if cfg.output is not None:
        content = {
            "hardware": hardware(),
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
