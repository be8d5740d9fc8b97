"""Find people and their keypoints in images: arrays in, people out.

from convpose import PosePredictor

predictor = PosePredictor()                          # the small network; or "large"
predictor = PosePredictor.from_run("runs/study")     # or a run of yours
people = predictor(image)                            # (H, W, 3) uint8 RGB
people[0].keypoints_px                               # (14, 2) in pixels of the image
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convpose.config.schema import Looks, check_value
from convpose.data.crop import found_box_px
from convpose.data.doubts import FARTHEST_PX
from convpose.errors import DataError, ModelError
from convpose.geometry import Affine, Image, compose, invert, transform, warp
from convpose.predict.engines import open_network
from convpose.predict.images import Picture
from convpose.runtime import Runtime
from convpose.runtime.engines import NAMES
from convpose.skeleton import Skeleton

if TYPE_CHECKING:  # the module imports torch
    from convpose.predict.detectors import Detector

ScoredBox = tuple[NDArray[np.float64] | None, float]  # None: the whole frame
Job = tuple[Picture, ScoredBox]


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Keypoints of one person, in pixels of the upright original picture.

    Attributes:
        keypoints_px: (K, 2) float32, pixel centres at integers; may lie outside the picture.
        scores: (K,) float32 in [0, 1], confidence of each keypoint.
        box_px: (4,) float64 x0, y0, x1, y1, box that the person was found in; None where the whole
            frame was taken for one person.
        box_score: in [0, 1], the detector's confidence; 1 without a detector.
        track: number of the person in a clip; None in a still, and before the tracker is sure.
    """

    keypoints_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    box_px: NDArray[np.float64] | None = None
    box_score: float = 1.0
    track: int | None = None

    @property
    def score(self) -> float:
        """Return the person's confidence: mean score of the keypoints times the box's."""
        return float(self.scores.mean()) * self.box_score

    @property
    def extent_px(self) -> NDArray[np.float64]:
        """Return (4,) the box, or without one the tight box around the keypoints."""
        if self.box_px is not None:
            return self.box_px
        points = self.keypoints_px.astype(np.float64)
        return np.concatenate([points.min(axis=0), points.max(axis=0)])

    def found_box_px(self, size_px: tuple[int, int]) -> NDArray[np.float64] | None:
        """Return the box for a closer look in a frame of width and height; see `found_box_px`."""
        return found_box_px(self.keypoints_px, self.scores, size_px)


