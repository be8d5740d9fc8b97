"""Decode clips: frames as players show them, one by one, or one clear error."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

from convpose.errors import DataError
from convpose.geometry import Image
from convpose.predict.images import USUAL, Limits, Picture

STREAMS = "rtsp,rtp,sdp,hls,mpjpeg"
PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto,udp,rtp,rtmp,rtmps,srt"
STREAM_TIMEOUT_S = 20
# others, such as playlists, open files
CONTAINERS = "mov,avi,matroska,mpeg,mpegts,mpegvideo,asf,flv,ogg"
MOST_LACKING = 0.95  # of a clip's seconds; its header is rounded
MOST_STRETCH = 10.0  # of pixels that are not square; DV has 1.46, and nonsense nobody stretches


@contextmanager
def open_clip(file: Path | IO[bytes] | str, name: str, limits: Limits) -> Iterator[tuple[Any, Any]]:
    """Open a clip or URL: its container of `CONTAINERS`, and its first video, not decoded yet.

    Decoding a frame that is larger than the header says raises an error of FFmpeg.

    Raises:
        DataError: over a limit, or without a video.
        FFmpegError: not a clip.
    """
    if isinstance(file, Path):
        limits.check_size(name, file.stat().st_size)
    pixels = str(round(limits.megapixels * 1e6))
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_pixels": pixels}
    if isinstance(file, str):  # which may not lead to a file of this machine
        options |= {"format_whitelist": f"{CONTAINERS},{STREAMS}", "protocol_whitelist": PROTOCOLS}
        options |= {"rtsp_transport": "tcp"} if file.startswith("rtsp") else {}
    # by its protocol, because a name such as a:b.mp4 would be taken for another one
    target = f"file:{file}" if isinstance(file, Path) else file
    timeout = STREAM_TIMEOUT_S if isinstance(file, str) else None
    with av.open(
        target, "r", options=options, timeout=timeout, metadata_errors="replace"
    ) as container:
        if not container.streams.video:
            raise DataError(f"{name}: holds no video; expected a clip such as .mp4")
        stream = container.streams.video[0]
        decoder = stream.codec_context
        if decoder is None or not decoder.width:  # a frame over the limit is not even measured
            unfit = f"its frames have no size, or more than the {limits.megapixels:g} megapixels of"
            reason = "an unknown codec" if decoder is None else f"{unfit} max_megapixels"
            raise DataError(
                f"{name}: not a video that can be read: {reason}; get it again or save it as .mp4"
            )
        limits.check_pixels(name, decoder.width, decoder.height)
        limits.check_seconds(name, (container.duration or 0) / av.time_base)
        decoder.options = {"max_pixels": pixels}
        yield container, stream


def decode_clip(
    file: Path | io.BytesIO | str, name: str, limits: Limits = USUAL
) -> Iterator[tuple[Picture, float]]:
    """Decode the frames of a clip or of a stream's URL with their times since its beginning (s).

    Frames are turned and mirrored as the clip's display matrix says, and stretched to their shown
    shape where its pixels are not square. Coordinates are pixels of the turned frame, unstretched.

    Raises:
        DataError: not a video, over a limit, or broken; the frames before the break come first.
    """
    count, end_s, expected, length_s = 0, 0.0, 0, 0.0
    try:
        with open_clip(file, name, limits) as (container, stream):
            stream.thread_type = "AUTO"
            expected, length_s = stream.frames, _length_s(container, stream)
            start_s: float | None = None
            for decoded in container.decode(stream):
                rate = float(stream.average_rate or stream.guessed_rate or 25)
                time_s = decoded.time if decoded.time is not None else count / rate
                start_s = time_s if start_s is None else start_s
                limits.check_seconds(name, time_s - start_s)
                width, height = _shown_size(decoded, float(stream.sample_aspect_ratio or 1))
                limits.check_pixels(name, width, height)
                yield _as_shown(decoded, width, height), max(0.0, time_s - start_s)
                count, end_s = count + 1, time_s + 2 / rate
    except (av.error.FFmpegError, OSError) as error:
        where = f"broken after {count} frames" if count else "not a video that can be read"
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{name}: {where} ({reason}); get it again or save it as .mp4") from error
    if count == 0:
        raise DataError(f"{name}: a video without a frame; get it again")
    if count < expected and end_s < MOST_LACKING * length_s:  # a cut download ends without an error
        raise DataError(f"{name}: broken after {count} of {expected} frames; get it again")


def count_frames(path: Path, limits: Limits = USUAL) -> int | None:
    """Read the number of frames from the header of a clip."""
    try:
        with open_clip(path, "", limits) as (_, stream):
            return int(stream.frames) or None
    except (av.error.FFmpegError, OSError, DataError):
        return None  # reading the frames will say what is wrong


def _length_s(container: Any, stream: Any) -> float:
    """Read the seconds that a clip's header promises: of a clip that was trimmed the rest."""
    own = float((stream.duration or 0) * (stream.time_base or 0))
    return min(own, (container.duration or 0) / av.time_base)


def _shown_size(decoded: Any, ratio: float) -> tuple[int, int]:
    """Return the shape in which a frame is shown, before it is turned; no pixel is lost.

    Args:
        decoded: the frame.
        ratio: width of its pixels over their height.
    """
    width, height = decoded.width, decoded.height
    if not 1 / MOST_STRETCH <= ratio <= MOST_STRETCH:
        return width, height
    return (round(width * ratio), height) if ratio > 1 else (width, round(height / ratio))


def _as_shown(decoded: Any, width: int, height: int) -> Picture:
    image = decoded.to_ndarray(format="rgb24")
    square = (width, height) == (decoded.width, decoded.height)
    if not square:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    matrix = _display_matrix(decoded)
    shown = turned(image, matrix)
    if square:
        return Picture.of(shown)
    original = turned(np.zeros((decoded.height, decoded.width), np.uint8), matrix).shape
    y, x = original[0] / shown.shape[0], original[1] / shown.shape[1]
    to_px = np.array([[x, 0.0, 0.5 * x - 0.5], [0.0, y, 0.5 * y - 0.5]])
    return Picture(shown, to_px, (original[1], original[0]), square=False)


def _display_matrix(decoded: Any) -> NDArray[np.int64]:
    """Read the 2×2 part of a frame's display matrix; the identity if it has none."""
    data = decoded.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return np.eye(2, dtype=np.int64)
    return np.frombuffer(bytes(data), np.int32, 9).reshape(3, 3)[:2, :2].astype(np.int64)


def turned(image: NDArray[np.uint8], matrix: NDArray[np.int64]) -> Image:
    """Turn and mirror a frame by the nearest of the eight ways in which a picture can lie.

    Args:
        image: (H, W, …).
        matrix: a, b and c, d: the pixel (x, y) is shown towards (a·x + c·y, b·x + d·y).
    """
    (a, b), (c, d) = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        image = image.swapaxes(0, 1)
        across, down = c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])
