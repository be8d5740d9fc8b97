"""Detect people: detectors of torchvision, and YOLOX in ONNX."""

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import models
from torchvision.ops import nms

from convpose.config.schema import Share
from convpose.errors import ConfigError, ModelError, require_extra
from convpose.geometry import Image
from convpose.models.weights import read_weights

log = logging.getLogger(__name__)
# published under Apache-2.0 by the authors
YOLOX_TINY = (
    "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_tiny.onnx"
)
PERSON = 1  # of torchvision's COCO categories; 0 is the background


class Detections(NamedTuple):
    """Boxes (N, 4) in pixels and scores (N,) in [0, 1], highest score first."""

    boxes_px: NDArray[np.float64]
    scores: NDArray[np.float64]


class Detector(Protocol):
    """Find people in an image."""

    def __call__(self, image: Image) -> Detections:
        """Find the people of an image, (H, W, 3) uint8 RGB."""
        ...


class TorchvisionDetector:
    """Detect people with a detector of torchvision, trained on COCO.

    Args:
        name: one of ``torchvision.models.list_models(torchvision.models.detection)``.
        weights: file of its state dict; None downloads torchvision's own.
        score_threshold: a box below it is left out.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where there is one.

    Raises:
        ConfigError: no such detector.
        ModelError: weights that cannot be fetched or do not fit.
    """

    def __init__(
        self,
        name: str = "fasterrcnn_mobilenet_v3_large_fpn",
        weights: str | None = None,
        score_threshold: Share = 0.5,
        accelerator: str = "auto",
    ) -> None:
        known = models.list_models(module=models.detection)
        if name not in known:
            raise ConfigError(f"detector.name={name}: no such detector; type {', '.join(known)}")
        self.score_threshold = score_threshold
        on_gpu = accelerator != "cpu" and torch.cuda.is_available()
        self.device = torch.device("cuda" if on_gpu else "cpu")
        if weights is None:
            try:
                self.model: Any = models.get_model(name, weights="DEFAULT", progress=False)
            except (OSError, RuntimeError) as error:  # no network, or a download that broke off
                raise ModelError(
                    f"detector.name={name}: torchvision's weights could not be fetched ({error}); "
                    "connect to the internet, type detector.weights=FILE for a copy, or "
                    "detector=yolox detector.weights=FILE.onnx"
                ) from error
        else:
            self.model = models.get_model(name, weights=None, weights_backbone=None)
            try:
                self.model.load_state_dict(read_weights(Path(weights)))
            except RuntimeError as error:
                raise ModelError(
                    f"detector.weights={weights}: not weights of {name}; type detector.name=…"
                ) from error
        self.model.eval().to(self.device)

    def __call__(self, image: Image) -> Detections:
        """Find the people of an image; see `Detector`."""
        pixels = torch.from_numpy(image).to(self.device).permute(2, 0, 1).float() / 255
        with torch.inference_mode():
            found = {key: value.cpu() for key, value in self.model([pixels])[0].items()}
        chosen = (found["labels"] == PERSON) & (found["scores"] >= self.score_threshold)
        return to_detections(found["boxes"][chosen], found["scores"][chosen], image)


def to_detections(boxes: torch.Tensor, scores: torch.Tensor, image: Image) -> Detections:
    """Turn boxes of image coordinates 0 … W into pixels: clipped, no slivers, best first.

    Args:
        boxes: (N, 4) x0, y0, x1, y1.
        scores: (N,).
        image: (H, W, 3), for its size.
    """
    corners, confidence = boxes.double().numpy(), scores.double().numpy()
    height, width = image.shape[:2]
    corners = corners.clip(0, [width, height, width, height]) - 0.5
    solid = (corners[:, 2:] - corners[:, :2] >= 1).all(axis=1)
    order = np.argsort(-confidence[solid], kind="stable")
    return Detections(corners[solid][order], confidence[solid][order])


