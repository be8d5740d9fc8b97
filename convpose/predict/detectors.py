"""Detect people: the form of the answer, and detectors of torchvision."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision import models

from convpose.config.schema import Share
from convpose.errors import ConfigError, ModelError
from convpose.geometry import Image
from convpose.models.weights import read_weights

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
