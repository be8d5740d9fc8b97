"""Articulated figures: random 3D poses in one batch, projected to body parts and exact labels.

A figure is a tree of rotations in camera coordinates: x to the right, y down, z away from the
viewer, so that smaller is nearer. At rest it faces the viewer: left is +x, down +y, back +z. The
projection drops z. Body parts are tapered capsules; painting and occlusion read the same ones.
Lengths are fractions of the body height until the figure is fitted to its image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convpose.skeleton import LSP14, SIDES

Array = NDArray[np.float64]
MARGIN = 0.04  # no keypoint comes nearer to the image's edge than this share of its size

# part: the points it spans, its radius at start, middle and end, and how much nearer than its
# mean depth it is painted (sleeves lie over the shirt, the shirt over the trousers)
_LIMBS = {
    "upper_arm": ("shoulder", "elbow", (0.040, 0.037, 0.030), 0.030),
    "forearm": ("elbow", "wrist", (0.030, 0.031, 0.023), 0.032),
    "hand": ("wrist", "fingers", (0.022, 0.029, 0.019), 0.032),
    "thigh": ("hip", "knee", (0.060, 0.056, 0.038), 0.0),
    "shin": ("knee", "ankle", (0.038, 0.044, 0.026), 0.002),
    "foot": ("heel", "toes", (0.025, 0.028, 0.020), 0.004),
}
_CORE = {
    "pelvis": ("left_hip", "right_hip", (0.058, 0.062, 0.058), 0.0),
    "torso": ("waist", "chest", (0.0, 0.0, 0.0), 0.025),  # its width depends on the view
    "neck": ("chest", "skull_base", (0.036, 0.032, 0.034), 0.024),
    "head": ("skull_base", "skull_top", (0.054, 0.071, 0.067), 0.050),
}
_SHAPES = _CORE | {
    f"{side}_{limb}": (f"{side}_{start}", f"{side}_{end}", radii, lift)
    for side in SIDES
    for limb, (start, end, radii, lift) in _LIMBS.items()
}
PARTS = (*_SHAPES, "occluder")
# half width and half thickness of the torso at waist, middle and chest
_TORSO_HALF = np.array([[0.088, 0.062], [0.084, 0.060], [0.108, 0.068]])


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """N people, each fitted to its image.

    Attributes:
        joints: (N, 14, 3) LSP keypoints: x, y and depth in pixels.
        start, end: (N, P, 3) ends of the axes of `PARTS`, pixels.
        radii: (N, P, 3) radius at start, middle and end, pixels; all 0 for an absent occluder.
        order: (N, P) indices of the parts from far to near.
        chest, head: (N, 3, 3) rotations; the columns point to the figure's left, down and back.
        visibility: (N, 14) uint8, 2 visible, 1 where a nearer part clearly covers the joint.
    """

    joints: Array
    start: Array
    end: Array
    radii: Array
    order: NDArray[np.intp]
    chest: Array
    head: Array
    visibility: NDArray[np.uint8]

    def shadow(self, index: int) -> Array:
        """Return (4,) centre x, y, half width and half height of a figure's shadow, in pixels."""
        points = self.joints[index, :, :2]
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        size = max(right - left, bottom - top)
        half_width = 0.4 * (right - left) + 0.06 * size
        return np.array([(left + right) / 2, bottom + 0.04 * size, half_width, 0.045 * size])


class _Dice:
    """Random columns of N numbers; figure i gets the same ones whatever N is."""

    def __init__(self, seed: int, count: int) -> None:
        self._seed, self._count, self._column = seed, count, 0

    def uniform(self, low: float, high: float, power: float = 1.0) -> Array:
        """Draw (N,) between low and high; a power above 1 leans towards low."""
        self._column += 1
        draw = np.random.default_rng([self._seed, self._column]).random(self._count)
        return low + (high - low) * draw**power

    def around(self, centre: float, spread: float) -> Array:
        """Draw (N,) peaked at the centre and never further from it than the spread."""
        return centre + self.uniform(-0.5, 0.5) * spread + self.uniform(-0.5, 0.5) * spread


