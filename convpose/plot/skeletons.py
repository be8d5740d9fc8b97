"""Draw skeletons on images, and lay images out as a contact sheet.

The person's left is orange, the right is blue, torso and head are grey; every stroke has a
dark rim, so that it is visible on any photograph. Ground truth is a thin dashed white line over a
prediction. Images are (H, W, 3) uint8 RGB and are never drawn on in place; points are in their
pixels, pixel centres at integers. Keypoints that are NaN or unlabelled are not drawn, occluded
ones are rings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from convpose.geometry import Image
from convpose.skeleton import TORSO, Skeleton

Colour = tuple[int, int, int]
Points = NDArray[np.floating]

SUBPIXEL_BITS = 4  # OpenCV draws at sixteenths of a pixel
FAR_PX = 1e5  # a diverged prediction must not overflow OpenCV's fixed point


@dataclass(frozen=True, slots=True)
class Style:
    """Colours (RGB) and sizes of a drawing.

    Attributes:
        left, right: the person's sides.
        neutral: torso, neck and head.
        rim: the dark edge of every stroke.
        width: limb width as a fraction of the square root of the image's area.
        joint: radius of a keypoint in limb widths.
        dashed: whether limbs are dashed.
    """

    left: Colour = (255, 138, 31)
    right: Colour = (38, 158, 255)
    neutral: Colour = (172, 178, 188)
    rim: Colour = (24, 26, 32)
    width: float = 0.014
    joint: float = 1.15
    dashed: bool = False

    def width_px(self, image: Image) -> float:
        """Return the width of a limb on an image, at least 1.5 px."""
        return max(1.5, self.width * math.sqrt(image.shape[0] * image.shape[1]))

    def colour(self, skeleton: Skeleton, *names: str) -> Colour:
        """Return the colour of the side that all names share; neutral for none and the torso.

        Keypoints may have colours of their own, limbs have that of the second keypoint; not where a
        style has one colour for everything.
        """
        if self.left != self.right and names[-1] in skeleton.colours:
            red, green, blue = bytes.fromhex(skeleton.colours[names[-1]].removeprefix("#"))
            return red, green, blue
        torso = {name for pair in TORSO for name in pair}
        sides = {skeleton.side(name) for name in names}
        if len(sides) > 1 or (len(names) > 1 and set(names) <= torso):
            return self.neutral
        return {"left": self.left, "right": self.right}.get(str(sides.pop()), self.neutral)


COLOURED = Style()
WHITE = (255, 255, 255)
GROUND_TRUTH = Style(WHITE, WHITE, WHITE, width=0.0055, joint=2.0, dashed=True)


def draw_pose(
    image: Image,
    keypoints_px: Points,
    skeleton: Skeleton,
    visibility: NDArray[np.integer] | None = None,
    scores: Points | None = None,
    style: Style = COLOURED,
) -> Image:
    """Draw one skeleton on a copy of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        keypoints_px: (K, 2) in pixels of `image`.
        skeleton: limbs and sides.
        visibility: (K,) of 0 not drawn, 1 ring, 2 disc; all 2 if None.
        scores: (K,) in [0, 1]; a keypoint is as opaque as its score (at least a fifth), a limb as
            the lower of its two.
        style: colours and widths.

    Returns:
        (H, W, 3) uint8.
    """
    labelled = np.full(len(keypoints_px), 2) if visibility is None else visibility
    shown = (labelled > 0) & np.isfinite(keypoints_px).all(axis=-1)
    points = np.clip(np.where(shown[:, None], keypoints_px, 0.0), -FAR_PX, FAR_PX)
    opacity = np.ones(len(points)) if scores is None else np.clip(scores, 0.2, 1.0)
    width = style.width_px(image)
    canvas = image.copy()
    margin = width * (style.joint + 2) + 2  # of the widest stroke with its rim
    for name_a, name_b in skeleton.limbs:
        a, b = skeleton.index(name_a), skeleton.index(name_b)
        if shown[a] and shown[b]:
            colour = style.colour(skeleton, name_a, name_b)
            view, offset = _view(canvas, points[[a, b]], margin)
            layer = view.copy()
            _limb(layer, points[a] - offset, points[b] - offset, colour, style, width)
            view[:] = _blend(layer, view, min(opacity[a], opacity[b]))
    for i, name in enumerate(skeleton.keypoints):
        if shown[i]:
            colour = style.colour(skeleton, name)
            view, offset = _view(canvas, points[[i]], margin)
            layer = view.copy()
            _joint(layer, points[i] - offset, colour, style, width, hollow=labelled[i] == 1)
            view[:] = _blend(layer, view, opacity[i])
    return canvas


def draw_truth_and_prediction(
    image: Image,
    predicted_px: Points,
    keypoints_px: Points,
    skeleton: Skeleton,
    visibility: NDArray[np.integer] | None = None,
) -> Image:
    """Draw the prediction in colour and the ground truth over it, thin, white and dashed.

    Args:
        image: (H, W, 3) uint8 RGB.
        predicted_px: (K, 2) in pixels of `image`.
        keypoints_px: (K, 2) ground truth, NaN where unlabelled.
        skeleton: limbs and sides.
        visibility: (K,) of the ground truth, see `draw_pose`.

    Returns:
        (H, W, 3) uint8.
    """
    canvas = draw_pose(image, predicted_px, skeleton)
    return draw_pose(canvas, keypoints_px, skeleton, visibility, style=GROUND_TRUTH)


def enlarge(image: Image, keypoints_px: Points, side_px: int = 384) -> tuple[Image, Points]:
    """Scale an image up to `side_px` on its longer side, and points with it; never down.

    Draw on the enlarged image, so that strokes stay smooth.
    """
    scale = max(1.0, side_px / max(image.shape[:2]))
    height, width = round(image.shape[0] * scale), round(image.shape[1] * scale)
    sized = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    ratio = np.array([width / image.shape[1], height / image.shape[0]])
    return np.asarray(sized, dtype=np.uint8), (keypoints_px + 0.5) * ratio - 0.5


def grid(
    images: Sequence[Image],
    columns: int,
    titles: Sequence[str] | None = None,
    letters: float = 0.052,
) -> Image:
    """Lay images out in rows as a contact sheet, centred in equal cells, captions below.

    Args:
        images: (H, W, 3) uint8 each, of any size.
        columns: images per row.
        titles: one caption per image; what does not fit is cut with an ellipsis.
        letters: their height as a fraction of an image's width.

    Raises:
        ValueError: no image, or another number of titles.
    """
    if not images or (titles is not None and len(titles) != len(images)):
        raise ValueError(f"{len(images)} images, {len(titles or [])} titles")
    columns = min(columns, len(images))
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    font_px = max(11, round(letters * width))
    gap, caption = max(4, width // 32), 0 if titles is None else round(1.7 * font_px)
    rows = math.ceil(len(images) / columns)
    size = (gap + columns * (width + gap), gap + rows * (height + caption + gap))
    sheet = PillowImage.new("RGB", size, (250, 250, 248))
    font, ink = ImageFont.load_default(font_px), ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        left = gap + (i % columns) * (width + gap)
        top = gap + (i // columns) * (height + caption + gap)
        offset = ((width - image.shape[1]) // 2, (height - image.shape[0]) // 2)
        sheet.paste((230, 230, 227), (left, top, left + width, top + height))
        sheet.paste(PillowImage.fromarray(image), (left + offset[0], top + offset[1]))
        if titles is not None:
            text = titles[i]
            while font.getlength(text) > width and len(text) > 1:
                text = text.removesuffix("…")[:-1] + "…"
            ink.text((left + width / 2, top + height + caption / 2), text, (60, 62, 68), font, "mm")
    return np.asarray(sheet, dtype=np.uint8)


def _view(canvas: Image, points: Points, margin: float) -> tuple[Image, Points]:
    """Cut out the view of a canvas around points, and its corner; blending a view is quicker."""
    size = np.array(canvas.shape[1::-1])
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + margin), low + 1, size).astype(int)
    return canvas[low[1] : high[1], low[0] : high[0]], low.astype(np.float64)


def _fixed(point: Points) -> tuple[int, int]:
    x, y = np.rint(point * 2**SUBPIXEL_BITS).astype(int)
    return int(x), int(y)


def _blend(layer: Image, canvas: Image, opacity: float) -> Image:
    if opacity >= 1.0:
        return layer
    return np.asarray(cv2.addWeighted(layer, opacity, canvas, 1.0 - opacity, 0.0), dtype=np.uint8)


def _limb(canvas: Image, a: Points, b: Points, colour: Colour, style: Style, width: float) -> None:
    dashes = [(a, b)]
    if style.dashed:
        count = min(max(1, round(float(np.linalg.norm(b - a)) / (9 * width))), 200)
        steps = (np.arange(count)[:, None] + [0.0, 0.62]) / (count - 0.38)  # ends with a dash
        dashes = [(a + (b - a) * start, a + (b - a) * stop) for start, stop in steps]
    rim = max(1.0, 0.3 * width)
    for paint, thickness in ((style.rim, width + 2 * rim), (colour, width)):
        for start, stop in dashes:
            ends = _fixed(start), _fixed(stop)
            cv2.line(canvas, *ends, paint, round(thickness), cv2.LINE_AA, SUBPIXEL_BITS)


def _joint(
    canvas: Image, point: Points, colour: Colour, style: Style, width: float, *, hollow: bool
) -> None:
    centre, radius, rim = _fixed(point), style.joint * width, max(1.0, 0.3 * width)
    filled = (style.rim, radius + rim), (colour, radius), (style.rim, 0.62 * radius)
    for paint, size in filled if hollow else filled[:2]:
        sixteenths = round(size * 2**SUBPIXEL_BITS)
        cv2.circle(canvas, centre, sixteenths, paint, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)
