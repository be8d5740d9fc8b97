"""VideoFile: frames as H.264 in an MP4, which phones and browsers play."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from convpose.geometry import Image
from convpose.inference.output import finish, partial

TICKS = Fraction(1, 90_000)  # frames keep their own times, also where the rate varies


class VideoFile:
    """A clip that grows; sound is not kept.

    Args:
        path: of the ``.mp4``.
        width_px: of the first frame; an odd column is lost, H.264 knows even sizes only.
        height_px: likewise.
    """

    def __init__(self, path: Path, width_px: int, height_px: int) -> None:
        self.path = path
        self._size = max(2, width_px - width_px % 2), max(2, height_px - height_px % 2)
        self._container: Any = av.open(partial(path), "w", format="mp4")
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
        self._last = max(self._last + 1, round(time_s / TICKS))  # times only go forward
        frame.pts, frame.time_base = self._last, TICKS
        self._container.mux(self._stream.encode(frame))

    def close(self, complete: bool = True) -> None:
        """End the clip; it is removed where it is not complete."""
        self._container.mux(self._stream.encode())
        self._container.close()
        finish(self.path, complete)
