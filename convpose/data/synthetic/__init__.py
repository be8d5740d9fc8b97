"""Embedded data set: procedurally drawn people on sports grounds, with exact labels."""

import colorsys
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from convpose.config.schema import Natural
from convpose.data.annotation import Annotation
from convpose.data.synthetic.figure import sample_figures
from convpose.data.synthetic.painting import Canvas, Colour, colour, dress, f32, mix, paint_figure
from convpose.geometry import Affine, Image, identity

_SMALLEST_PX = 32  # below that a forearm is thinner than a pixel
# colours: sky at the horizon, sky above, ground at the horizon, ground near the viewer, lines
_SCENES = (
    ("dfeaf0", "7fb0dc", "8fae72", "5b8a48", "f2f5ee"),  # meadow by day
    ("f6ddc2", "a3a6cc", "93a069", "617745", "f4f0e0"),  # meadow at dusk
    ("d5dadd", "8fa3b3", "c08468", "a0614a", "f3ece6"),  # clay court
    ("ebe4d8", "b8b4a9", "cfb084", "ab8658", "fcf8ef"),  # sports hall
    ("c6cdd8", "66748a", "8a949c", "626d76", "e8edf0"),  # street
    ("f4ead2", "a5cfdc", "e2cda4", "c6ad7c", "fff9ea"),  # beach
    ("59647e", "252c42", "466455", "2d463b", "cdd6d2"),  # floodlit night
)
_FIXED_POINT = 4  # cv2 draws between pixels when coordinates come in sixteenths


class SyntheticSource:
    """Articulated people on sports grounds, each drawn when it is read.

    A picture depends on the seed and its index alone, not on the process, the order of reading or
    the number of images. All 14 keypoints are labelled and inside the image.

    The kit tells left from right: the person's left arm is red and the left leg amber, the
    right arm teal and the right leg blue to violet. A mirror augmentation (and a strong hue shift)
    contradicts that cue; then only the face and the back of the head remain.

    Args:
        num_images: number of images.
        image_size_px: side of the square images.
        seed: of everything random; another seed gives other people.

    Attributes:
        annotations: the people, one an image, ids ``synthetic_000000`` and on.
    """

    def __init__(
        self,
        num_images: Annotated[int, Gt(0), Le(1_000_000)] = 6000,
        image_size_px: Annotated[int, Ge(_SMALLEST_PX), Le(4096)] = 160,
        seed: Natural = 0,
    ) -> None:
        self._size_px, self._seed = image_size_px, seed
        self._figures = sample_figures(num_images, image_size_px, seed)
        keypoints_px = self._figures.joints[..., :2].astype(np.float32)
        self.annotations = [
            Annotation(f"synthetic_{i:06d}", "synthetic", image_size_px, image_size_px, k, v)
            for i, (k, v) in enumerate(zip(keypoints_px, self._figures.visibility, strict=True))
        ]

    def read_image(self, index: int) -> tuple[Image, Affine]:
        """Draw the person of ``annotations[index]``.

        Returns:
            (S, S, 3) uint8 RGB and the identity.
        """
        rng = np.random.default_rng([self._seed, 0, index])
        canvas = _paint_scene(rng, self._size_px, self._figures.shadow(index))
        light = rng.uniform((-0.35, -0.35, -0.5), (0.35, -0.25, -0.4)).astype(np.float32)
        paint_figure(canvas, self._figures, index, dress(rng), light)
        grain = np.frombuffer(rng.bytes(self._size_px**2), np.uint8).reshape(self._size_px, -1)
        canvas += (grain - np.float32(127.5)) * np.float32(rng.uniform(0.0, 0.06))
        image = cv2.merge(list(canvas.clip(0, 255).astype(np.uint8)))
        if rng.random() < 0.25:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.001, 0.004) * self._size_px)
        return np.asarray(image, np.uint8), identity()


