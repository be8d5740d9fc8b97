"""Draw people on pictures, in clips and in a window."""

import colorsys
import io
import math
import os
from collections.abc import Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from convpose.errors import ConfigError
from convpose.files import LONGEST, finish, partial, replacing
from convpose.geometry import Image, invert, transform
from convpose.plot.skeletons import COLOURED, WHITE, Colour, Style, draw_pose
from convpose.predict.people import Person
from convpose.predict.sources import Frame, base_name
from convpose.skeleton import Skeleton

FONT = cv2.FONT_HERSHEY_DUPLEX
GOLDEN = 0.618034  # a step around the colour circle: neighbouring numbers differ clearly


def draw_people(frame: Frame, people: Sequence[Person], skeleton: Skeleton) -> Image:
    """Draw the people of a frame; (H, W, 3) uint8 RGB in the size in which it was decoded.

    A single person gets the colours of left and right. Several people, and those with a number, get
    one colour each, lighter on the left, and their box.
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
    for box in boxes:  # over the limbs, so that the numbers can be read
        draw_box(canvas, *box)
    return canvas if people else canvas.copy()


def person_style(number: int, size: float = 1.0) -> Style:
    """Choose the style of one of several people.

    Args:
        number: of the person, from 1.
        size: of the person over that of the image.
    """
    hue = (0.43 + number * GOLDEN) % 1.0

    def tone(saturation: float, value: float) -> Colour:
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        return round(red * 255), round(green * 255), round(blue * 255)

    width = 0.022 * min(max(size, 0.1), 0.6)
    return Style(tone(0.35, 1.0), tone(1.0, 0.7), tone(0.8, 0.95), width=width)


def draw_box(canvas: Image, corners_px: NDArray[np.float64], style: Style, label: str) -> None:
    """Draw a thin box with a label in its upper left corner.

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


TICKS = Fraction(1, 90_000)  # seconds; so fine that frames keep their times at any rate


class VideoFile:
    """Write a clip frame by frame; sound is not kept.

    Args:
        path: the ``.mp4`` file.
        width_px: width of the first frame; an odd column is cut off, as H.264 wants even sizes.
        height_px: height, likewise.
    """

    def __init__(self, path: Path, width_px: int, height_px: int) -> None:
        self.path = path
        self._size = max(2, width_px - width_px % 2), max(2, height_px - height_px % 2)
        self._file = partial(path).open("wb")
        self._container: Any = av.open(self._file, "w", format="mp4")
        self._stream: Any = self._container.add_stream("libx264", rate=30)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = TICKS
        self._stream.options = {"preset": "veryfast", "crf": "20"}
        self._last = -1

    def write(self, image: Image, time_s: float) -> None:
        """Add a frame, (H, W, 3) uint8 RGB, at its time since the beginning."""
        width, height = self._size
        even = np.zeros((height, width, 3), np.uint8)  # black where a later frame is smaller
        part = image[:height, :width]
        even[: part.shape[0], : part.shape[1]] = part
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        self._last = max(self._last + 1, round(time_s / TICKS))  # H.264 wants increasing times
        frame.pts, frame.time_base = self._last, TICKS
        self._container.mux(self._stream.encode(frame))

    def close(self, complete: bool = True) -> None:
        """End the clip; it is removed where it is not complete, or the disk is full."""
        written = False
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._file.close()
            written = True
        finally:
            finish(self.path, complete and written)


STILL_S = 1.5  # for so long a still picture is shown


class ScreenWindow:
    """Show one image after the other in a window.

    Raises:
        ConfigError: there is no display, or no toolkit for windows.
    """

    def __init__(self) -> None:
        import matplotlib.pyplot as plt  # for show=true alone, and slow to import
        from matplotlib import backends

        known: Any = backends
        interactive = known.backend_registry.list_builtin(known.BackendFilter.INTERACTIVE)
        if plt.get_backend().lower() not in interactive:
            raise ConfigError(
                "show=true: no window can be opened here, there is no display or no toolkit "
                "(install python3-tk, or pip install pyqt6); leave show out, the drawings are "
                "written to output=FOLDER"
            )
        self._plt: Any = plt
        self._figure: Any = plt.figure("convpose", facecolor="black")
        self._shown: Any = None

    def show(self, image: Image, still: bool) -> bool:
        """Show an image, a still for `STILL_S`; False once the user has closed the window."""
        if not self._plt.fignum_exists(self._figure.number):
            return False
        if self._shown is None or self._shown.get_array().shape != image.shape:
            self._figure.clear()
            axes = self._figure.add_axes((0, 0, 1, 1))
            axes.axis("off")
            self._shown = axes.imshow(image)
        else:
            self._shown.set_data(image)
        self._plt.pause(STILL_S if still else 0.001)
        return bool(self._plt.fignum_exists(self._figure.number))

    def close(self) -> None:
        """Close the window."""
        self._plt.close(self._figure)


FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}  # others become PNG


class Drawings:
    """Write drawings into a folder: a picture for each still, an MP4 for each clip.

    Files of an earlier call are replaced; inputs of one call that share a name get a number.

    Args:
        folder: where to write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: set[str] = set()
        self._clip: tuple[str, VideoFile] | None = None

    def write(self, frame: Frame, image: Image) -> None:
        """Write the drawing of a frame, (H, W, 3) uint8 RGB."""
        if self._clip is not None and self._clip[0] != frame.name:
            self.close()
        if frame.time_s is None:
            suffix = Path(base_name(frame.name)).suffix.lower()
            path = self._path(frame.name, suffix if suffix in FORMATS else ".png")
            content = io.BytesIO()  # into a file, Pillow takes a write that was cut off for whole
            PillowImage.fromarray(image).save(content, FORMATS[path.suffix], quality=92)
            with replacing(path) as file:
                file.write(content.getbuffer())
            return
        if self._clip is None:
            height, width = image.shape[:2]
            self._clip = frame.name, VideoFile(self._path(frame.name, ".mp4"), width, height)
        self._clip[1].write(image, frame.time_s)

    def close(self, complete: bool = True) -> None:
        """End the clip that is being written; it is removed if it is not complete."""
        if self._clip is not None:
            self._clip[1].close(complete)
            self._clip = None

    def _path(self, name: str, suffix: str) -> Path:
        room = LONGEST - len("_pose_999999.mp4.part")
        stem = Path(base_name(name)).stem.encode()[:room].decode(errors="ignore") + "_pose"
        names = (f"{stem}{'' if n == 1 else f'_{n}'}{suffix}" for n in count(1))
        file = next(name for name in names if name not in self._taken)
        self._taken.add(file)
        return self.folder / os.fsdecode(file.encode())  # a locale may not have the letters
