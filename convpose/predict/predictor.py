"""Find people and their keypoints in images: arrays in, people out.

from convpose import PosePredictor

predictor = PosePredictor()                          # the small network; or "large"
predictor = PosePredictor.from_run("runs/study")     # or a run of yours
people = predictor(image)                            # (H, W, 3) uint8 RGB
people[0].keypoints_px                               # (14, 2) in pixels of the image
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Optional

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convpose.config.schema import Looks, check_value
from convpose.errors import ConfigError, DataError, ModelError
from convpose.geometry import Affine, Image, compose, invert, transform, warp
from convpose.hardware import nvidia_driver
from convpose.predict.images import Picture
from convpose.predict.people import Person, as_boxes
from convpose.runtime import Runtime, check_answer
from convpose.runtime.engines import ENGINE_OF, NAMES, OPENERS, onnx_file
from convpose.skeleton import Skeleton

if TYPE_CHECKING:  # the module imports torch
    from convpose.predict.detectors import Detector

ScoredBox = tuple[NDArray[np.float64] | None, float]  # None: the whole frame
Job = tuple[Picture, ScoredBox]


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
        """Load the network of a run; see `open_network`."""
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


def open_network(
    run: str | Path | None = None,
    weights: str | Path | None = None,
    checkpoint: str = "best",
    engine: str = "auto",
    accelerator: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Runtime:
    """Open the network of a run, of packaged weights or of an exported file, in an engine.

    An engine other than PyTorch needs an exported file. That of a run or of packaged weights is
    written on first use and kept, see `convpose.export.network.exported`. The default network comes
    with its ONNX file: without a GPU, ONNX Runtime has answered before torch would be imported.

    Args:
        run: folder of a run, or of a study for its newest run.
        weights: ``small``, ``large``, packaged weights (``.safetensors``) or a file of
            `convpose.export` (its suffix is in `ENGINE_OF`); None without a run for small.
        checkpoint: ``best``, ``last`` or a file; with a run only.
        engine: a key of `OPENERS`, or ``auto``: what the file is for; ``onnx`` for the default
            network on a CPU, if onnxruntime is installed; else torch.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where the engine sees one.
        precision: of PyTorch, see `convpose.runtime.pytorch.to_runtime`; an exported file has
            its own.
        threads: number of processor threads; None for the engine's own choice.

    Raises:
        ConfigError: two networks, an engine that is not there or for other files.
        ModelError: see `load_run`, `load_packaged` and the runtimes.
    """
    if run is not None and weights is not None:
        raise ConfigError(f"run={run} weights={weights}: two networks; type one of them")
    if run is None and checkpoint != "best":
        raise ConfigError(f"checkpoint={checkpoint}: of which run? type run=FOLDER")
    if engine not in ("auto", *OPENERS):
        raise ConfigError(f"engine={engine}: type auto, {', '.join(OPENERS)}")
    suffix = "" if weights is None else Path(weights).suffix
    suits = ENGINE_OF.get(suffix)
    if suits is None and suffix not in ("", ".safetensors"):
        raise ConfigError(
            f"weights={weights}: no such file is read here; type {', '.join(NAMES)}, a "
            f".safetensors file or an export ({', '.join(ENGINE_OF)}), or run=FOLDER"
        )
    if suits is not None and engine not in ("auto", suits):
        raise ConfigError(
            f"weights={weights} engine={engine}: that file is for engine={suits}; type engine=auto"
        )
    if run is None and suits is None and engine in ("auto", "onnx") and precision == "auto":
        shipped = onnx_file(weights)
        on_cpu = accelerator == "cpu" or (accelerator == "auto" and not nvidia_driver())
        if shipped and (engine == "onnx" or (on_cpu and find_spec("onnxruntime"))):
            return OPENERS["onnx"](shipped, accelerator, threads)
    if suits is None and engine in ("auto", "torch"):
        import torch  # the engines above are open before it is imported

        from convpose.runtime.packaged import load_packaged
        from convpose.runtime.pytorch import load_run

        if threads is not None:
            torch.set_num_threads(threads)
        if run is not None:
            return load_run(run, checkpoint, accelerator, precision)
        return load_packaged(weights, accelerator, precision)
    if precision != "auto":
        raise ConfigError(
            f"precision={precision}: an exported network has the precision that it was exported "
            "with; type precision=auto here, and precision=fp16 or int8 to convpose.export"
        )
    if suits is not None and weights is not None:
        return check_answer(OPENERS[suits](weights, accelerator, threads), weights)
    from convpose.export.network import exported  # imports torch

    return OPENERS[engine](exported(engine, run, weights, checkpoint), accelerator, threads)
