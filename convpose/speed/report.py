"""The table of a benchmark."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console

from convpose.errors import ConfigError
from convpose.report.tables import Table
from convpose.run import hardware
from convpose.speed.clip import clip_speed
from convpose.speed.latency import latency_speed
from convpose.speed.loading import data_speed, synthetic_speed
from convpose.speed.measure import Speed
from convpose.speed.network import loaded_speed, pixel_speed, training_speed
from convpose.speed.process import memory, start_speed

PARTS = {
    "data": data_speed,
    "synthetic": synthetic_speed,
    "training": training_speed,
    "loaded": loaded_speed,
    "pixels": pixel_speed,
    "start": start_speed,
    "latency": latency_speed,
    "clip": clip_speed,
}
WIDTH = 110  # characters


def benchmark(cfg: DictConfig) -> list[Speed]:
    """Measure what ``cfg.what`` names and print one table.

    Args:
        cfg: of ``conf/benchmark.yaml``.

    Raises:
        ConfigError: an unknown part.
    """
    unknown = [name for name in cfg.what if name not in PARTS]
    if unknown:
        raise ConfigError(f"what=[{unknown[0]}]: unknown part; type what=[{','.join(PARTS)}]")
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    threads = torch.get_num_threads()  # the engines of latency and clip may set others
    speeds = [speed for name in cfg.what for speed in PARTS[name](cfg)] + memory()
    caption = f"{hardware()}, {threads} threads, median of {cfg.rounds} rounds of {cfg.seconds} s"
    if any(speed.single for speed in speeds):
        caption += f"; ms: lowest to 95th percentile of {cfg.latency.repetitions} repetitions"
    console = Console(width=max(WIDTH, Console().width))  # figures are not cut off
    console.print(table(speeds, caption).to_rich())
    if cfg.output is not None:
        content = {
            "hardware": hardware(),
            "threads": threads,
            "speeds": [asdict(s) | {"median": s.median, "range": s.range} for s in speeds],
        }
        Path(cfg.output).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return speeds


def table(speeds: list[Speed], caption: str) -> Table:
    """One line a measurement: median, range, and where there are limits the reached share."""
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
