"""Speeds: images a second of data preparation and of training, as a table."""

import contextlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import torch
from omegaconf import DictConfig
from rich.console import Console

from convpose.build import build_datamodule, build_model, build_module
from convpose.data.dataset import EpochSampler, PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConfigError
from convpose.report.tables import Table
from convpose.run import hardware

Figure = tuple[str, list[float]]


def benchmark(cfg: DictConfig) -> list[Figure]:
    """Measure what ``cfg.what`` names and print images a second.

    Args:
        cfg: of ``conf/benchmark.yaml``.

    Returns:
        A name and the rounds' images a second for each measurement.

    Raises:
        ConfigError: an unknown part.
    """
    parts = {"data": data_speed, "synthetic": synthetic_speed, "training": training_speed}
    unknown = [name for name in cfg.what if name not in parts]
    if unknown:
        raise ConfigError(f"what=[{unknown[0]}]: unknown part; type what=[{','.join(parts)}]")
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    figures = [figure for name in cfg.what for figure in parts[name](cfg)]
    rows = [
        (name, *(f"{value:,.1f}" for value in (statistics.median(r), min(r), max(r))))
        for name, r in figures
    ]
    caption = f"{hardware()}, {torch.get_num_threads()} threads, {cfg.rounds} rounds"
    table = Table("Images a second", ("what", "median", "lowest", "highest"), rows, caption)
    Console().print(table.to_rich())
    if cfg.output is not None:
        content = {"hardware": hardware(), "threads": torch.get_num_threads(), **dict(figures)}
        Path(cfg.output).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return figures


def data_speed(cfg: DictConfig) -> list[Figure]:
    """Augmented training samples on one core, from the originals and from the cache."""
    figures = []
    for name in ("originals", "cache"):
        chosen = cfg.copy()
        if name == "originals":
            chosen.data.cache = None
        datamodule = build_datamodule(chosen)
        datamodule.setup()
        what = f"{'+'.join(datamodule.sources)} from the {name}, {cfg.data.input_size_px} px"
        figures.append((what, rounds(cfg, samples(datamodule.datasets["train"]))))
    return figures


def synthetic_speed(cfg: DictConfig) -> list[Figure]:
    """Synthetic people painted on one core."""
    source = SyntheticSource(num_images=2000, image_size_px=128)

    def paint() -> Iterator[int]:
        for index in itertools.cycle(range(2000)):
            source.read_image(index)
            yield 1

    return [("synthetic people, 128 px", rounds(cfg, paint))]


def training_speed(cfg: DictConfig) -> list[Figure]:
    """Forward, backward and optimizer step of the network, without data."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures = []
    for half in (False, True):
        for channels_last in (False, True):
            for batch_size in cfg.batch_sizes:
                chosen = cfg.copy()
                chosen.channels_last = channels_last
                name = f"{'bf16' if half else 'fp32'}{', channels_last' if channels_last else ''}"
                what = f"training, {cfg.data.input_size_px} px, batch {batch_size}, {name}"
                steps = training_steps(chosen, batch_size, half, device)
                figures.append((what, rounds(cfg, steps)))
    return figures


def samples(dataset: PoseLandmarksDataset) -> Callable[[], Iterator[int]]:
    """A function that prepares shuffled samples, one after the other."""

    def prepare() -> Iterator[int]:
        for key in itertools.cycle(EpochSampler(len(dataset), seed=0)):
            dataset[key]
            yield 1

    return prepare


def training_steps(
    cfg: DictConfig, batch_size: int, half: bool, device: torch.device
) -> Callable[[], Iterator[int]]:
    """A function that trains on one random batch for ever."""
    module = build_module(cfg, build_model(cfg)).to(device)
    optimizer = module.optimizer(module.model.parameters())
    size = cfg.data.input_size_px
    image = torch.randint(0, 256, (batch_size, 3, size, size), dtype=torch.uint8, device=device)
    keypoints = torch.rand(batch_size, module.model.head.num_keypoints, 2, device=device)
    visibility = torch.full(keypoints.shape[:2], 2, device=device)
    autocast = torch.autocast(device.type, torch.bfloat16) if half else contextlib.nullcontext()

    def train() -> Iterator[int]:
        while True:
            with autocast:
                loss = module.loss(module.model(image), keypoints, visibility)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            yield batch_size

    return train


def rounds(cfg: DictConfig, work: Callable[[], Iterator[int]]) -> list[float]:
    """Images a second of each round; a tenth of a round warms up before it.

    Threads of OpenCV are off, as in a loader's worker.
    """
    cv2.setNumThreads(0)
    return [_speed(work(), cfg.seconds) for _ in range(cfg.rounds)]


def _speed(work: Iterator[int], seconds: float) -> float:
    start = time.perf_counter()
    while time.perf_counter() - start < seconds / 10:
        next(work)
    images, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        images += next(work)
    return images / elapsed