class YoloxDetector:
    """Detect people with a YOLOX in an ONNX file; its first class is the person, as in COCO.

    The network gets BGR of 0–255 without normalisation, letterboxed into the top left corner on
    grey. Its outputs are (N, 5 + classes): offsets in cells of strides 8, 16 and 32, or pixels
    where the export decoded them. Source: Ge et al., YOLOX, 2021.

    Args:
        weights: the file.
        score_threshold: a box whose objectness times class score is below it is left out.
        overlap_threshold: of two boxes with a larger intersection over union, the better stays.
        threads: number of threads; None for the engine's own choice.

    Raises:
        ConfigError: no file named, or no onnxruntime.
        ModelError: a file that is no YOLOX.
    """

    def __init__(
        self,
        weights: str | None = None,
        score_threshold: Share = 0.3,
        overlap_threshold: Share = 0.5,
        threads: int | None = None,
    ) -> None:
        if weights is None:
            raise ConfigError(
                f"detector=yolox needs a file, detector.weights=FILE.onnx; such as {YOLOX_TINY}"
            )
        self.weights = weights
        self.score_threshold = score_threshold
        self.overlap_threshold = overlap_threshold
        self.session = _open_onnx(weights, threads)
        inputs = self.session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] != 3 or not all(map(_side, shape[2:])):
            raise ModelError(
                f"detector.weights={weights}: no YOLOX, its input is {shape}; expected 1 × 3 × "
                "height × width of a fixed size that 32 divides"
            )
        self.input_name: str = inputs[0].name
        self.size: tuple[int, int] = shape[2], shape[3]

    def __call__(self, image: Image) -> Detections:
        """Find the people of an image; see `Detector`."""
        height, width = image.shape[:2]
        scale = min(self.size[0] / height, self.size[1] / width)
        inside = max(1, round(width * scale)), max(1, round(height * scale))
        how = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
        padded = np.full((*self.size, 3), 114, np.uint8)
        padded[: inside[1], : inside[0]] = cv2.resize(image, inside, interpolation=how)
        pixels = padded[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        output = self.session.run(None, {self.input_name: pixels})[0][0]
        centre, size, scores = self._decode(output)
        chosen = scores >= self.score_threshold
        ratio = np.array([width / inside[0], height / inside[1]])
        centre, size = centre[chosen] * ratio, size[chosen] * ratio
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
        return self._without_doubles(boxes, scores[chosen], image)

    def _decode(self, output: NDArray[np.float32]) -> tuple[NDArray[np.float64], ...]:
        """Decode centres (N, 2) and sizes (N, 2) in pixels of the input, and person scores (N,)."""
        cells = [(self.size[0] // stride, self.size[1] // stride) for stride in (8, 16, 32)]
        count = sum(rows * columns for rows, columns in cells)
        if output.ndim != 2 or len(output) != count or output.shape[1] < 6:
            raise ModelError(
                f"detector.weights={self.weights}: no YOLOX, its output is {output.shape}; "
                f"expected {count} × (5 + classes)"
            )
        values = output.astype(np.float64)
        scores = values[:, 4] * values[:, 5]
        if values[:, 2:4].max() > 20:  # decoded already: as exponents they would mean e²⁰ pixels
            return values[:, :2], values[:, 2:4], scores
        grid = np.concatenate([np.mgrid[:r, :c][::-1].reshape(2, -1).T for r, c in cells])
        stride = np.repeat([8, 16, 32], [rows * columns for rows, columns in cells])[:, None]
        return (values[:, :2] + grid) * stride, np.exp(values[:, 2:4]) * stride, scores

    def _without_doubles(
        self, boxes: NDArray[np.float64], scores: NDArray[np.float64], image: Image
    ) -> Detections:
        corners, confidence = torch.from_numpy(boxes), torch.from_numpy(scores)
        kept = nms(corners, confidence, self.overlap_threshold)
        return to_detections(corners[kept], confidence[kept], image)


def find_detector(folders: Sequence[str], accelerator: str = "auto") -> Detector:
    """Open the first detector at hand, and say which.

    It is the first ``yolox*.onnx`` of the folders, or else torchvision's, whose weights are
    downloaded once.

    Args:
        folders: where to look for files.
        accelerator: of torchvision's.

    Raises:
        ModelError: no file, and no download.
    """
    files = (file for folder in folders for file in sorted(Path(folder).glob("yolox*.onnx")))
    if (file := next(files, None)) is not None:
        log.info("detector=auto: %s", file)
        return YoloxDetector(str(file))
    name = "fasterrcnn_mobilenet_v3_large_fpn"
    published = models.get_model_weights(name).DEFAULT
    copy = Path(torch.hub.get_dir(), "checkpoints", published.url.rpartition("/")[2])
    if not copy.is_file():
        log.info(
            "detector=auto: no yolox*.onnx in %s; fetching torchvision's, %.0f MB, the name ends "
            "in the first digits of its SHA-256: %s",
            *(", ".join(folders), published.meta["_file_size"], published.url),
        )
    try:
        return TorchvisionDetector(name, accelerator=accelerator)
    except ModelError as error:
        raise ModelError(
            f"detector=auto: no yolox*.onnx in {', '.join(folders)}, and torchvision's could not "
            f"be fetched; for one that is found here (20 MB), type\n  curl -LO {YOLOX_TINY}"
        ) from error


def _open_onnx(weights: str, threads: int | None) -> Any:
    require_extra("onnx", "onnxruntime")
    onnxruntime: Any = importlib.import_module("onnxruntime")  # ships no types
    if not Path(weights).is_file():
        raise ModelError(f"detector.weights={weights}: no such file; expected a YOLOX .onnx file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; they are raised as well
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        there = onnxruntime.get_available_providers()
        providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in there]
        return onnxruntime.InferenceSession(weights, options, providers)
    except Exception as error:  # the engine's own types, which share no base
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"detector.weights={weights}: not a readable ONNX file ({reason})"
        ) from error


def _side(size: Any) -> bool:
    return isinstance(size, int) and size > 0 and size % 32 == 0
