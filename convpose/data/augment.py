"""Augmentation: one similarity for the geometry, Albumentations for pixels and occlusion.

Scale, rotation, shift and mirror change the crop's affine before the one warp; Albumentations then
works on the crop. All K keypoints stay: one that leaves the crop is still a keypoint, an unlabelled
one stays NaN. Random numbers come from the sample's generator, so that a run repeats exactly with
any number of workers and after any interruption.
"""

import copy
import os
import random
from collections.abc import Mapping
from typing import Annotated, TypeAlias

import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the network at import
import albumentations

from convpose.config.schema import Share
from convpose.errors import ConfigError
from convpose.geometry import Affine, Image, compose, similarity, transform

Transform: TypeAlias = albumentations.BasicTransform | albumentations.BaseCompose
MIRROR: Affine = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])  # u → 1 − u


class Augment:
    """Random changes of a training sample.

    Args:
        scale: the crop's side is multiplied by ``exp(U(−scale, scale))``.
        rotation_deg: the crop turns by ``U(−rotation_deg, rotation_deg)``; 180 is the full circle.
        rotation_probability: share of samples that are turned at all.
        shift: the crop moves by ``U(−shift, shift)`` of its side in x and y.
        mirror_probability: share of samples that are mirrored, left and right exchanged.
        transforms: Albumentations transforms by name, applied in this order to the crop.
        frame_probability: share of samples that show the whole frame, padded to a square, instead
            of the configured crop: for a network that is to find people without a box.
    """

    def __init__(
        self,
        scale: Annotated[float, Ge(0), Le(2)] = 0.0,
        rotation_deg: Annotated[float, Ge(0), Le(180)] = 0.0,
        rotation_probability: Share = 1.0,
        shift: Share = 0.0,
        mirror_probability: Share = 0.0,
        transforms: Mapping[str, Transform] | None = None,
        frame_probability: Share = 0.0,
    ) -> None:
        self.scale = scale
        self.rotation_deg = rotation_deg
        self.rotation_probability = rotation_probability
        self.shift = shift
        self.mirror_probability = mirror_probability
        self.frame_probability = frame_probability
        self.transforms = dict(transforms or {})
        chosen = list(self.transforms.values())
        self._may_move = not all(isinstance(t, albumentations.ImageOnlyTransform) for t in chosen)
        keypoints = albumentations.KeypointParams(format="xy", remove_invisible=False)
        self._compose = albumentations.Compose(
            chosen, keypoint_params=keypoints if self._may_move else None
        )

    def without_mirror(self) -> "Augment":
        """Return the same changes without the mirror, for skeletons without left and right."""
        other = copy.copy(self)
        other.mirror_probability = 0.0
        return other

    def shows_frame(self, rng: np.random.Generator) -> bool:
        """Draw whether a sample shows the whole frame; draw nothing where none does."""
        return self.frame_probability > 0 and rng.random() < self.frame_probability

    def sample_crop(self, unit_to_px: Affine, rng: np.random.Generator) -> tuple[Affine, bool]:
        """Draw scale, rotation, shift and mirror, and change the crop by them.

        Returns:
            The changed (2, 3) ``unit_to_px``, and whether left and right are exchanged.
        """
        side = np.abs(unit_to_px[:, :2]).sum(axis=1)  # width and height of the crop in px
        x, y = transform(unit_to_px, np.array([[0.5, 0.5]]))[0]
        turned = rng.random() < self.rotation_probability
        mirrored = rng.random() < self.mirror_probability
        change = similarity(
            centre_px=(x, y),
            scale=float(np.exp(rng.uniform(-self.scale, self.scale))),
            rotation_deg=rng.uniform(-self.rotation_deg, self.rotation_deg) if turned else 0.0,
            shift_px=tuple(rng.uniform(-self.shift, self.shift, 2) * side),
        )
        changed = compose(change, unit_to_px)
        return (compose(changed, MIRROR), True) if mirrored else (changed, False)

    def apply_pixels(
        self, image: Image, keypoints: NDArray[np.float64], rng: np.random.Generator
    ) -> Image:
        """Apply the Albumentations transforms to a crop.

        Args:
            image: (S, S, 3) uint8.
            keypoints: (K, 2) unit coordinates, NaN where unlabelled; they must not move.
            rng: the sample's generator.

        Raises:
            ConfigError: a transform moves or drops keypoints, or returns no uint8 crop.
        """
        if not self.transforms:
            return image
        # Not `set_random_seed`, which gives all transforms the same stream: what has p=0.3 would
        # then happen to the same samples.
        self._compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        labelled = keypoints[~np.isnan(keypoints[:, 0])] * image.shape[0]
        given = {"keypoints": labelled} if self._may_move else {}
        out = self._compose(image=image, **given)
        after = np.asarray(out["keypoints"]) if given else labelled
        if after is not labelled and not (
            after.shape == labelled.shape and np.allclose(after, labelled, atol=1e-3)
        ):
            raise ConfigError(
                f"augment.transforms ({', '.join(self.transforms)}): one of them moves or drops "
                "keypoints; geometry belongs to augment.scale, .rotation_deg, .shift and "
                ".mirror_probability"
            )
        changed: Image = out["image"]
        if changed.dtype != np.uint8 or changed.shape != image.shape:
            raise ConfigError(
                f"augment.transforms ({', '.join(self.transforms)}): one of them returns "
                f"{changed.dtype} of shape {changed.shape} instead of uint8 {image.shape}; "
                "leave conversions and normalisation to the model"
            )
        return changed
