"""The embedded data set: procedurally drawn people with exact labels, no download."""

from collections.abc import Sequence

import cv2
import numpy as np

from convpose.data.annotation import Annotation
from convpose.data.synthetic.figure import sample_figures
from convpose.data.synthetic.painting import dress, paint_figure
from convpose.data.synthetic.scene import paint_scene
from convpose.errors import ConfigError
from convpose.geometry import Affine, Image, identity

_SMALLEST_PX = 32  # below that a forearm is thinner than a pixel


class SyntheticSource:
    """Articulated people on sports grounds, each drawn when it is read.

    A picture depends on the seed and its index alone, not on the process, the order of reading or
    the number of images. All 14 keypoints are labelled and inside the image.

    What tells left from right is the kit: the person's left arm is red and the left leg amber, the
    right arm teal and the right leg blue to violet. A mirror augmentation (and a strong hue shift)
    contradicts that cue; then only the face and the back of the head remain.

    Args:
        num_images: how many.
        image_size_px: side of the square images.
        seed: of everything random; another seed gives other people.

    Raises:
        ConfigError: not a whole number, no image, images below 32 px, or a negative seed.
    """

    def __init__(self, num_images: int = 6000, image_size_px: int = 160, seed: int = 0) -> None:
        _require("num_images", num_images, 1, 6000)
        _require("image_size_px", image_size_px, _SMALLEST_PX, 160)
        _require("seed", seed, 0, 0)
        self._size_px, self._seed = image_size_px, seed
        self._figures = sample_figures(num_images, image_size_px, seed)
        keypoints_px = self._figures.joints[..., :2].astype(np.float32)
        self._annotations = [
            Annotation(f"synthetic_{i:06d}", "synthetic", image_size_px, image_size_px, k, v)
            for i, (k, v) in enumerate(zip(keypoints_px, self._figures.visibility, strict=True))
        ]

    @property
    def annotations(self) -> Sequence[Annotation]:
        """One person an image, ids ``synthetic_000000`` and on."""
        return self._annotations

    def read_image(self, index: int) -> tuple[Image, Affine]:
        """Draw the person of ``annotations[index]``.

        Returns:
            (S, S, 3) uint8 RGB and the identity.
        """
        rng = np.random.default_rng([self._seed, 0, index])
        canvas = paint_scene(rng, self._size_px, self._figures.shadow(index))
        light = rng.uniform((-0.35, -0.35, -0.5), (0.35, -0.25, -0.4)).astype(np.float32)
        paint_figure(canvas, self._figures, index, dress(rng), light)
        grain = np.frombuffer(rng.bytes(self._size_px**2), np.uint8).reshape(self._size_px, -1)
        canvas += (grain - np.float32(127.5)) * np.float32(rng.uniform(0.0, 0.06))
        image = cv2.merge(list(canvas.clip(0, 255).astype(np.uint8)))
        if rng.random() < 0.25:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.001, 0.004) * self._size_px)
        return np.asarray(image, np.uint8), identity()


def _require(key: str, value: int, least: int, example: int) -> None:
    """ConfigError unless the value is a whole number and large enough."""
    if not isinstance(value, int) or value < least:
        raise ConfigError(
            f"data.sources.synthetic.{key}={value} cannot be drawn: it takes a whole number of at "
            f"least {least}. Type for example data.sources.synthetic.{key}={example}"
        )
