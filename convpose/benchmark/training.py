"""Measure how fast samples are prepared, and how fast the network trains and predicts."""

import contextlib
import io
import itertools
import re
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.profilers import PassThroughProfiler, Profiler, SimpleProfiler
from omegaconf import DictConfig, OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from convpose.benchmark.measure import Speed, measure
from convpose.data.build import build_datamodule, settle_skeleton
from convpose.data.dataset import EpochSampler, PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.files import conf_folder
from convpose.hardware import autocast, multiplies_bf16
from convpose.models.build import build_model
from convpose.train import command as train
from convpose.train.build import build_module
from convpose.train.module import PoseModule

STEP = {  # parts of a step, as Lightning's profiler names them
    "waiting for the loader": r"\.train_dataloader_next$",
    "forward, backward and optimizer": r"^run_training_batch$",
    "callbacks": r"\.on_train_batch_(start|end)$",
}
MATRIX_SIDE = {"cuda": 8192, "cpu": 2048}  # large enough to reach the full rate


def data_speed(cfg: DictConfig) -> list[Speed]:
    """Prepare training samples: on one core from originals and cache, then by the loader."""
    speeds = []
    for name in ("originals", "cache"):
        chosen = cfg.copy()
        if name == "originals":
            chosen.data.cache = None
        datamodule = build_datamodule(chosen)
        datamodule.setup()
        what = f"{'+'.join(datamodule.sources)} from the {name}, {cfg.data.input_size_px} px"
        speeds.append(Speed(what, measure(cfg, partial(samples, datamodule.datasets["train"]))))
    workers = max(datamodule.num_workers, 1)
    what = f"… by the loader, {datamodule.num_workers} workers"
    limit = workers * speeds[-1].median
    loader = datamodule.train_dataloader()
    rates = measure(cfg, lambda: (len(batch["image_id"]) for batch in endless(loader)))
    return [*speeds, Speed(what, rates, limit=limit, limited_by=f"{workers} × the line above")]


def synthetic_speed(cfg: DictConfig) -> list[Speed]:
    """Paint synthetic people on one core."""
    source = SyntheticSource(num_images=2000, image_size_px=128)

    def paint() -> Iterator[int]:
        for index in itertools.cycle(range(2000)):
            source.read_image(index)
            yield 1

    return [Speed("synthetic people, 128 px", measure(cfg, paint))]


def samples(dataset: PoseLandmarksDataset) -> Iterator[int]:
    """Prepare shuffled samples, one after the other."""
    for key in itertools.cycle(EpochSampler(len(dataset), seed=0)):
        dataset[key]
        yield 1


def training_speed(cfg: DictConfig) -> list[Speed]:
    """Train without data, at each precision and memory layout.

    The limit is the machine's rate of matrix products in that precision, measured just before.
    """
    device = current_device()
    speeds = []
    for half in (False, True):
        rate = measure(cfg, partial(multiplications, half, device))
        name = "bf16" if half else "fp32"
        matrix = Speed(f"matrix product, {name}", [r / 1e12 for r in rate], "TFLOP/s")
        speeds.append(matrix)
        for layout, batch_size in itertools.product((False, True), cfg.batch_sizes):
            chosen = cfg.copy()
            chosen.channels_last = layout
            how = f"{name}{', channels_last' if layout else ''}"
            what = f"training, {cfg.data.input_size_px} px, batch {batch_size}, {how}"
            work = TrainingWork(chosen, batch_size, half, device)
            limit = matrix.median * 1e12 / work.flop_per_image
            why = f"{name} products, {work.flop_per_image / 1e9:.3g} GFLOP an image"
            speeds.append(Speed(what, measure(cfg, work.steps), limit=limit, limited_by=why))
    return speeds


def loaded_speed(cfg: DictConfig) -> list[Speed]:
    """Train and predict with data, at the better precision, beside training without data.

    The loop that trains with data is a bare one of PyTorch. `convpose.train` follows with the same
    network, batch and loader, and then the milliseconds a step of its parts.
    """
    device = current_device()
    batch_size = cfg.batch_sizes[0]
    chosen = cfg.copy()
    chosen.data.batch_size = batch_size
    datamodule = build_datamodule(chosen)
    datamodule.setup()
    work = TrainingWork(chosen, batch_size, multiplies_bf16(device), device)
    alone = measure(cfg, work.steps)
    top = Speed("", alone).median
    size = f"{cfg.data.input_size_px} px, batch {batch_size}"
    bare = Speed(
        f"training with data, {size}",
        measure(cfg, lambda: work.steps_on(endless(datamodule.train_dataloader()))),
        limit=top,
        limited_by="the line above",
    )
    steps = max(1, round(cfg.seconds * bare.median / batch_size))
    return [
        Speed(f"training without data, {size}", alone),
        bare,
        *trained_speed(chosen, work.precision, steps, bare),
        Speed(
            f"prediction with data, {size}",
            measure(cfg, lambda: work.predictions(endless(datamodule.val_dataloader()))),
        ),
    ]


