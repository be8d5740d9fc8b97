"""Data set and loader of PyTorch: annotations of a source, cropped and augmented for a network.

The loader explains what a machine refuses to loading processes.
"""

import errno
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from convpose.data.annotation import Annotation, PoseSample, PoseSource
from convpose.data.augment import Augment
from convpose.data.corruption import Corruption
from convpose.data.crop import Crop, whole_frame
from convpose.errors import ModelError
from convpose.geometry import Affine, Image, compose, invert, transform, warp
from convpose.hardware import loader_killed
from convpose.skeleton import Skeleton

PREFETCHED = 2  # batches of each process
FILES, FILES_OF_PROCESS = 64, 48  # of the training; a batch is five tensors, each a file
REMEDY = "type data.num_workers=0, or num_workers=0 to convpose.evaluate"


class PoseLandmarksDataset(Dataset[PoseSample]):
    """Pose samples of a subset of a source; it knows no head, loss or metric.

    Args:
        source: annotations and their pixels.
        indices: the annotations of `source` that belong to this subset.
        crop: chooses the region of the image.
        input_size_px: side S of the square crop.
        skeleton: for the left/right permutation of a mirror.
        augment: random changes, or None.
        seed: fixes every random number, together with epoch and position.
    """

    def __init__(
        self,
        source: PoseSource,
        indices: Sequence[int],
        crop: Crop,
        input_size_px: int,
        skeleton: Skeleton,
        augment: Augment | Corruption | None = None,
        seed: int = 0,
    ) -> None:
        self.source = source
        self.indices = list(indices)
        self.crop = crop
        self.input_size_px = input_size_px
        self.mirror, self.one_sided = np.array(skeleton.mirror), list(skeleton.one_sided)
        if isinstance(augment, Augment) and not skeleton.mirrors:
            augment = augment.without_mirror()
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def image_ids(self) -> list[str]:
        """List the ids of the samples in order."""
        return [self.source.annotations[i].image_id for i in self.indices]

    def truth(self, position: int) -> PoseSample:
        """Return the sample at a position without reading its pixels (``image`` is empty)."""
        annotation = self.source.annotations[self.indices[position]]
        empty = np.zeros((0, 0, 3), dtype=np.uint8)
        return _sample(empty, annotation, self.crop.unit_to_px(annotation))

    def __getitem__(self, key: int | tuple[int, int]) -> PoseSample:
        """Return the sample at a position, or at (epoch, position) as `EpochSampler` yields it."""
        epoch, position = key if isinstance(key, tuple) else (0, key)
        cv2.setNumThreads(0)  # one core a worker: OpenCV's own threads fight the loader's
        index = self.indices[position]
        annotation = self.source.annotations[index]
        image, source_to_px = self.source.read_image(index)
        unit_to_px = self.crop.unit_to_px(annotation)
        rng = np.random.default_rng((self.seed, epoch, position))
        if self.augment is not None:
            if isinstance(self.augment, Augment) and self.augment.shows_frame(rng):
                unit_to_px = whole_frame("letterbox", annotation.width_px, annotation.height_px)
            unit_to_px, mirrored = self.augment.sample_crop(unit_to_px, rng)
            if mirrored:
                points_px = annotation.keypoints_px[self.mirror]
                visibility = annotation.visibility[self.mirror]
                points_px[self.one_sided], visibility[self.one_sided] = np.nan, 0
                annotation = replace(annotation, keypoints_px=points_px, visibility=visibility)
        crop = warp(image, compose(invert(source_to_px), unit_to_px), self.input_size_px)
        if self.augment is not None:
            crop = self.augment.apply_pixels(crop, _in_crop(annotation, unit_to_px), rng)
        return _sample(crop, annotation, unit_to_px)


def _sample(image: Image, annotation: Annotation, unit_to_px: Affine) -> PoseSample:
    return PoseSample(
        image=torch.from_numpy(image).permute(2, 0, 1),
        keypoints=torch.from_numpy(_in_crop(annotation, unit_to_px)).float(),
        visibility=torch.from_numpy(annotation.visibility.astype(np.int64)),
        keypoints_px=torch.from_numpy(annotation.keypoints_px.astype(np.float32)),
        unit_to_px=torch.from_numpy(unit_to_px).float(),
        box_px=torch.from_numpy(annotation.extent_px.astype(np.float32)),
        image_id=annotation.image_id,
    )


