"""Read what ``source=`` names, frame by frame.

A source is a file, folder or glob of pictures and clips, a webcam's number, the URL of an image, or
``-`` for standard input. A broken file becomes one `Failure` among the frames; the others go on.
"""

import glob
import io
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av
import cv2
import numpy as np
import requests

from convpose.errors import ConfigError, DataError
from convpose.geometry import Image
from convpose.predict.images import SUFFIXES, Picture, decode
from convpose.predict.limits import USUAL, Limits, open_clip

CLIPS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts")
URL_STARTS = ("http://", "https://")
LARGEST_BYTES = 512 * 2**20  # limit for a URL and for standard input
TIMEOUT_S = 20


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    r"""Still picture, or one frame of a clip.

    Attributes:
        name: path, URL, ``stdin`` or ``webcam 0``; bytes of a path that are not UTF-8 are written
            as ``\xe9``.
        picture: decoded.
        index: position in the clip, 0 for a still.
        time_s: time since the clip's beginning; None for a still.
    """

    name: str
    picture: Picture
    index: int = 0
    time_s: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Input that could not be read, or not to its end, with a message that names it."""

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Source:
    """Input that can be read.

    Attributes:
        name: see `Frame`.
        read: opens it and yields its frames; DataError where it is broken.
        length: number of frames, None where that is not known.
        clip: whether it is known to be a video.
        live: whether it is a camera, which has no end.
    """

    name: str
    read: Callable[[], Iterator[Frame]]
    length: int | None = 1
    clip: bool = False
    live: bool = False


def open_sources(text: str | int, limits: Limits = USUAL) -> list[Source]:
    """List the inputs that a text names, in order; nothing is decoded yet.

    Raises:
        ConfigError: no such file, or a folder or glob without pictures and clips.
    """
    text = str(text)
    if text.isdigit() and not Path(text).exists():
        return [_webcam(int(text))]
    if text == "-":
        return [Source("stdin", lambda: _standard_input(limits), None)]
    if text.startswith(URL_STARTS):
        return [open_again(text, limits)]
    path = Path(text).expanduser()
    if path.is_file():
        return [_file(path, limits)]
    if path.is_dir():
        files = [f for f in sorted(path.iterdir()) if f.suffix.lower() in SUFFIXES + CLIPS]
        files = [f for f in files if f.is_file() and f.name[0] != "."]
        if not files:
            raise ConfigError(
                f"source={text}: the folder holds no picture and no clip; type source='{text}/**/*"
                ".jpg' to look into the folders below it"
            )
    else:
        files = [Path(f) for f in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207, absolute patterns
        files = [f for f in files if f.is_file()]
        if not files:
            raise ConfigError(
                f"source={text}: no such file; type a file, a folder, a pattern in quotes "
                "('photos/*.jpg'), a webcam's number (0), a URL (https://…) or - for standard input"
            )
    return [_file(file, limits) for file in files]


def open_again(name: str, limits: Limits = USUAL) -> Source:
    """Open the file or URL that has this name in `open_sources`; it may have gone since."""
    if name.startswith(URL_STARTS):
        return Source(name, lambda: _download(name, limits))
    path = Path(name) if os.path.exists(name) else _path(name)  # noqa: PTH110, see __main__
    return _file(path, limits)


def read_frames(sources: Sequence[Source]) -> Iterator[Frame | Failure]:
    """Read the frames of all sources, one at a time."""
    for source in sources:
        try:
            yield from source.read()
        except DataError as error:
            yield Failure(source.name, str(error))


def _name(path: Path) -> str:
    """Write a path so that it can be encoded as UTF-8, whatever the locale; `_path` reads it."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _path(name: str) -> Path:
    raw = re.sub(rb"\\x([89a-f].)", lambda m: bytes.fromhex(m[1].decode()), name.encode())
    return Path(os.fsdecode(raw))


def _file(path: Path, limits: Limits) -> Source:
    name = _name(path)
    if path.suffix.lower() in CLIPS:
        length = _length(path, limits)
        return Source(name, lambda: read_clip(path, name, limits), length, clip=True)
    return Source(name, lambda: iter([Frame(name, decode(path, name, limits))]))


