"""Detect people with networks in ONNX files: YOLOX and the DETR family; find one at hand."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import models
from torchvision.ops import nms

from convpose.config.schema import Share
from convpose.errors import ConfigError, ModelError, require_extra
from convpose.geometry import Image
from convpose.predict.detectors import Detections, Detector, TorchvisionDetector, to_detections
from convpose.runtime import reading
from convpose.runtime.engines import onnx_session

log = logging.getLogger(__name__)
# published under Apache-2.0 by the authors
YOLOX_TINY = (
    "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_tiny.onnx"
)
KEY = "detector.weights"
NAMES = re.compile(r"(?P<yolox>yolox)|(rt|rf)[-_]?detr|d[-_]?fine|deim", re.IGNORECASE)
IMAGENET = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)


class YoloxDetector:
    """Detect people with a YOLOX in an ONNX file; its first class is the person, as in COCO.

    The network gets BGR of 0–255 without normalisation, letterboxed into the top left corner on
    grey. Its outputs are (N, 5 + classes): offsets in cells of strides 8, 16 and 32, or pixels
    where the export decoded them. A file of rtmlib or mmdeploy has left out the doubles itself: its
    ``dets`` are (N, 5), corners in pixels and the score. Source: Ge et al., YOLOX, 2021.

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
        outputs = {output.name: output.shape for output in self.session.get_outputs()}
        self.outputs = ["dets", "labels"] if _ranks(outputs, dets=3, labels=2) else [*outputs][:1]
        if self.outputs == ["dets", "labels"] and not all(map(_side, shape[2:])):
            shape = [*shape[:2], 640, 640]  # of any size; rtmlib shows its files this one
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
        with reading(self.weights, "YOLOX", KEY):
            answers = self.session.run(self.outputs, {self.input_name: pixels})
        output, *labels = (answer[0] for answer in answers)
        if labels:
            people = output[labels[0] == 0].astype(np.float64)
            corners, scores = people[:, :4], people[:, 4]
            centre, size = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
        else:
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


class DetrDetector:
    """Detect people with an RT-DETR, D-FINE, DEIM or RF-DETR in an ONNX file of its own export.

    The network gets RGB, stretched to its input. The names of its outputs say which it is:

    - ``labels``, ``boxes``, ``scores`` of RT-DETR (Zhao et al., CVPR 2024), D-FINE, DEIM, with an
      input ``orig_target_sizes`` (width, height): RGB of 0 to 1, corners in pixels, person 0.
    - ``dets`` and ``labels`` of RF-DETR (Robinson et al., 2025), perhaps with masks: RGB normalised
      by ImageNet's mean and deviation, centres and sizes as shares, logits of COCO's category ids,
      person 1.

    Args:
        weights: the file.
        score_threshold: a box whose score is below it is left out.
        threads: number of threads; None for the engine's own choice.

    Raises:
        ConfigError: no file named, or no onnxruntime.
        ModelError: a file that is none of them.
    """

    def __init__(
        self,
        weights: str | None = None,
        score_threshold: Share = 0.4,
        threads: int | None = None,
    ) -> None:
        if weights is None:
            raise ConfigError(
                "detector=detr needs a file, detector.weights=FILE.onnx, that the export of "
                "RT-DETR, D-FINE, DEIM or RF-DETR has written"
            )
        self.weights = weights
        self.score_threshold = score_threshold
        self.session = _open_onnx(weights, threads)
        inputs = {value.name: value.shape for value in self.session.get_inputs()}
        outputs = {value.name: value.shape for value in self.session.get_outputs()}
        self.in_pixels = "orig_target_sizes" in inputs and {"labels", "boxes", "scores"} <= {
            *outputs
        }
        self.input_name: str = next((name for name in inputs if name != "orig_target_sizes"), "")
        shape = inputs.get(self.input_name, [])
        sides = [s for s in shape[2:] if isinstance(s, int) and s > 0]
        fixed = len(shape) == 4 and shape[1] == 3 and len(sides) == 2
        if not fixed or not (self.in_pixels or _ranks(outputs, dets=3, labels=3)):
            raise ModelError(
                f"detector.weights={weights}: no RT-DETR, D-FINE, DEIM or RF-DETR, its inputs are "
                f"{inputs} and its outputs {outputs}; expected 1 × 3 × height × "
                "width of a fixed size, and labels, boxes, scores or dets, labels"
            )
        self.size: tuple[int, int] = shape[2], shape[3]

    def __call__(self, image: Image) -> Detections:
        """Find the people of an image; see `Detector`."""
        height, width = image.shape[:2]
        smaller = min(self.size[0] / height, self.size[1] / width) < 0.5
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        pixels = cv2.resize(image, self.size[::-1], interpolation=how).astype(np.float32) / 255
        with reading(self.weights, "DETR", KEY):  # of other kinds of inputs or shapes of answers
            if self.in_pixels:
                sizes = np.array([[width, height]], np.int64)
                labels, boxes, scores = self._run(pixels, ("labels", "boxes", "scores"), sizes)
                people = (labels == 0) & (scores >= self.score_threshold)
                corners, scores = boxes[people], scores[people]
            else:
                mean, deviation = IMAGENET
                dets, logits = self._run((pixels - mean) / deviation, ("dets", "labels"))
                scores = torch.from_numpy(logits[:, 1].astype(np.float64)).sigmoid().numpy()
                people = scores >= self.score_threshold
                half = dets[people, 2:] / 2
                corners = np.hstack([dets[people, :2] - half, dets[people, :2] + half])
                corners, scores = corners * [width, height, width, height], scores[people]
            return to_detections(torch.from_numpy(corners), torch.from_numpy(scores), image)

    def _run(
        self, pixels: NDArray[Any], names: Sequence[str], sizes: NDArray[Any] | None = None
    ) -> list[NDArray[Any]]:
        shown = {self.input_name: pixels.transpose(2, 0, 1)[None].astype(np.float32)}
        if sizes is not None:
            shown["orig_target_sizes"] = sizes
        return [output[0] for output in self.session.run(names, shown)]