class PosePredictor:
    """Find the people of pictures and their keypoints.

    Without boxes and without a detector, the whole frame is taken for one person and cropped as in
    training. The second look is at the box of what the first one found; where that is too little,
    the first answer stays. A predictor keeps no state; it may be called from several threads.

    Args:
        runtime: computes keypoints of crops, or the name or file of packaged weights.
        detector: finds people where no boxes are given; None for none.
        batch_size: number of crops computed at a time.
        box_scale: side of a crop over the longer side of its box; None as in training.
        looks: number of looks at a whole frame, 1 or 2.

    Raises:
        ConfigError: another number of looks.
        ModelError: see `convpose.runtime.packaged.load_packaged`.
    """

    def __init__(
        self,
        runtime: Runtime | str | Path = NAMES[0],
        detector: Optional["Detector"] = None,
        batch_size: int = 16,
        box_scale: float | None = None,
        looks: Looks = 2,
    ) -> None:
        check_value("looks", looks, Looks)
        if isinstance(runtime, str | Path):
            from convpose.runtime.packaged import load_packaged  # imports torch

            runtime = load_packaged(runtime)
        self.runtime = runtime
        self.spec = (
            runtime.spec if box_scale is None else replace(runtime.spec, box_scale=box_scale)
        )
        self.detector = detector
        self.batch_size = batch_size
        self.looks = looks

    @classmethod
    def from_run(
        cls,
        folder: str | Path,
        detector: Optional["Detector"] = None,
        checkpoint: str = "best",
        accelerator: str = "auto",
        precision: str = "auto",
        engine: str = "auto",
    ) -> "PosePredictor":
        """Load the network of a run; see `convpose.predict.engines.open_network`."""
        network = open_network(folder, None, checkpoint, engine, accelerator, precision)
        return cls(network, detector)

    @classmethod
    def from_weights(
        cls,
        path: str | Path,
        detector: Optional["Detector"] = None,
        accelerator: str = "auto",
        precision: str = "auto",
    ) -> "PosePredictor":
        """Load packaged weights or a file of `convpose.export`; see `open_network`."""
        network = open_network(weights=path, accelerator=accelerator, precision=precision)
        return cls(network, detector)

    @property
    def skeleton(self) -> Skeleton:
        """Return the skeleton that names the keypoints."""
        return self.spec.skeleton

    def __call__(self, image: Image, boxes_px: ArrayLike | None = None) -> list[Person]:
        """Find the people of one image; see `predict`."""
        return self.predict([image], None if boxes_px is None else [boxes_px])[0]

    def predict(
        self, images: Sequence[Image], boxes_px: Sequence[ArrayLike | None] | None = None
    ) -> list[list[Person]]:
        """Find the people of images.

        Args:
            images: (H, W, 3) uint8 RGB each, of any size.
            boxes_px: for each image (N, 4) boxes x0, y0, x1, y1 in pixels, or None to detect
                people; N = 0 says that nobody is there.

        Returns:
            One list of people an image, in the order of the boxes; empty where nobody is found.

        Raises:
            DataError: an image of another shape or type, or boxes that are not boxes.
        """
        pictures = [Picture.of(image) for image in images]
        given = [None] * len(pictures) if boxes_px is None else boxes_px
        if len(given) != len(pictures):
            raise DataError(f"{len(pictures)} images with {len(given)} lists of boxes")
        return self.predict_pictures(pictures, [None if b is None else as_boxes(b) for b in given])

    def predict_pictures(
        self,
        pictures: Sequence[Picture],
        boxes_px: Sequence[NDArray[np.float64] | None],
    ) -> list[list[Person]]:
        """Find the people of decoded pictures.

        Args:
            pictures: see `Picture`.
            boxes_px: for each (N, 4) boxes in pixels of the original, or None to detect people.

        Returns:
            One list of people per picture, in pixels of the originals.
        """
        found = [self._find(p, b) for p, b in zip(pictures, boxes_px, strict=True)]
        jobs = [(picture, box) for picture, f in zip(pictures, found, strict=True) for box in f]
        people = self._estimate(jobs)
        if self.looks == 2:
            self._look_again(jobs, people)
        rest = iter(people)
        return [[next(rest) for _ in boxes] for boxes in found]

    def _find(self, picture: Picture, boxes_px: NDArray[np.float64] | None) -> list[ScoredBox]:
        if boxes_px is not None:
            return [(box, 1.0) for box in boxes_px]
        if self.detector is None:
            return [(None, 1.0)]
        boxes, scores = self.detector(picture.image)
        corners = transform(picture.to_px, boxes.reshape(-1, 2, 2)).reshape(-1, 4)
        return [(box, float(score)) for box, score in zip(corners, scores, strict=True)]

    def _look_again(self, jobs: Sequence[Job], people: list[Person]) -> None:
        """Replace people of whole frames by what a closer look finds."""
        boxes = {
            i: box
            for i, (picture, (given, _)) in enumerate(jobs)
            if given is None and (box := people[i].found_box_px(picture.size_px)) is not None
        }
        closer = self._estimate([(jobs[i][0], (box, 1.0)) for i, box in boxes.items()])
        for i, person in zip(boxes, closer, strict=True):
            people[i] = replace(person, box_px=None)

    def _estimate(self, jobs: Sequence[Job]) -> list[Person]:
        starts = range(0, len(jobs), self.batch_size)
        batches = [self._estimate_batch(jobs[i : i + self.batch_size]) for i in starts]
        return [person for batch in batches for person in batch]

    def _estimate_batch(self, jobs: Sequence[Job]) -> list[Person]:
        affines = [self._unit_to_px(picture, box) for picture, (box, _) in jobs]
        crops = [self._crop(p, affine) for (p, _), affine in zip(jobs, affines, strict=True)]
        keypoints, scores = self.runtime(np.stack(crops))
        if not np.isfinite(keypoints).all():
            raise ModelError(
                "the network answers with NaN or infinity: its training has diverged; use another "
                "checkpoint or run"
            )
        points_px = transform(np.stack(affines), keypoints.astype(np.float64)).astype(np.float32)
        return [
            Person(points_px[i], scores[i], box, score) for i, (_, (box, score)) in enumerate(jobs)
        ]

    def _unit_to_px(self, picture: Picture, box_px: NDArray[np.float64] | None) -> Affine:
        if picture.square:
            return self.spec.unit_to_px(picture.size_px, box_px)
        height, width = picture.image.shape[:2]  # a crop is drawn in the shape that is shown
        if box_px is not None:
            box_px = transform(invert(picture.to_px), box_px.reshape(2, 2)).ravel()
        return compose(picture.to_px, self.spec.unit_to_px((width, height), box_px))

    def _crop(self, picture: Picture, unit_to_px: Affine) -> NDArray[np.uint8]:
        to_image = compose(invert(picture.to_px), unit_to_px)
        return warp(picture.image, to_image, self.spec.input_size_px).transpose(2, 0, 1)


def as_boxes(boxes_px: ArrayLike) -> NDArray[np.float64]:
    """Convert boxes to an array (N, 4).

    Raises:
        DataError: another shape, a place where no picture is, or a box without an area.
    """
    try:
        boxes = np.asarray(boxes_px, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"boxes {boxes_px!r}: expected numbers (N, 4)") from error
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"boxes of shape {boxes.shape}: expected (N, 4), x0, y0, x1, y1 in pixels")
    near = (np.abs(boxes) <= FARTHEST_PX).all(axis=1)  # False where NaN
    bad = ~(near & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    if bad.any():
        raise DataError(
            f"box {boxes[bad][0].tolist()}: expected x0, y0, x1, y1 in pixels with x0 < x1, y0 < y1"
        )
    return boxes