def trained_speed(cfg: DictConfig, precision: str, steps: int, bare: Speed) -> list[Speed]:
    """Run `convpose.train` beside a bare loop, and again for its parts: to measure them takes time.

    Args:
        cfg: of ``conf/benchmark.yaml``, with the batch size of the bare loop.
        precision: of it, too.
        steps: of an epoch; all that there are, if they are fewer.
        bare: what that loop reaches.
    """
    name, why = bare.what.replace("training", "convpose.train"), "the bare loop above"
    limits = {"precision": precision, "limit_train_batches": steps, "limit_val_batches": 1}
    epochs = cfg.rounds + 1  # the first warms up
    rates = _trained(cfg, limits | {"max_epochs": epochs}, PassThroughProfiler())[1:]
    profiler = SimpleProfiler()
    _trained(cfg, limits | {"max_epochs": 1}, profiler)
    took = profiler.recorded_durations
    count = len(took["run_training_batch"])
    parts = [Speed(name, rates, limit=bare.median, limited_by=why)]
    for what, pattern in STEP.items():
        seconds = sum(sum(took[action]) for action in took if re.search(pattern, action))
        parts.append(Speed(f"… of which {what}", [1000 * seconds / count], "ms a step"))
    return parts


def _trained(cfg: DictConfig, limits: dict[str, Any], profiler: Profiler) -> list[float]:
    """Train as `convpose.train` does; return the images a second of each epoch."""
    own: Any = OmegaConf.load(conf_folder() / "train.yaml")
    own = {key: own[key] for key in own if key not in ("defaults", "hydra")}
    groups = {"trainer": "auto", "callbacks": "default", "logger": "tensorboard"}
    chosen = {g: OmegaConf.load(conf_folder() / g / f"{name}.yaml") for g, name in groups.items()}
    settings: Any = OmegaConf.merge(own, chosen, cfg, {"trainer": limits})
    silent = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, silent:
        settings, _ = train.prepare(settings, Path(folder))
        begun = train.build(settings, Path(folder), None, ())
        begun.trainer.profiler = profiler  # type: ignore[attr-defined]
        train.fit(begun)
    return [row["images_per_s"] for row in begun.report.rows]


def pixel_speed(cfg: DictConfig) -> list[Speed]:
    """Train at growing inputs: milliseconds a megapixel, which should stay the same."""
    device = current_device()
    speeds = []
    for side in dict.fromkeys(round(cfg.data.input_size_px * f / 32) * 32 for f in (1, 1.5, 2)):
        chosen = cfg.copy()
        chosen.data.input_size_px = side
        work = TrainingWork(chosen, cfg.batch_sizes[0], multiplies_bf16(device), device)
        ms = [1000 / r / (side / 1000) ** 2 for r in measure(cfg, work.steps)]
        speeds.append(Speed(f"training, {side} px", ms, "ms a megapixel"))
    return speeds


class TrainingWork:
    """Trains the configured network, and predicts with it.

    Args:
        cfg: of ``conf/benchmark.yaml``.
        batch_size: images a step of `steps`.
        half: bf16 autocast.
        device: where to compute.
    """

    def __init__(self, cfg: DictConfig, batch_size: int, half: bool, device: torch.device) -> None:
        settle_skeleton(cfg)
        self.module: PoseModule = build_module(cfg, build_model(cfg)).to(device)
        self.optimizer = self.module.make_optimizer()
        self.device = device
        self.precision = "bf16-mixed" if half else "32-true"
        size, k = cfg.data.input_size_px, self.module.metrics.skeleton.num_keypoints
        self.batch = {
            "image": torch.randint(0, 256, (batch_size, 3, size, size), dtype=torch.uint8),
            "keypoints": torch.rand(batch_size, k, 2),
            "visibility": torch.full((batch_size, k), 2),
        }
        self.batch = {key: value.to(device) for key, value in self.batch.items()}
        counter = FlopCounterMode(display=False)
        with counter:
            self._step(self.batch)
        self.flop_per_image = counter.get_total_flops() / batch_size

    def steps(self) -> Iterator[int]:
        """Train on one random batch for ever."""
        return self.steps_on(itertools.repeat(self.batch))

    def steps_on(self, batches: Iterator[dict[str, torch.Tensor]]) -> Iterator[int]:
        """Train on batches."""
        for batch in batches:
            yield self._step({k: batch[k].to(self.device, non_blocking=True) for k in self.batch})

    def predictions(self, batches: Iterator[dict[str, torch.Tensor]]) -> Iterator[int]:
        """Predict batches."""
        self.module.eval()
        for batch in batches:
            with torch.inference_mode(), autocast(self.device, self.precision):
                output = self.module.model(batch["image"].to(self.device))
            output["keypoints"].cpu()
            yield len(batch["image"])

    def _step(self, batch: dict[str, torch.Tensor]) -> int:
        self.module.train()
        with autocast(self.device, self.precision):
            output = self.module.model(batch["image"])
            loss = self.module.loss(output, batch["keypoints"], batch["visibility"])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        _wait(self.device)
        return len(batch["image"])


def multiplications(half: bool, device: torch.device) -> Iterator[int]:
    """Multiply square matrices for ever; yield the operations of each product."""
    side = MATRIX_SIDE[device.type]
    dtype = torch.bfloat16 if half else torch.float32
    a = torch.randn(side, side, device=device, dtype=dtype)
    while True:
        torch.mm(a, a)
        _wait(device)
        yield 2 * side**3


def endless(loader: Iterable[dict[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    """Repeat a loader's epochs; `itertools.cycle` would keep the first and load no more."""
    while True:
        yield from loader


def current_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