def sample_figures(count: int, image_size_px: int, seed: int) -> Figures:
    """Draw people: body, pose, place in a square image, occluder; nothing is painted.

    Args:
        count: N; the first figures do not depend on it.
        image_size_px: side of the image.
        seed: first word of every random stream.
    """
    dice = _Dice(seed, count)
    points, chest, head = _pose(dice)
    build = dice.around(1.0, 0.22)
    start = np.stack([points[a] for a, _, _, _ in _SHAPES.values()], axis=1)
    end = np.stack([points[b] for _, b, _, _ in _SHAPES.values()], axis=1)
    radii = np.array([r for _, _, r, _ in _SHAPES.values()]) * build[:, None, None]
    torso = PARTS.index("torso")
    radii[:, torso] = _torso_radii(end[:, torso] - start[:, torso], chest) * build[:, None]
    joints = np.stack([points[name] for name in LSP14.keypoints], axis=1)

    scale, shift = _fit(dice, np.concatenate([start, end, joints], axis=1), image_size_px)
    start, end, joints = (p * scale[:, None, None] + shift[:, None] for p in (start, end, joints))
    radii = radii * scale[:, None, None]
    lift = np.array([lift for _, _, _, lift in _SHAPES.values()]) * scale[:, None]
    order = np.argsort(lift - (start + end)[..., 2] / 2, axis=1)
    occluder = _occluder(dice, joints, image_size_px)
    start, end, radii = (
        np.concatenate([a, b[:, None]], axis=1)
        for a, b in zip((start, end, radii), occluder, strict=True)
    )
    order = np.concatenate([order, np.full((count, 1), len(_SHAPES))], axis=1)
    visibility = np.where(_covered(joints, start, end, radii), 1, 2).astype(np.uint8)
    return Figures(joints, start, end, radii, order, chest, head, visibility)


def _pose(dice: _Dice) -> tuple[dict[str, Array], Array, Array]:
    """Draw poses; return named points (N, 3) of the body, and rotations of chest and head."""
    # Sports: about two people in five are more than 60 degrees from upright.
    tumbled = dice.uniform(0, 1) < 0.6
    roll = np.where(tumbled, dice.uniform(-180, 180), dice.around(0, 40))
    root = _turn(2, roll) @ _turn(0, dice.around(0, 35)) @ _turn(1, dice.uniform(-180, 180))
    spine = _turn(0, dice.uniform(-15, 45, 1.6)) @ _turn(2, dice.around(0, 25))
    chest = root @ spine @ _turn(1, dice.around(0, 35))
    nod = _turn(0, dice.around(-5, 40)) @ _turn(2, dice.around(0, 25))
    head = chest @ nod @ _turn(1, dice.around(0, 60))

    limb_length, torso_length = dice.around(1.0, 0.1), dice.around(1.0, 0.08)

    def walk(origin: Array, frame: Array, step: tuple[float, float, float], size: Array) -> Array:
        reach: Array = frame @ np.array(step)
        return origin + reach * size[:, None]

    centre = np.zeros((len(roll), 3))
    points = {
        "waist": walk(centre, chest, (0, -0.03, 0), torso_length),
        "chest": walk(centre, chest, (0, -0.255, 0), torso_length),
        "neck": walk(centre, chest, (0, -0.315, 0), torso_length),
    }
    for name, height in (("skull_base", 0.066), ("skull_top", 0.112), ("head_top", 0.179)):
        points[name] = walk(points["neck"], head, (0, -height, -0.012), torso_length)
    for side, out in (("left", 1), ("right", -1)):
        shoulder = walk(centre, chest, (0.112 * out, -0.272, 0), torso_length)
        arm = chest @ _turn(2, -out * dice.uniform(8, 160, 1.4)) @ _turn(0, dice.around(-25, 75))
        arm = arm @ _turn(1, out * dice.around(20, 60))
        elbow = walk(shoulder, arm, (0, 0.165, 0), limb_length)
        forearm = arm @ _turn(0, -dice.uniform(5, 130, 1.6))
        wrist = walk(elbow, forearm, (0, 0.145, 0), limb_length)
        fingers = walk(wrist, forearm @ _turn(2, dice.around(0, 30)), (0, 0.06, 0), limb_length)

        hip = walk(centre, root, (0.058 * out, 0.0, 0), torso_length)
        leg = root @ _turn(2, -out * dice.uniform(2, 50, 1.8))
        leg = leg @ _turn(0, -dice.uniform(-30, 105, 1.2)) @ _turn(1, -out * dice.around(10, 25))
        knee = walk(hip, leg, (0, 0.24, 0), limb_length)
        shin = leg @ _turn(0, dice.uniform(4, 120, 1.7))
        ankle = walk(knee, shin, (0, 0.235, 0), limb_length)
        foot = shin @ _turn(0, dice.uniform(-10, 45))
        heel = walk(ankle, foot, (0, 0.018, 0.012), limb_length)
        toes = walk(ankle, foot, (0, 0.024, -0.1), limb_length)
        joints = (shoulder, elbow, wrist, fingers, hip, knee, ankle, heel, toes)
        names = ["shoulder", "elbow", "wrist", "fingers", "hip", "knee", "ankle", "heel", "toes"]
        points |= {f"{side}_{name}": p for name, p in zip(names, joints, strict=True)}
    return points, chest, head


