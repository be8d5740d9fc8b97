"""Read the boxes that a visitor draws: two clicks on opposite corners, or typed numbers."""

import re
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from convpose.errors import DataError
from convpose.geometry import Image, invert, transform
from convpose.plot.skeletons import COLOURED
from convpose.predict.images import Picture

MOST = 50  # boxes of a picture
INK = (255, 255, 255), (31, 131, 214)


def add_corner(text: str, place: Any) -> str:
    """Add a clicked place to the boxes as they are shown: a box a line, ``x0, y0, x1, y1``."""
    try:
        x, y = (round(float(value)) for value in place)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError("not a place in the picture: click into it") from error
    return f"{text}{', ' if waits(text) else chr(10)}{x}, {y}".strip()


def waits(text: str) -> bool:
    """Tell if the last box waits for its second corner."""
    return len(_numbers(text.rpartition("\n")[2])) == 2


def boxes_of(text: str, picture: Picture) -> NDArray[np.float64] | None:
    """Read the boxes of a picture (N, 4) in its pixels; None where there are none.

    Raises:
        DataError: a line without four numbers, a box without an area in the picture, or too many.
    """
    lines = [numbers for line in text.splitlines() if (numbers := _numbers(line))]
    if not lines:
        return None
    if len(lines) > MOST:
        raise DataError(f"{len(lines)} boxes: at most {MOST}")
    for numbers in lines:
        if len(numbers) == 2:
            raise DataError("a box has one corner: click the opposite one, or remove the boxes")
        if len(numbers) != 4:
            raise DataError("a box is four numbers, x0, y0, x1, y1: click two opposite corners")
    corners = np.array(lines).reshape(-1, 2, 2).clip(0, picture.size_px) - 0.5
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    if (boxes[:, 2:] - boxes[:, :2] < 2).any():
        raise DataError("a box without an area: click two opposite corners, inside the picture")
    return boxes


def draw_boxes(text: str, picture: Picture) -> Image:
    """Draw the boxes, and a corner that waits for its opposite, on the picture."""
    canvas = picture.image.copy()
    width = max(2, round(0.5 * COLOURED.width_px(canvas)))
    from_px = invert(picture.to_px)
    for line in text.splitlines()[: MOST + 1]:
        corners = np.array(_numbers(line)[:4]).clip(0, picture.size_px[0] + picture.size_px[1])
        ends = np.rint(transform(from_px, corners[: len(corners) // 2 * 2].reshape(-1, 2)))
        places = [(int(x), int(y)) for x, y in ends]
        for colour, more in zip(INK, (width, 0), strict=True):
            if len(places) == 2:
                cv2.rectangle(canvas, places[0], places[1], colour, width + more)
            elif places:
                cross = cv2.MARKER_CROSS
                cv2.drawMarker(canvas, places[0], colour, cross, 12 * width, width + more)
    return canvas


def _numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d{1,9}(?:\.\d*)?", line)]
