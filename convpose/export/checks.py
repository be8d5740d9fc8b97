"""Compare an exported file with PyTorch: distances of keypoints, and accuracy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from convpose.data.build import build_datamodule
from convpose.data.crop import Crop
from convpose.data.datamodule import PoseDataModule
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConfigError
from convpose.evaluate.scoring import GroundTruth, predict
from convpose.export.network import Network
from convpose.runtime import CropSpec, Runtime

CROPS = 48
BATCH_SIZES = (1, 3, 16)  # several, so that an export for one size alone is noticed


@dataclass(frozen=True, slots=True)
class Difference:
    """Distances of keypoints between two runtimes, in pixels of the crop.

    Attributes:
        crops: number of crops.
        largest_px: largest distance of all keypoints.
        usual_px: distance that 99 in 100 keypoints do not exceed. Where a heatmap has two peaks of
            almost the same height, rounding decides which one is the keypoint.
        score: largest difference of scores.
    """

    crops: int
    largest_px: float
    usual_px: float
    score: float

    @classmethod
    def between(cls, one: Runtime, other: Runtime, crops: NDArray[np.uint8]) -> "Difference":
        """Compare two runtimes on crops (N, 3, S, S) uint8; NaN counts as infinitely far."""
        (a, a_scores), (b, b_scores) = _answers(one, crops), _answers(other, crops)
        distance_px = np.linalg.norm(a - b, axis=-1) * one.spec.input_size_px
        distance_px = np.where(np.isnan(distance_px), np.inf, distance_px)
        return cls(
            len(crops),
            float(distance_px.max()),
            float(np.quantile(distance_px, 0.99, method="lower")),
            float(np.abs(a_scores - b_scores).max()),
        )

    def __str__(self) -> str:
        """Describe the difference in one line."""
        return (
            f"keypoints are at most {self.largest_px:.2g} px of the crop off PyTorch's, 99 % of "
            f"them at most {self.usual_px:.2g} px; scores {self.score:.2g}; on {self.crops} crops"
        )


def synthetic_crops(spec: CropSpec, count: int = CROPS) -> NDArray[np.uint8]:
    """Draw crops (N, 3, S, S) of synthetic people, which need no data."""
    source = SyntheticSource(count, image_size_px=160)
    dataset = PoseLandmarksDataset(
        source, range(count), Crop("box", 1.25), spec.input_size_px, spec.skeleton
    )
    return np.stack([dataset[i]["image"].numpy() for i in range(count)])


def _answers(
    runtime: Runtime, crops: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    found, start, turn = [], 0, 0
    while start < len(crops):
        size = BATCH_SIZES[turn % len(BATCH_SIZES)]
        found.append(runtime(crops[start : start + size]))
        start, turn = start + size, turn + 1
    keypoints, scores = zip(*found, strict=True)
    return np.concatenate(keypoints), np.concatenate(scores)


def open_data(cfg: DictConfig, network: Network, spec: CropSpec) -> PoseDataModule:
    """Open the data of ``cfg.data``, else of the network's run with its split; not augmented.

    Args:
        cfg: ``conf/export.yaml``, composed.
        network: the one that is exported.
        spec: of its crops.

    Raises:
        ConfigError: packaged weights without data.
        DataError: see the sources.
    """
    other = cfg.get("data")
    if other is not None:
        own = OmegaConf.create({"data": OmegaConf.to_container(other, resolve=True)})
        own.data.input_size_px, own.data.box_scale = spec.input_size_px, spec.box_scale
        own.data.skeleton = spec.skeleton.to_dict()
    elif network.run is not None:
        own = network.run.config_to_score(cfg.paths.data)
    else:
        raise ConfigError(
            "precision=int8 of packaged weights needs pictures to calibrate with; type data=lspet, "
            "data=lsp, …"
        )
    own.data.batch_size = cfg.batch_size
    datamodule = build_datamodule(own)
    datamodule.setup()
    return datamodule


def some_crops(datamodule: PoseDataModule, part: str, count: int) -> NDArray[np.uint8]:
    """Up to `count` crops (N, 3, S, S) of a part, drawn at random, always the same."""
    dataset = datamodule.datasets[part]
    drawn = np.random.default_rng(0).permutation(len(dataset))[:count]
    return np.stack([dataset[int(i)]["image"].numpy() for i in drawn])


def validate(runtime: Runtime, datamodule: PoseDataModule, what: str) -> dict[str, Any]:
    """Compute the measures of a runtime on the validation subset, see `GroundTruth.score`."""

    def network(crops: torch.Tensor) -> dict[str, torch.Tensor]:
        keypoints, scores = runtime(crops.numpy())
        return {"keypoints": torch.from_numpy(keypoints), "scores": torch.from_numpy(scores)}

    predictions = predict(network, datamodule.loader("val"), f"validating {what}")
    truth = GroundTruth.of(datamodule.datasets["val"], datamodule.skeleton)
    return truth.score(torch.from_numpy(predictions.keypoints_px))
