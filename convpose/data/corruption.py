"""Graded damage to test images, as a network meets it outside of its data set.

Five severities a kind come from ImageNet-C (Hendrycks and Dietterich, 2019). The kinds are those
that the ConvPose paper calls hard (occlusion, attire, backgrounds) and faults of cameras. Each
image is damaged the same way for every network: the random numbers are the sample's own.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from convpose.geometry import Affine, Image, compose, similarity, transform
from convpose.skeleton import TORSO, Skeleton

Points = NDArray[np.float64]
Rng = np.random.Generator
Damage = Callable[[Image, Points, float, Rng, Skeleton], Image]
SEVERITIES = (1, 2, 3, 4, 5)
PATCH = 0.14  # side of the patch over a joint, of the crop's side
TILES = 8  # of the scrambled background, along a side


def cover_joints(image: Image, joints: Points, count: float, rng: Rng, _: Skeleton) -> Image:
    """Cover `count` labelled joints with squares of one colour."""
    out, side = image.copy(), image.shape[0]
    known = joints[~np.isnan(joints[:, 0])]
    half = PATCH * side / 2
    for x, y in rng.permutation(known)[: int(count)] * side:
        top, bottom, left, right = np.clip([y - half, y + half, x - half, x + half], 0, side)
        out[int(top) : int(bottom), int(left) : int(right)] = rng.integers(0, 256, 3)
    return out


def cover_regions(image: Image, _: Points, share: float, rng: Rng, __: Skeleton) -> Image:
    """Cover a share of the image with rectangles of one colour."""
    out, side = image.copy(), image.shape[0]
    covered: NDArray[np.bool_] = np.zeros((side, side), bool)
    while float(covered.mean()) < share:
        height, width = rng.uniform(0.1, 0.35, 2) * side
        y, x = int(rng.random() * (side - height)), int(rng.random() * (side - width))
        where = np.s_[y : y + int(height), x : x + int(width)]
        out[where] = rng.integers(0, 256, 3)
        covered[where] = True
    return out


def blur(image: Image, _: Points, sigma: float, __: Rng, ___: Skeleton) -> Image:
    """Blur by a Gaussian with sigma as a share of the image's side."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma * image.shape[0]), np.uint8)


def noise(image: Image, _: Points, sigma: float, rng: Rng, __: Skeleton) -> Image:
    """Add Gaussian noise to every value; sigma is in steps of 255."""
    return _to_uint8(image + rng.normal(0, sigma, image.shape))


def jpeg(image: Image, _: Points, quality: float, __: Rng, ___: Skeleton) -> Image:
    """Compress as JPEG of a quality."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def brightness(image: Image, _: Points, amount: float, rng: Rng, __: Skeleton) -> Image:
    """Brighten or darken by a share of the range."""
    return _to_uint8(image + 255 * amount * float(rng.choice([-1, 1])))


def contrast(image: Image, _: Points, keep: float, __: Rng, ___: Skeleton) -> Image:
    """Shrink differences from the mean colour to a share."""
    mean = image.mean(axis=(0, 1))
    return _to_uint8(mean + keep * (image - mean))


def low_resolution(image: Image, _: Points, factor: float, __: Rng, ___: Skeleton) -> Image:
    """Shrink by a factor and enlarge again."""
    side = image.shape[0]
    small = max(2, round(side / factor))
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (side, side)), np.uint8)


def clutter(image: Image, joints: Points, share: float, rng: Rng, skeleton: Skeleton) -> Image:
    """Replace a share of the background by pieces from elsewhere in the picture."""
    side = image.shape[0]
    tile = -(-side // TILES)
    count = tile * TILES
    padded = cv2.copyMakeBorder(image, 0, count - side, 0, count - side, cv2.BORDER_REFLECT)
    grid = padded.reshape(TILES, tile, TILES, tile, 3).swapaxes(1, 2)
    mixed = rng.permutation(grid.reshape(-1, tile, tile, 3)).reshape(grid.shape)
    chosen = rng.random((TILES, TILES, 1, 1, 1)) < share
    scrambled = np.where(chosen, mixed, grid).swapaxes(1, 2).reshape(count, count, 3)
    body = body_mask(joints, side, skeleton)
    return np.where(body[..., None], image, scrambled[:side, :side]).astype(np.uint8)


def clothing(image: Image, joints: Points, shift_deg: float, rng: Rng, skeleton: Skeleton) -> Image:
    """Shift the hue of the person and make colours stronger."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float64)
    hsv[..., 0] = (hsv[..., 0] + rng.choice([-1, 1]) * shift_deg / 2) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * (1 + shift_deg / 180), 0, 255)
    shifted = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    body = body_mask(joints, image.shape[0], skeleton)
    return np.where(body[..., None], shifted, image).astype(np.uint8)


