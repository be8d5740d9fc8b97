"""Galleries: samples of a data set with prediction and truth, as one contact sheet."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from convpose.data.annotation import PoseSample
from convpose.data.dataset import PoseLandmarksDataset
from convpose.geometry import Image
from convpose.plot.skeletons import draw_pose, draw_truth_and_prediction, enlarge, grid
from convpose.skeleton import Skeleton


def tile(
    sample: PoseSample,
    skeleton: Skeleton,
    predicted: torch.Tensor | None = None,
    side_px: int = 256,
) -> Image:
    """A sample's crop with its truth, and a prediction (K, 2) in unit coordinates if given."""
    crop = np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy())
    image, truth_px = enlarge(crop, in_crop_px(sample["keypoints"], crop), side_px)
    visibility = sample["visibility"].numpy()
    if predicted is None:
        return draw_pose(image, truth_px, skeleton, visibility)
    _, predicted_px = enlarge(crop, in_crop_px(predicted, crop), side_px)
    return draw_truth_and_prediction(image, predicted_px, truth_px, skeleton, visibility)


def gallery(
    dataset: PoseLandmarksDataset,
    positions: Sequence[int],
    skeleton: Skeleton,
    predicted: Sequence[torch.Tensor] | None = None,
    notes: Sequence[str] | None = None,
    columns: int = 5,
) -> Image:
    """A contact sheet of samples.

    Args:
        dataset: where the samples come from.
        positions: which ones.
        skeleton: of the keypoints.
        predicted: (K, 2) unit coordinates for each position; None draws the truth alone.
        notes: a text for each position that follows its id in the caption.
        columns: tiles a row.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    poses = [None] * len(positions) if predicted is None else predicted
    tiles = [
        tile(dataset[position], skeleton, pose)
        for position, pose in zip(positions, poses, strict=True)
    ]
    ids = [dataset.image_ids[position] for position in positions]
    titles = ids if notes is None else [f"{i}  {n}" for i, n in zip(ids, notes, strict=True)]
    return grid(tiles, columns, titles)


def in_crop_px(keypoints: torch.Tensor, crop: Image) -> NDArray[np.float64]:
    """Unit coordinates (K, 2) to pixels of the crop image, NaN stays NaN."""
    height, width = crop.shape[:2]
    scaled: NDArray[np.float64] = keypoints.double().numpy() * [width, height] - 0.5
    return scaled