def _in_crop(annotation: Annotation, unit_to_px: Affine) -> NDArray[np.float64]:
    return transform(invert(unit_to_px), annotation.keypoints_px.astype(np.float64))


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffled (epoch, position) pairs that depend on nothing but seed, epoch and process rank.

    The epoch travels with the position into the workers, so that persistent workers, another number
    of workers or a resumed run draw the same augmentations. Lightning calls `set_epoch`.

    Args:
        length: number of samples N.
        seed: of the order.
        rank, world_size: this process takes every world_size-th sample from rank on. The order
            repeats from its beginning until all processes get the same number.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Fix the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        padded = np.resize(order, len(self) * self.world_size)
        for position in padded[self.rank :: self.world_size]:
            yield self.epoch, int(position)


def share(length: int, batch_size: int, rank: int, processes: int) -> list[list[int]]:
    """Divide positions among processes, without repeats; return one process's batches.

    Each process has every `processes`-th position from `rank` on. All have the same number of
    batches, because they wait for each other in each.

    Args:
        length: number of samples, at least `processes`.
        batch_size: of a batch at most; one more if a process would have an empty one.
        rank: of this process.
        processes: number of processes.
    """
    smallest, largest = length // processes, -(-length // processes)
    batches = min(smallest, -(-largest // batch_size))
    own = np.arange(rank, length, processes)
    return [batch.tolist() for batch in np.array_split(own, batches)]


class Loader(DataLoader[PoseSample]):
    """Load batches; see `DataLoader`.

    Raises:
        ModelError: no shared memory or no open files left, or a process that was killed.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator does as well
        """Yield batches."""
        self._check_files()
        try:
            yield from super().__iter__()
        except (RuntimeError, OSError) as error:
            if trouble := self._trouble(error):
                raise ModelError(trouble) from error
            raise

    def _check_files(self) -> None:
        """Raise the limit of open files to what is allowed; refuse one that ends in silence.

        A process that cannot pass a batch on loses it, and whoever waits for it waits for ever.
        """
        if sys.platform == "win32" or self.num_workers == 0:
            return
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = FILES + self.num_workers * FILES_OF_PROCESS
        if soft < needed and soft != resource.RLIM_INFINITY:
            if hard != resource.RLIM_INFINITY and hard < needed:
                raise ModelError(self._few_files())
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

    def _few_files(self) -> str:
        size = f"data.batch_size={self.batch_size} data.num_workers={self.num_workers}"
        return f"too few files can be open, with {size}; {REMEDY}, or raise the limit (ulimit -n)"

    def _trouble(self, error: BaseException) -> str | None:
        text = str(error)
        size = f"data.batch_size={self.batch_size} data.num_workers={self.num_workers}"
        # a semaphore of a queue has no file name
        full = isinstance(error, OSError) and (error.errno, error.filename) == (errno.ENOSPC, None)
        if full or any(place in text for place in ("shared memory", "/dev/shm", "torch_shm")):
            side = getattr(self.dataset, "input_size_px", 0)
            batch = 3 * side**2 * (self.batch_size or 0)
            kb = PREFETCHED * max(1, self.num_workers) * batch / 1e3
            most = f"{kb / 1e3:.0f} MB" if kb >= 1e3 else f"{kb:.0f} kB"
            return (
                f"/dev/shm is full: {size} hand up to {most} over in it; {REMEDY}, or start the "
                "container with --shm-size=1g"
            )
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE) or (
            "Too many open files" in text or "items of ancdata" in text
        ):
            return self._few_files()
        if loader_killed(error):
            return (
                "a loading process was killed, mostly because the memory or /dev/shm is full: "
                f"{size}; {REMEDY}, or a smaller data.batch_size; a training goes on with "
                "ckpt_path=last"
            )
        return None
