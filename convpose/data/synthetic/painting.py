"""Painter of people: body parts as lit, smooth-edged solids, with clothes and a face.

The kit tells left from right in every picture, warm against cool, and arms from legs: the figure's
left sleeve and wristband are red and its left trouser leg, sock and shoe amber; the right arm is
teal, the right leg blue to violet. The flanks of the shirt match the sleeves. Shades vary from
person to person. A mirrored picture would contradict the cue.
"""

import colorsys
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convpose.data.synthetic.figure import PARTS, Figures

f32 = np.float32  # scalars in single precision keep the arrays in single precision
Canvas = NDArray[np.float32]  # (3, H, W) RGB planes, 0 to 255, or one plane (H, W)
Colour = NDArray[np.float32]  # (3,)

# hues of the kit, in degrees: the arm and the leg of either side
_HUES_DEG = {"left": ((-12, 12), (32, 50)), "right": ((172, 202), (222, 264))}
_SKIN = ("ffdfc4", "f0c8a0", "e0ac7e", "c68a5c", "a1683f", "7b4a2b", "563420")
_HAIR = ("17130f", "2f2018", "55331c", "8a5a2c", "c9a15a", "b0492a", "8f8f92")
_SHIRT = ("f4f1ea", "d9dde2", "39414d", "23304a", "2f5d46", "6b4a6e", "e8dcb5", "5f6b73")


def colour(code: str) -> Colour:
    """Convert a hexadecimal colour code to RGB (3,)."""
    return np.frombuffer(bytes.fromhex(code), np.uint8).astype(np.float32)


def mix(first: Canvas | Colour, second: Colour, share: Canvas) -> Canvas:
    """Blend two colours; `share` (h, w) is that of the second. Return planes (3, h, w)."""
    start = first if first.ndim == 3 else first[:, None, None]
    return start + share * (second[:, None, None] - start)


@dataclass(frozen=True, slots=True, eq=False)
class Outfit:
    """Colours of one person.

    Attributes:
        parts: by name of the part: its colour; a second or None; the share of the length at which
            the second begins.
        flanks: colours of the shirt's left and right side.
        hair: colour; the head's own is skin.
        fringe: depth to which the hair grows.
    """

    parts: dict[str, tuple[Colour, Colour | None, float]]
    flanks: tuple[Colour, Colour]
    hair: Colour
    fringe: float


class _Surface(NamedTuple):
    """Visible side of one solid over its patch of the canvas, planes (h, w).

    Attributes:
        rows, columns: the patch.
        along: fraction of the axis.
        x, y, depth: unit normal in camera coordinates; depth is 0 at the outline, −1 at the viewer.
        cover: share of the pixel that the solid covers.
        shade: share of the light that the solid leaves to the background.
    """

    rows: slice
    columns: slice
    along: Canvas
    x: Canvas
    y: Canvas
    depth: Canvas
    cover: Canvas
    shade: Canvas


def dress(rng: np.random.Generator) -> Outfit:
    """Draw a random kit that follows the rule of the module: left warm, right cool."""
    skin, hair, shirt = (colour(rng.choice(codes)) for codes in (_SKIN, _HAIR, _SHIRT))
    kit = {side: [_strong(rng, hue) for hue in hues] for side, hues in _HUES_DEG.items()}
    long_sleeves, trousers = rng.random(2) < 0.5
    shoe = f32(rng.uniform(0.45, 1.0))
    parts: dict[str, tuple[Colour, Colour | None, float]] = {
        "torso": (shirt, None, 0),
        "pelvis": (shirt * f32(0.55), None, 0),
        "neck": (skin, None, 0),
        "head": (skin, None, 0),
        "occluder": ((rng.uniform(60, 190) + rng.uniform(-25, 25, 3)).astype(np.float32), None, 0),
    }
    for side, (arm, leg) in kit.items():
        limbs: dict[str, tuple[Colour, Colour | None, float]] = {
            "upper_arm": (arm, None, 0) if long_sleeves else (arm, skin, 0.62),
            "forearm": (arm, None, 0) if long_sleeves else (skin, arm, 0.6),
            "hand": (skin, None, 0),
            "thigh": (leg, None, 0) if trousers else (leg, skin, 0.66),
            "shin": (leg, None, 0) if trousers else (skin, leg, 0.3),
            "foot": (leg * shoe, None, 0),
        }
        parts |= {f"{side}_{limb}": look for limb, look in limbs.items()}
    fringe = float(rng.uniform(0.55, 1.15))
    return Outfit(parts, (kit["left"][0], kit["right"][0]), hair, fringe)


def _strong(rng: np.random.Generator, hue_deg: tuple[int, int]) -> Colour:
    """Draw a saturated colour with its hue in a range."""
    low, high = hue_deg
    h, s, v = rng.uniform((low / 360, 0.68, 0.78), (high / 360, 0.9, 0.98))
    return f32(255) * np.array(colorsys.hsv_to_rgb(h % 1, s, v), np.float32)


