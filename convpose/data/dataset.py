"""Data set of PyTorch: annotations of a source, cropped and augmented for a network."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from convpose.data.annotation import Annotation, PoseSample, PoseSource
from convpose.data.augment import Augment
from convpose.data.corruption import Corruption
from convpose.data.crop import Crop, whole_frame
from convpose.geometry import Affine, Image, compose, invert, transform, warp
from convpose.skeleton import Skeleton


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
        self.mirror = np.array(skeleton.mirror)
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
                annotation = replace(
                    annotation,
                    keypoints_px=annotation.keypoints_px[self.mirror],
                    visibility=annotation.visibility[self.mirror],
                )
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
