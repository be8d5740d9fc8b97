"""People drawn on a frame: one in the colours of left and right, several in a colour each."""

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from convpose.geometry import Image, invert, transform
from convpose.inference.people import Person
from convpose.inference.sources import Frame
from convpose.report.draw import COLOURED, WHITE, Colour, Style, draw_pose
from convpose.skeleton import Skeleton

FONT = cv2.FONT_HERSHEY_DUPLEX
GOLDEN = 0.618034  # steps around the colour circle by it come near an earlier one late


def draw_people(frame: Frame, people: Sequence[Person], skeleton: Skeleton) -> Image:
    """The frame with its people, (H, W, 3) uint8 RGB in the size in which it was decoded.

    One person alone has the colours of left and right. Several, and those with a number, have a
    colour each, with left lighter than right, and their box.
    """
    from_px = invert(frame.picture.to_px)
    canvas = frame.picture.image
    alone = len(people) == 1 and (people[0].box_px is None or people[0].track is None)
    boxes = []
    for position, person in enumerate(people, 1):
        corners = transform(from_px, person.extent_px.reshape(2, 2))
        size_px = float((corners[1] - corners[0]).max())
        number = position if person.track is None else person.track
        style = (
            COLOURED if alone else person_style(number, size_px / math.sqrt(canvas[..., 0].size))
        )
        keypoints = transform(from_px, person.keypoints_px.astype(np.float64))
        canvas = draw_pose(canvas, keypoints, skeleton, scores=person.scores, style=style)
        if person.box_px is not None and not alone:
            boxes.append((corners, style, "" if person.track is None else str(number)))
    for box in boxes:  # over the limbs, so that numbers can be read
        draw_box(canvas, *box)
    return canvas if people else canvas.copy()


def person_style(number: int, size: float = 1.0) -> Style:
    """The style of the n-th of several people, whose size is a share of the image's."""
    hue = (0.43 + number * GOLDEN) % 1.0

    def tone(saturation: float, value: float) -> Colour:
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        return round(red * 255), round(green * 255), round(blue * 255)

    width = 0.022 * min(max(size, 0.1), 0.6)
    return Style(tone(0.35, 1.0), tone(1.0, 0.7), tone(0.8, 0.95), width=width)


def draw_box(canvas: Image, corners_px: NDArray[np.float64], style: Style, label: str) -> None:
    """Draw a thin box with a label in its upper left corner onto a canvas.

    Args:
        canvas: (H, W, 3) uint8 RGB, drawn on in place.
        corners_px: (2, 2) in its pixels.
        style: its neutral colour is taken.
        label: short, in ASCII; empty for none.
    """
    width_px = COLOURED.width_px(canvas)
    thin = max(1, round(0.18 * width_px))
    start, end = (tuple(map(int, np.rint(corner))) for corner in corners_px.clip(-1e5, 1e5))
    cv2.rectangle(canvas, start, end, style.neutral, thin)
    if not label:
        return
    size = max(0.4, 0.08 * width_px)
    (width, height), _ = cv2.getTextSize(label, FONT, size, thin)
    left, top, margin = max(start[0], 0), max(start[1], 0), 2 + thin
    foot = left + margin, top + margin + height
    corner = left + width + 2 * margin, top + height + 2 * margin
    cv2.rectangle(canvas, (left, top), corner, style.right, cv2.FILLED)
    cv2.putText(canvas, label, foot, FONT, size, WHITE, thin, cv2.LINE_AA)