def paint_figure(
    canvas: Canvas, figures: Figures, index: int, outfit: Outfit, light: Colour
) -> None:
    """Paint one figure and its occluder onto a canvas (3, S, S) in place, far parts first.

    Args:
        canvas: the background.
        figures: all figures.
        index: of the figure.
        outfit: its colours.
        light: (3,) from the figure to the lamp in camera coordinates; its length is the strength.
    """
    for part in figures.order[index].tolist():
        name = PARTS[part]
        start, end, radii = (
            a[index, part].tolist() for a in (figures.start, figures.end, figures.radii)
        )
        surface = _solid(canvas.shape[1], start, end, radii, flat=2.4 if name == "torso" else 1.0)
        if surface is None:
            continue
        first, second, border = outfit.parts[name]
        albedo = first[:, None, None]
        if name == "torso":
            albedo = _shirt(surface, figures.chest[index], first, outfit.flanks)
        elif name == "head":
            length = float(np.linalg.norm(np.subtract(end, start)))
            albedo = _face(surface, figures.head[index], length, radii[1], outfit)
        elif second is not None:
            length = float(np.hypot(end[0] - start[0], end[1] - start[1])) + 1
            albedo = mix(first, second, ((surface.along - f32(border)) * f32(length)).clip(0, 1))
        _lay(canvas, surface, albedo, light)


def _solid(
    size: int, start: list[float], end: list[float], radii: list[float], flat: float
) -> _Surface | None:
    """Make the surface of a capsule with a parabolic profile; None if it is off the canvas.

    The ends are half-spheres, or flatter by a factor.
    """
    (ax, ay, _), (bx, by, _), (first, middle, last) = start, end, radii
    reach = 1.3 * max(radii) + 1
    left, right = max(int(min(ax, bx) - reach), 0), min(int(max(ax, bx) + reach) + 2, size)
    top, bottom = max(int(min(ay, by) - reach), 0), min(int(max(ay, by) + reach) + 2, size)
    if middle <= 0 or left >= right or top >= bottom:
        return None
    dx, dy = bx - ax, by - ay
    square = dx * dx + dy * dy + 1e-6
    x = np.arange(left, right, dtype=np.float32) - f32(ax)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - f32(ay)
    beyond = x * f32(dx / square) + y * f32(dy / square)
    along = np.minimum(np.maximum(beyond, f32(0)), f32(1))
    radius = along * f32(2 * (first + last - 2 * middle)) + f32(4 * middle - 3 * first - last)
    radius *= along
    radius += f32(first)
    nearest = along if flat == 1.0 else along + (along - beyond) * f32(flat - 1)
    x = (x - nearest * f32(dx)) / radius
    y = (y - nearest * f32(dy)) / radius
    outward = x * x
    outward += y * y
    depth = -np.sqrt(np.maximum(f32(1) - outward, f32(0)))
    inward = f32(1) - np.sqrt(outward)
    cover = inward * radius + f32(0.5)
    cover = np.minimum(np.maximum(cover, f32(0)), f32(1))
    # A soft shadow beside the part, none at its ends where it meets the next one.
    shade = np.minimum(np.maximum(inward, f32(-0.3)), f32(0)) + f32(0.3)
    shade *= along * (along - f32(1))
    shade *= f32(min(5, 1.6 * math.sqrt(square) / middle))
    shade += f32(1)
    return _Surface(slice(top, bottom), slice(left, right), along, x, y, depth, cover, shade)


def _lay(canvas: Canvas, surface: _Surface, albedo: Canvas, light: Colour) -> None:
    """Light a surface and lay it over the canvas."""
    lit = surface.x * light[0]
    lit += surface.y * light[1]
    lit += surface.depth * light[2]
    np.maximum(lit, f32(-0.12), out=lit)
    lit += f32(0.56)
    patch = canvas[:, surface.rows, surface.columns]
    patch *= surface.shade
    over = lit * albedo
    over -= patch
    over *= surface.cover
    patch += over


def _body_frame(surface: _Surface, frame: NDArray[np.float64]) -> tuple[Canvas, Canvas, Canvas]:
    """Turn the normal into the body's frame: towards its left, down and back."""
    (lx, dx, bx), (ly, dy, by), (lz, dz, bz) = frame.astype(np.float32)
    x, y, z = surface.x, surface.y, surface.depth
    return lx * x + ly * y + lz * z, dx * x + dy * y + dz * z, bx * x + by * y + bz * z


def _shirt(
    surface: _Surface, chest: NDArray[np.float64], shirt: Colour, flanks: tuple[Colour, Colour]
) -> Canvas:
    """Colour a plain shirt with a panel in the colour of its side on either flank."""
    left, _, _ = _body_frame(surface, chest)
    albedo: Canvas = shirt[:, None, None]
    for side, panel in zip((f32(8), f32(-8)), flanks, strict=True):
        albedo = mix(albedo, panel, (side * left - f32(5)).clip(0, 1))
    return albedo


def _face(
    surface: _Surface, head: NDArray[np.float64], length: float, radius: float, outfit: Outfit
) -> Canvas:
    """Colour skin with eyes and mouth in front, hair above and behind."""
    left, down, back = _body_frame(surface, head)
    down = down - (surface.along - f32(0.5)) * f32(length / radius)
    front = (back < 0) * f32(radius)
    eyes = f32(0.13) - np.hypot(np.abs(left) - f32(0.36), down - f32(0.02))
    mouth = f32(0.09) - np.hypot(f32(0.4) * left, down - f32(0.62))
    features = (np.maximum(eyes, mouth) * front).clip(0, 1)
    hair = ((back - down + f32(outfit.fringe - 0.95)) * 6).clip(0, 1)
    skin, _, _ = outfit.parts["head"]
    return mix(mix(skin, skin * f32(0.25), features), outfit.hair, hair)