def find_detector(folders: Sequence[str], accelerator: str = "auto") -> Detector:
    """Open the first detector at hand, and say which.

    It is the first file of the folders whose name says that it is a YOLOX or a DETR, or else
    torchvision's, whose weights are downloaded once.

    Args:
        folders: where to look for files.
        accelerator: of torchvision's.

    Raises:
        ModelError: no file, and no download.
    """
    files = [file for f in folders for file in sorted(Path(f).expanduser().glob("*.onnx"))]
    for file in files:
        if (kind := NAMES.match(file.name)) is not None:
            log.info("detector=auto: %s", file)
            return YoloxDetector(str(file)) if kind["yolox"] else DetrDetector(str(file))
    where = f"no yolox*.onnx, rtdetr*.onnx or rfdetr*.onnx in {', '.join(folders)}"
    name = "fasterrcnn_mobilenet_v3_large_fpn"
    published = models.get_model_weights(name).DEFAULT
    copy = Path(torch.hub.get_dir(), "checkpoints", published.url.rpartition("/")[2])
    if not copy.is_file():
        log.info(
            "detector=auto: %s; fetching torchvision's, %.0f MB, the name ends in the first digits "
            "of its SHA-256: %s",
            *(where, published.meta["_file_size"], published.url),
        )
    try:
        return TorchvisionDetector(name, accelerator=accelerator)
    except ModelError as error:
        raise ModelError(
            f"detector=auto: {where}, and torchvision's could not be fetched; for one that is "
            f"found here (20 MB), type\n  curl -LO {YOLOX_TINY}"
        ) from error


def _open_onnx(weights: str, threads: int | None) -> Any:
    require_extra("onnx", "onnxruntime")
    if not Path(weights).is_file():
        raise ModelError(f"detector.weights={weights}: no such file; expected an .onnx file")
    return onnx_session(weights, threads=threads, key=KEY)


def _ranks(outputs: Mapping[str, Sequence[Any]], **expected: int) -> bool:
    return all(len(outputs.get(name, ())) == rank for name, rank in expected.items())


def _side(size: Any) -> bool:
    return isinstance(size, int) and size > 0 and size % 32 == 0