def _turn(axis: int, angle_deg: Array) -> Array:
    """Make rotations (N, 3, 3) by angles (N,) about x, y or z; +x turns down to back, +z x to y."""
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn = np.zeros((len(cos), 3, 3))
    turn[:, axis, axis] = 1.0
    turn[:, i, i] = turn[:, j, j] = cos
    turn[:, j, i], turn[:, i, j] = sin, -sin
    return turn


def _torso_radii(axis: Array, chest: Array) -> Array:
    """Compute half widths (N, 3) on screen of a torso of elliptical section, seen along z."""
    across = np.stack([-axis[:, 1], axis[:, 0]], axis=1)
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    seen = np.einsum("nd,ndk->nk", across, chest[:, :2, ::2])  # of its width and its thickness
    widths: Array = seen[:, None] * _TORSO_HALF
    return np.hypot(widths[..., 0], widths[..., 1])


def _fit(dice: _Dice, points: Array, size_px: int) -> tuple[Array, Array]:
    """Draw scale (N,) and shift (N, 3) that place people of varied size anywhere in the image."""
    low, high = points.min(axis=1), points.max(axis=1)
    extent = (high - low)[:, :2].max(axis=1)
    # A curled-up body fills less of the frame than a stretched one, yet is shown larger.
    scale = size_px * dice.uniform(0.68, 1 - 2 * MARGIN) / np.maximum(extent, 0.72)
    slack = size_px - 2 * MARGIN * size_px - (high - low) * scale[:, None]
    place = np.stack([dice.around(0.5, 0.5), dice.around(0.5, 0.5)], axis=1)
    shift = -low * scale[:, None]
    shift[:, :2] += MARGIN * size_px - 0.5 + place * slack[:, :2]
    return scale, shift


def _occluder(dice: _Dice, joints: Array, size_px: int) -> tuple[Array, Array, Array]:
    """Draw start, end and radii (N, 3) of a bar or ball before a joint; three in ten have one."""
    count = len(joints)
    target = joints[np.arange(count), dice.uniform(0, joints.shape[1]).astype(int)]
    bar = dice.uniform(0, 1) < 0.5
    half_length = np.where(bar, 1.5, dice.uniform(0.0, 0.04)) * size_px
    angle = np.radians(dice.around(90, 100))
    along = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1) * half_length[:, None]
    radius = np.where(bar, dice.uniform(0.018, 0.045), dice.uniform(0.05, 0.1)) * size_px
    radius *= dice.uniform(0, 1) < 0.3
    miss = np.stack([dice.around(0, 1), dice.around(0, 1), np.zeros(count)], axis=1)
    middle = target + miss * radius[:, None]
    middle[:, 2] = joints[..., 2].min(axis=1) - size_px  # in front of everything
    return middle - along, middle + along, np.repeat(radius[:, None], 3, axis=1)


def _covered(joints: Array, start: Array, end: Array, radii: Array) -> NDArray[np.bool_]:
    """Return a mask (N, 14) of joints well inside the outline of a part and behind all of it."""
    covered = np.zeros(joints.shape[:2], dtype=bool)
    for part in range(start.shape[1]):
        axis = (end - start)[:, None, part]
        offset = joints - start[:, None, part]
        along = (offset * axis)[..., :2].sum(-1) / ((axis**2)[..., :2].sum(-1) + 1e-9)
        along = along.clip(0, 1)
        offset -= along[..., None] * axis
        first, middle, last = np.moveaxis(radii[:, None, part], -1, 0)
        radius = _profile(along, first, middle, last)
        inside = np.hypot(offset[..., 0], offset[..., 1]) < 0.75 * radius
        covered |= inside & (offset[..., 2] > radius)
    return covered


def _profile(along: Array, first: Array, middle: Array, last: Array) -> Array:
    """Compute the radius at a fraction of the axis: the parabola through the three radii."""
    bend = 2 * (first + last - 2 * middle)
    return first + along * (last - first + (along - 1) * bend)
