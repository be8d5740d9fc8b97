"""Data module of Lightning: sources, crop cache, split, augmentation and loaders."""

import inspect
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from convpose.config.schema import Count, Side
from convpose.data.annotation import JoinedSource, PoseSample, PoseSource
from convpose.data.augment import Augment
from convpose.data.cache import CropCache, cache_file, write_cache
from convpose.data.crop import Crop, Mode, Scale
from convpose.data.dataset import EpochSampler, Loader, PoseLandmarksDataset, share
from convpose.data.splits import Split, make_split
from convpose.errors import ConfigError, DataError
from convpose.hardware import available_cores
from convpose.progress import progress
from convpose.skeleton import LSP14, Skeleton, bundled

log = logging.getLogger(__name__)
# keys of a source that are no settings of its data: where they lie, and what `contents` has itself
LOCATION_KEYS = ("source", "folder", "mirrors", "sha256", "skeleton", "missing")


class PoseDataModule(LightningDataModule):
    """Pose data for training, validation and test.

    Args:
        sources: functions by name that open the data sets; called only when needed, with the
            skeleton if they take one.
        split: name or file of the split, see `convpose.data.splits`.
        crop: crop mode, or one for each data set, see `convpose.data.crop`.
        box_scale: side of the ``box`` crop over the longer side of the joints' box.
        input_size_px: side of the network's square input.
        augment: random changes of training samples; None for none.
        batch_size: samples a step and process; ``auto`` is made a number by a training.
        num_workers: loading processes; None takes one less than the usable cores, 1 to 8: a loader
            that shares its core with the network's threads slows both down several times.
        cache: file of the crop cache, written when it does not exist; None reads the originals.
        cache_size_px, cache_quality, cache_format: see `convpose.data.cache.write_cache`.
        train_share: share of the training subset that is used, drawn by `seed`.
        repeat: data set to the number of times that an epoch of training shows each person of it;
            one where it is not named.
        seed: of order and augmentation.
        skeleton: of the keypoints.

    Raises:
        ConfigError: a batch larger than the training subset.
        DataError: see the sources.
    """

    def __init__(
        self,
        sources: Mapping[str, Callable[..., PoseSource]],
        split: str,
        crop: Mode | Mapping[str, Mode] = "box",
        box_scale: Scale = 1.25,
        input_size_px: Side = 224,
        augment: Augment | None = None,
        batch_size: Count | Literal["auto"] = 64,
        num_workers: Annotated[int, Ge(0), Le(256)] | None = None,
        cache: str | None = None,
        cache_size_px: Annotated[int, Ge(16), Le(4096)] = 224,
        cache_quality: Annotated[int, Ge(1), Le(100)] = 90,
        cache_format: Literal["jpeg", "webp"] = "jpeg",
        train_share: Annotated[float, Gt(0), Le(1)] = 1.0,
        repeat: Mapping[str, Count] | None = None,
        seed: int = 0,
        skeleton: Skeleton = LSP14,
    ) -> None:
        super().__init__()
        self.train_share = train_share
        self.repeat = dict(repeat or {})
        self.sources = dict(sources)
        self.split_name = split
        self.crop = Crop(crop, box_scale)
        self.input_size_px = input_size_px
        self.augment = augment
        if cache is not None and augment is not None and augment.frame_probability > 0:
            raise ConfigError(
                f"data.cache={cache} augment.frame_probability={augment.frame_probability}: a cache"
                " holds the crops and not the frames around them; type data.cache=null, or "
                "augment.frame_probability=0"
            )
        self.batch_size = 0 if batch_size == "auto" else batch_size  # 0: not chosen yet
        free_cores = max(1, min(8, available_cores() - 1))
        self.num_workers = free_cores if num_workers is None else num_workers
        self.cache = None if cache is None else Path(cache)
        self.write_cache = partial(
            write_cache, size_px=cache_size_px, quality=cache_quality, image_format=cache_format
        )
        self.seed = seed
        self.skeleton = skeleton
        self.split: Split = {}
        self.datasets: dict[str, PoseLandmarksDataset] = {}
        self._opened: PoseSource | None = None

    def open_source(self) -> PoseSource:
        """Open the sources, or the crop cache; write the cache first if its file is missing."""
        if (given := self.cache) is not None:
            self.cache = cache_file(given, self.crop, self.contents)
            if self.cache.exists():
                return CropCache(self.cache, self.crop, self.contents)
        try:
            opened = [
                partial(opener, skeleton=self.skeleton)() if _takes_skeleton(opener) else opener()
                for opener in self.sources.values()
            ]
        except DataError as error:
            other = "" if self.cache == given else f"; data.cache={given} holds other crops"
            raise DataError(f"{error}{other}") from error
        source: PoseSource = opened[0] if len(opened) == 1 else JoinedSource(opened)
        if self.cache is None:
            return source
        bar = partial(progress, what=f"writing {self.cache}")
        held = self.cache, self.crop, self.contents
        self.write_cache(source, *held, progress=bar, skeleton=self.skeleton.to_dict())
        return CropCache(*held)

    @property
    def contents(self) -> str:
        """Describe a cache: data sets with their settings (but no paths), and its format."""
        own = self.skeleton.name
        own += "" if bundled().get(own) == self.skeleton else str(list(self.skeleton.keypoints))
        sets = [
            " ".join(
                [name, *_data_keys(getattr(opener, "keywords", {}))]
                + [f"skeleton={own}"] * _takes_skeleton(opener)
            )
            for name, opener in self.sources.items()
        ]
        stored = self.write_cache.keywords
        return "; ".join([*sets, "{size_px} px {image_format} {quality}".format(**stored)])

    def prepare_data(self) -> None:
        """Download the data and write the cache; Lightning calls this in one process only."""
        if not self.datasets:
            self._opened = self.open_source()

    def setup(self, stage: str | None = None) -> None:
        """Open the source, split it and make the three data sets; do nothing the second time."""
        if self.datasets:
            return
        source = self._opened or self.open_source()
        stored_px = self.write_cache.keywords["size_px"]
        if self.cache is not None and stored_px < self.input_size_px:
            log.warning(
                "data.cache=%s holds crops of at most %d px, which data.input_size_px=%d enlarges; "
                "type data.cache=null, or data.cache_size_px=%d data.cache=ANOTHER_FILE",
                *(self.cache, stored_px, self.input_size_px, self.input_size_px),
            )
        position = {a.image_id: i for i, a in enumerate(source.annotations)}
        if len(position) < len(source.annotations):
            raise DataError(
                f"data.sources={', '.join(self.sources)}: image ids are not unique; "
                "name each data set once"
            )
        sets = {a.dataset for a in source.annotations}
        if unknown := sorted(self.repeat.keys() - sets):
            raise ConfigError(
                f"data.repeat names {', '.join(unknown)}; type one of {', '.join(sorted(sets))}"
            )
        self.split = make_split(self.split_name, source.annotations)
        if self.train_share < 1:
            train = self.split["train"]
            drawn = np.random.default_rng(self.seed).permutation(len(train))
            kept = sorted(drawn[: max(1, round(self.train_share * len(train)))])
            self.split["train"] = [train[i] for i in kept]
        for subset, ids in self.split.items():
            indices = [position[image_id] for image_id in ids]
            if subset == "train" and self.repeat:
                times = [self.repeat.get(source.annotations[i].dataset, 1) for i in indices]
                indices = np.repeat(indices, times).tolist()
            self.datasets[subset] = PoseLandmarksDataset(
                source,
                indices,
                self.crop,
                self.input_size_px,
                self.skeleton,
                self.augment if subset == "train" else None,
                self.seed,
            )

    def check_shares(self, processes: int) -> None:
        """Refuse a training without a batch, or a validation in which a process has no image."""
        train, val = (len(self.datasets[subset]) for subset in ("train", "val"))
        own = -(-train // processes)
        each = f" of each of {processes} processes" if processes > 1 else ""
        if self.batch_size > own:
            sensible = min(64, own, max(2, power_of_two(own // 4)))
            raise ConfigError(
                f"data.batch_size={self.batch_size} is larger than the training subset{each} with "
                f"its {own} images; type data.batch_size={sensible}"
            )
        if processes > val:
            raise ConfigError(
                f"{processes} processes for {val} validation images; type trainer.devices={val}"
            )

    def keypoint_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Measure mean and standard deviation (K, 2) of the labelled training keypoints, unit.

        The mean is the mean pose, the baseline that every network has to beat. A keypoint that the
        data set never labels (COCO has no neck) gets the crop's centre and the others' deviation:
        it is masked everywhere, so that nothing is learnt and nothing is scored.

        Raises:
            DataError: a keypoint that no training image labels, but others do.
        """
        train = self.datasets["train"]
        keypoints = np.stack([train.truth(i)["keypoints"].numpy() for i in range(len(train))])
        labelled = ~np.isnan(keypoints).all(axis=(0, 2))
        known = np.any([a.labelled for a in train.source.annotations], axis=0)
        never = np.flatnonzero(known & ~labelled)
        if len(never):
            names = ", ".join(self.skeleton.keypoints[k] for k in never)
            raise DataError(
                f"data.split={self.split_name}: no image of the training subset labels {names}; "
                "choose a split that has some in every subset"
            )
        mean, std = np.full((2, len(labelled), 2), 0.5, dtype=np.float32)
        mean[labelled] = np.nanmean(keypoints[:, labelled], axis=0)
        std[labelled] = np.nanstd(keypoints[:, labelled], axis=0)
        std[~labelled] = std[labelled].mean(axis=0)
        return mean, std

    def train_dataloader(self) -> DataLoader[PoseSample]:
        """Load shuffled, augmented batches without the incomplete last one (batch norm)."""
        self.check_shares(1)  # only here: a few people can be scored whatever the batch
        dataset = self.datasets["train"]
        sampler = EpochSampler(len(dataset), self.seed, *_rank_and_processes())
        return self._loader(dataset, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[PoseSample]:
        """Load this process's share of the validation samples; all if it is the only one."""
        return self.loader("val", *_rank_and_processes())

    def loader(self, subset: str, rank: int = 0, processes: int = 1) -> DataLoader[PoseSample]:
        """Load a process's share of a subset in order; samples of ``train`` are augmented."""
        dataset = self.datasets[subset]
        if processes == 1:
            return self._loader(dataset)
        return self._loader(
            dataset, batch_sampler=share(len(dataset), self.batch_size, rank, processes)
        )

    def _loader(self, dataset: PoseLandmarksDataset, **order: Any) -> DataLoader[PoseSample]:
        if self.batch_size == 0:
            raise ConfigError("data.batch_size=auto: only a training chooses one; type a number")
        order = order if "batch_sampler" in order else {"batch_size": self.batch_size, **order}
        return Loader(
            dataset,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **order,
        )


def _takes_skeleton(opener: Callable[..., PoseSource]) -> bool:
    return "skeleton" in inspect.signature(opener).parameters


def _data_keys(keys: Mapping[str, Any]) -> list[str]:
    """List the keys of a source that change its data; a file by name, unless it is a mirror's."""
    kept = [f"{key}={value}" for key, value in keys.items() if key not in LOCATION_KEYS]
    # caches older than the keys
    kept = [setting for setting in kept if setting not in ("upright=None", "category=None")]
    if keys.get("source") is not None:
        file = Path(str(keys["source"])).absolute()
        if file.stem not in {Path(mirror).stem for mirror in keys.get("mirrors") or ()}:
            kept.append(f"source={file.name}")
    return kept


def power_of_two(most: int) -> int:
    """Return the largest power of two that is not above `most`, at least 1."""
    return 1 << max(0, most.bit_length() - 1)


def _rank_and_processes() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