def _paint_scene(rng: np.random.Generator, size_px: int, shadow_px: NDArray[np.float64]) -> Canvas:
    """Paint a random background: a sports ground under the sky, a blurred crowd behind it.

    Args:
        rng: the image's own generator.
        size_px: side S of the square.
        shadow_px: (4,) centre x, y and half width, half height of the soft shadow on the ground.

    Returns:
        (3, S, S).
    """
    scene = _SCENES[rng.integers(len(_SCENES))]
    far_sky, high_sky, far_ground, near_ground, line = (colour(code) for code in scene)
    horizon_px, slope = f32(rng.uniform(0.25, 0.75) * size_px), f32(rng.uniform(-0.12, 0.12))
    row = np.arange(size_px, dtype=f32)
    column = row[:, None]

    nearness = ((row - horizon_px) / (size_px - horizon_px)).clip(0, 1)[:, None]
    ground = mix(far_ground, near_ground, nearness) + _mottle(rng, size_px)
    ground = _lines(rng, ground, int(horizon_px), line)
    x, y, half_width, half_height = shadow_px.astype(np.float32)
    shadow = np.exp(-(((row - x) / half_width) ** 2)) * np.exp(-(((column - y) / half_height) ** 2))
    ground *= f32(1) - f32(0.5) * shadow

    canvas = _sky(rng, size_px, float(horizon_px) / size_px, far_sky, high_sky)
    below = column + (row - f32(size_px / 2)) * slope - horizon_px
    ground -= canvas
    ground *= np.minimum(np.maximum(below, f32(0)), f32(1))
    canvas += ground
    return canvas


def _sky(
    rng: np.random.Generator, size_px: int, horizon: float, far: Colour, high: Colour
) -> Canvas:
    """Paint the sky and the discs of an out-of-focus crowd; small at first, enlarging blurs it."""
    small = max(size_px // 4, 16)
    unit = small << _FIXED_POINT
    height = np.abs(np.linspace(0, 1 / horizon, small, dtype=np.float32) - 1).clip(0, 1)
    sky = np.empty((small, small, 3), np.uint8)
    sky[:] = (far + height[:, None] * (high - far))[:, None]
    for x, y, size, tone, grey in rng.random((int(rng.integers(0, 30)), 5)).tolist():
        tint = np.array(colorsys.hsv_to_rgb((9 * tone) % 1, 0.45 * grey, 0.35 + 0.6 * tone))
        shade = 140 * tint + 0.45 * (far if grey < 0.5 else high)
        centre = int(x * unit), int((horizon + 0.06 - 0.24 * y) * unit)
        radius = int((0.02 + 0.06 * size) * unit)
        cv2.circle(sky, centre, radius, shade.tolist(), -1, cv2.LINE_AA, _FIXED_POINT)
    soft = cv2.GaussianBlur(sky, (3, 3), 0)
    return _planes(cv2.resize(soft, (size_px, size_px), interpolation=cv2.INTER_CUBIC))


def _mottle(rng: np.random.Generator, size_px: int) -> Canvas:
    """Make uneven ground (S, S): patches wider than high, as seen at a low angle."""
    cells = max(size_px // 5, 8), max(size_px // 14, 4)
    patches = rng.standard_normal(cells, np.float32) * np.float32(rng.uniform(1, 5))
    return np.asarray(cv2.resize(patches, (size_px, size_px), interpolation=cv2.INTER_CUBIC))


def _lines(rng: np.random.Generator, ground: Canvas, horizon_px: int, line: Colour) -> Canvas:
    """Draw pitch lines that meet on the horizon, and sometimes a centre circle."""
    size_px = ground.shape[1]
    unit, horizon = size_px << _FIXED_POINT, horizon_px / size_px
    painted = np.ascontiguousarray(ground.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    width, ink = max(1, round(size_px / 100)), line.tolist()
    vanishing = int(rng.uniform(-0.5, 1.5) * unit), int((horizon - 0.03) * unit)
    for x in rng.uniform(-0.8, 1.8, int(rng.integers(0, 4))):
        near = int(x * unit), int(1.1 * unit)
        cv2.line(painted, near, vanishing, ink, width, cv2.LINE_AA, _FIXED_POINT)
    if rng.random() < 0.3:
        circle = rng.uniform((0.0, horizon + 0.15, 0.2), (1.0, 1.0, 0.45)) * unit
        x, y, radius = circle.astype(int).tolist()
        axes = radius, int(0.3 * radius)
        cv2.ellipse(painted, (x, y), axes, 0, 0, 360, ink, width, cv2.LINE_AA, _FIXED_POINT)
    return _planes(painted)


def _planes(image: Image | NDArray[np.generic]) -> Canvas:
    """Turn bytes (H, W, 3) into a canvas (3, H, W)."""
    return np.array(image.transpose(2, 0, 1), np.float32, order="C")
