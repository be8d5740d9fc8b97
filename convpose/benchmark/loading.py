"""How fast samples are prepared, by one core and by all loading processes."""

import itertools
from collections.abc import Callable, Iterator

from omegaconf import DictConfig

from convpose.benchmark.measure import Speed, measure
from convpose.data.build import build_datamodule
from convpose.data.datamodule import PoseDataModule
from convpose.data.dataset import EpochSampler, PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource


def data_speed(cfg: DictConfig) -> list[Speed]:
    """Augmented training samples: by one core from originals and cache, and by the loader."""
    speeds = []
    for name in ("originals", "cache"):
        chosen = cfg.copy()
        if name == "originals":
            chosen.data.cache = None
        datamodule = build_datamodule(chosen)
        datamodule.setup()
        what = f"{'+'.join(datamodule.sources)} from the {name}, {cfg.data.input_size_px} px"
        speeds.append(Speed(what, measure(cfg, samples(datamodule.datasets["train"]))))
    workers = max(datamodule.num_workers, 1)
    what = f"… by the loader, {datamodule.num_workers} workers"
    limit = workers * speeds[-1].median
    rates = measure(cfg, batches(datamodule))
    return [*speeds, Speed(what, rates, limit=limit, limited_by=f"{workers} × the line above")]


def synthetic_speed(cfg: DictConfig) -> list[Speed]:
    """Synthetic people painted on one core."""
    source = SyntheticSource(num_images=2000, image_size_px=128)

    def paint() -> Iterator[int]:
        for index in itertools.cycle(range(2000)):
            source.read_image(index)
            yield 1

    return [Speed("synthetic people, 128 px", measure(cfg, paint))]


def samples(dataset: PoseLandmarksDataset) -> Callable[[], Iterator[int]]:
    """A function that prepares shuffled samples, one after the other."""

    def prepare() -> Iterator[int]:
        for key in itertools.cycle(EpochSampler(len(dataset), seed=0)):
            dataset[key]
            yield 1

    return prepare


def batches(datamodule: PoseDataModule) -> Callable[[], Iterator[int]]:
    """A function that takes training batches from the loader, epoch after epoch."""
    loader = datamodule.train_dataloader()

    def load() -> Iterator[int]:
        while True:
            for batch in loader:
                yield len(batch["image_id"])

    return load
