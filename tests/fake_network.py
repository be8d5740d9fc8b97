"""A network that needs no training: it finds the red dot of a crop, and says so for every joint."""

import numpy as np

from convpose.runtime import CropSpec
from convpose.skeleton import LSP14

K = LSP14.num_keypoints
SCORE = 0.75


class RedDot:
    """A `Runtime` whose keypoints all lie where the crop is reddest.

    Args:
        frame: crop of a picture without a box.
        size_px: side of its crops.
        box_scale: of its crops around boxes.
    """

    def __init__(self, frame="letterbox", size_px=64, box_scale=1.25):
        self.spec = CropSpec(size_px, frame, box_scale, LSP14)
        self.batches = []

    def __call__(self, crops):
        assert crops.dtype == np.uint8
        assert crops.shape[1:] == (3, self.spec.input_size_px, self.spec.input_size_px)
        self.batches.append(len(crops))
        red = np.clip(crops[:, 0].astype(float) - crops[:, 1:].max(axis=1), 0, None) + 1e-9
        centre = (np.arange(self.spec.input_size_px) + 0.5) / self.spec.input_size_px
        total = red.sum(axis=(1, 2))
        x, y = (red.sum(axis=1) @ centre) / total, (red.sum(axis=2) @ centre) / total
        keypoints = np.repeat(np.stack([x, y], axis=1)[:, None], K, axis=1).astype(np.float32)
        return keypoints, np.full((len(crops), K), SCORE, np.float32)


class NearSighted(RedDot):
    """Places joints on the diagonal of what is red, no finer than a sixteenth of the crop."""

    scores = np.full(K, SCORE, np.float32)

    def __call__(self, crops):
        keypoints, scores = super().__call__(crops)
        for i, red in enumerate(crops[:, 0] > 128):
            if not red.any():
                scores[i] = 0
                continue
            y, x = (np.flatnonzero(red.any(axis=axis))[[0, -1]] for axis in (1, 0))
            ends = (np.stack([x, y], axis=1) + 0.5) / self.spec.input_size_px
            keypoints[i] = (np.floor(16 * np.linspace(*ends, K)) + 0.5) / 16
            scores[i] = self.scores
        return keypoints, scores


def on_diagonal(at_px, radius_px):
    """Return the places where `NearSighted` should put its joints on a `dot`."""
    at = np.array(at_px)
    return np.linspace(at - radius_px, at + radius_px, K).astype(np.float32)


def dot(width_px=160, height_px=120, at_px=(100.0, 40.0), radius_px=6):
    """A black image with a red dot."""
    y, x = np.mgrid[:height_px, :width_px]
    image = np.zeros((height_px, width_px, 3), np.uint8)
    image[(x - at_px[0]) ** 2 + (y - at_px[1]) ** 2 <= radius_px**2, 0] = 255
    return image