def _download(url: str, limits: Limits) -> Iterator[Frame]:
    try:
        with requests.get(url, timeout=TIMEOUT_S, stream=True) as answer:
            answer.raise_for_status()
            content = answer.raw.read(LARGEST_BYTES + 1, decode_content=True)
    except (requests.RequestException, OSError) as error:
        raise DataError(f"{url}: could not be fetched ({error})") from error
    except Exception as error:  # urllib3's, from reading the body
        raise DataError(f"{url}: broke off ({error}); try again") from error
    yield Frame(url, decode(_at_most(content, url), url, limits))


def _standard_input(limits: Limits) -> Iterator[Frame]:
    content = _at_most(sys.stdin.buffer.read(LARGEST_BYTES + 1), "stdin")
    try:
        picture = decode(content, "stdin", limits)
    except DataError as no_picture:
        try:
            yield from read_clip(io.BytesIO(content), "stdin", limits)
        except DataError:
            raise no_picture from None
        return
    yield Frame("stdin", picture)


def _at_most(content: bytes, name: str) -> bytes:
    if len(content) > LARGEST_BYTES:
        raise DataError(f"{name}: more than {LARGEST_BYTES >> 20} MiB; save it as a file first")
    return content


def read_clip(file: Path | io.BytesIO, name: str, limits: Limits = USUAL) -> Iterator[Frame]:
    """Read the frames of a video, upright, with their times.

    Raises:
        DataError: not a video, over a limit, or broken; the frames before the break come first.
    """
    index = 0
    try:
        with open_clip(file, name, limits) as (container, stream):
            stream.thread_type = "AUTO"
            start_s: float | None = None
            for decoded in container.decode(stream):
                rate = float(stream.average_rate or stream.guessed_rate or 25)
                time_s = decoded.time if decoded.time is not None else index / rate
                start_s = time_s if start_s is None else start_s
                limits.check_seconds(name, time_s - start_s)
                image = np.rot90(decoded.to_ndarray(format="rgb24"), decoded.rotation // 90)
                picture = Picture.of(np.ascontiguousarray(image, dtype=np.uint8))
                yield Frame(name, picture, index, max(0.0, time_s - start_s))
                index += 1
    except (av.error.FFmpegError, OSError) as error:
        where = f"broken after {index} frames" if index else "not a video that can be read"
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{name}: {where} ({reason}); get it again or save it as .mp4") from error
    if index == 0:
        raise DataError(f"{name}: a video without a frame; get it again")


def _length(path: Path, limits: Limits) -> int | None:
    """Read the number of frames from the header of a video."""
    try:
        with open_clip(path, "", limits) as (_, stream):
            return int(stream.frames) or None
    except (av.error.FFmpegError, OSError, DataError):
        return None  # reading the frames will say what is wrong


def _webcam(index: int) -> Source:
    return Source(f"webcam {index}", lambda: _read_webcam(index), None, clip=True, live=True)


def _read_webcam(index: int) -> Iterator[Frame]:
    camera = cv2.VideoCapture(index)
    try:
        if not camera.isOpened():
            raise ConfigError(
                f"source={index}: no camera with that number; type source=1, or a file"
            )
        started, count = time.monotonic(), 0
        while True:
            arrived, image = camera.read()
            if not arrived:
                raise DataError(f"webcam {index}: sends no pictures any more; plug it in again")
            rgb: Image = np.ascontiguousarray(image[:, :, ::-1], dtype=np.uint8)
            yield Frame(f"webcam {index}", Picture.of(rgb), count, time.monotonic() - started)
            count += 1
    finally:
        camera.release()


def base_name(name: str) -> str:
    """Return the file name in a frame's name, which is a path, a URL or neither."""
    if name.startswith(URL_STARTS):
        parts = urlsplit(name)
        return Path(unquote(parts.path)).name or parts.netloc
    return Path(name).name