def turned(image: Image, _: Points, __: float, ___: Rng, ____: Skeleton) -> Image:
    """Change nothing: the crop does the rotation, so that no corner is lost."""
    return image


# kind → function, and its amount at severities 1 to 5
KINDS: dict[str, tuple[Damage, tuple[float, float, float, float, float]]] = {
    "occluded joints": (cover_joints, (1, 2, 4, 6, 8)),
    "occluded regions": (cover_regions, (0.05, 0.1, 0.2, 0.3, 0.4)),
    "blur": (blur, (0.005, 0.01, 0.015, 0.02, 0.03)),
    "noise": (noise, (8, 16, 28, 44, 64)),
    "JPEG": (jpeg, (40, 25, 15, 8, 4)),
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (contrast, (0.75, 0.55, 0.4, 0.25, 0.15)),
    "low resolution": (low_resolution, (1.5, 2, 3, 4, 6)),
    "rotation": (turned, (15, 30, 60, 90, 180)),
    "background clutter": (clutter, (0.1, 0.25, 0.5, 0.75, 1.0)),
    "clothing colour": (clothing, (15, 30, 60, 90, 180)),
}


class Corruption:
    """Damage of one kind and severity, with the methods of `convpose.data.augment.Augment`.

    Args:
        kind: one of `KINDS`.
        severity: 1 to 5.
        skeleton: of the keypoints.
    """

    def __init__(self, kind: str, severity: int, skeleton: Skeleton) -> None:
        self.damage, amounts = KINDS[kind]
        self.amount = amounts[severity - 1]
        self.turn_deg = self.amount if kind == "rotation" else 0.0
        self.skeleton = skeleton

    def sample_crop(self, unit_to_px: Affine, rng: Rng) -> tuple[Affine, bool]:
        """Turn the crop about its centre, to either side, if the kind is rotation."""
        if not self.turn_deg:
            return unit_to_px, False
        x, y = transform(unit_to_px, np.array([[0.5, 0.5]]))[0]
        turn = similarity((x, y), rotation_deg=float(rng.choice([-1, 1])) * self.turn_deg)
        return compose(turn, unit_to_px), False

    def apply_pixels(self, image: Image, keypoints: Points, rng: Rng) -> Image:
        """Damage a crop (S, S, 3) uint8 with its unit keypoints (K, 2)."""
        return self.damage(image, keypoints, self.amount, rng, self.skeleton)


def body_mask(joints: Points, side: int, skeleton: Skeleton) -> NDArray[np.bool_]:
    """Draw a rough mask (side, side) of the person: thick limbs and the torso between them.

    Args:
        joints: (K, 2) unit keypoints, NaN where unlabelled.
        side: of the mask.
        skeleton: of the keypoints.
    """
    mask = np.zeros((side, side), np.uint8)
    points = {n: joints[i] * side for i, n in enumerate(skeleton.keypoints)}
    known = {n: p.round().astype(int) for n, p in points.items() if not np.isnan(p).any()}
    thick = max(2, round(0.09 * side))
    for a, b in skeleton.limbs:
        if a in known and b in known:
            cv2.line(mask, known[a].tolist(), known[b].tolist(), 1, thick)
    torso = [known[name] for pair in TORSO for name in pair if name in known]
    if len(torso) > 2:
        cv2.fillConvexPoly(mask, cv2.convexHull(np.array(torso)), 1)
    return mask.astype(bool)


def _to_uint8(values: NDArray[np.floating]) -> Image:
    clipped: Image = np.clip(values, 0, 255).astype(np.uint8)
    return clipped
