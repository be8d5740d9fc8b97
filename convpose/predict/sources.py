"""Read what ``source=`` names, frame by frame.

A source is a file, folder or glob of pictures and clips, a webcam's number, the URL of an image, a
clip or a stream, or ``-`` for standard input. A broken file becomes one `Failure` among the frames;
the others go on.
"""

import contextlib
import glob
import io
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import requests

from convpose.data.reading.images import HEIF_SUFFIXES, READS_HEIF
from convpose.errors import ConfigError, DataError
from convpose.geometry import Image
from convpose.predict.images import SUFFIXES, USUAL, Limits, Picture, decode
from convpose.predict.videos import count_frames, decode_clip

CLIPS = (
    *(".mp4", ".mov", ".m4v", ".3gp", ".3g2", ".avi", ".mkv", ".webm", ".ogv", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".wmv", ".flv"),
)
STILLS = (b"heic", b"heix", b"mif1", b"avif")  # pictures in a clip's container, often in tiles
URL_STARTS = ("http://", "https://")
STREAM_STARTS = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "srt://", "udp://")
STREAM_TYPES = ("video/", "multipart/x-mixed-replace", "application/vnd.apple.mpegurl")
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
        live: whether it is a camera or a stream, which has no end.
        note: message for the user about what lies beside it, or None.
    """

    name: str
    read: Callable[[], Iterator[Frame]]
    length: int | None = 1
    clip: bool = False
    live: bool = False
    note: str | None = None


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
    if text.startswith(STREAM_STARTS):
        name = re.sub("//[^/]*@", "//", text)  # without a password
        return [Source(name, lambda: read_clip(text, name, limits), None, clip=True, live=True)]
    if text.startswith(URL_STARTS):
        return [open_again(text, limits)]
    path = Path(text).expanduser()
    if path.is_file():
        return [_file(path, limits)]
    note = None
    if path.is_dir():
        there = [f for f in sorted(path.iterdir()) if f.is_file() and f.name[0] != "."]
        files = [f for f in there if f.suffix.lower() in SUFFIXES + CLIPS]
        note = _passed_over(text, [f for f in there if f not in files])
        if not files:
            raise ConfigError(
                f"source={text}: the folder holds no picture and no clip; type source='{text}/**/*"
                ".jpg' to look into the folders below it" + (f"\n{note}" if note else "")
            )
    else:
        files = [f for f in _matching(path) if f.is_file()]
        if not files:
            raise ConfigError(
                f"source={text}: no such file; type a file, a folder, a pattern in quotes "
                "('photos/*.jpg'), a webcam's number (0), a URL (https://…, rtsp://…) or - for "
                "standard input"
            )
    first, *others = [_file(file, limits) for file in files]
    return [replace(first, note=note), *others]


def _matching(pattern: Path) -> list[Path]:
    """List the files of a pattern, or of one below a folder whose own name has brackets."""
    found = glob.glob(str(pattern), recursive=True)  # noqa: PTH207, absolute patterns
    folder = next((above for above in pattern.parents if above.is_dir()), None)
    if not found and folder is not None:
        rest = str(pattern.relative_to(folder))
        below = os.path.join(glob.escape(str(folder)), rest)  # noqa: PTH118, a pattern
        found = glob.glob(below, recursive=True)  # noqa: PTH207
    return [Path(file) for file in sorted(found)]


def _passed_over(text: str, files: Sequence[Path]) -> str | None:
    """Count the files of a folder that are not read, by their ending."""
    if not files:
        return None
    endings = Counter(f.suffix.lower() or "without ending" for f in files)
    counts = ", ".join(f"{n} {ending}" for ending, n in endings.most_common())
    heif = not READS_HEIF and any(ending in HEIF_SUFFIXES for ending in endings)
    return f"{text}: {len(files)} file{'s' * (len(files) > 1)} passed over: {counts}" + (
        "; pip install pillow-heif reads .heic" if heif else ""
    )


def open_again(name: str, limits: Limits = USUAL) -> Source:
    """Open the file or URL that has this name in `open_sources`; it may have gone since."""
    if name.startswith(URL_STARTS):
        return Source(name, lambda: _download(name, limits))
    return _file(path_of(name), limits)


def read_frames(sources: Sequence[Source]) -> Iterator[Frame | Failure]:
    """Read the frames of all sources, one at a time."""
    for source in sources:
        try:
            yield from source.read()
        except DataError as error:
            yield Failure(source.name, str(error))


def _name(path: Path) -> str:
    """Write a path so that it can be encoded as UTF-8, whatever the locale; see `path_of`."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def path_of(name: str) -> Path:
    """Return the path of a file's name in `Frame`, whose bytes may not be UTF-8."""
    if os.path.exists(name):  # noqa: PTH110, see __main__
        return Path(name)
    raw = re.sub(rb"\\x([89a-f].)", lambda m: bytes.fromhex(m[1].decode()), name.encode())
    return Path(os.fsdecode(raw))


def _file(path: Path, limits: Limits) -> Source:
    name = _name(path)
    if path.suffix.lower() in CLIPS:
        length = count_frames(path, limits)
        return Source(name, lambda: read_clip(path, name, limits), length, clip=True)
    length = 1 if path.suffix.lower() in SUFFIXES else None
    return Source(name, lambda: _picture_or_clip(path, name, limits), length)


def _picture_or_clip(content: Path | bytes, name: str, limits: Limits) -> Iterator[Frame]:
    """Read a picture; try what is none as a clip."""
    try:
        picture = decode(content, name, limits)
    except DataError as no_picture:
        if _start_of(content)[4:8] == b"ftyp" and _start_of(content)[8:] in STILLS:
            raise
        clip = io.BytesIO(content) if isinstance(content, bytes) else content
        frames = read_clip(clip, name, limits)
        try:
            first = next(frames)
        except DataError:
            raise no_picture from None
        yield first
        yield from frames
        return
    yield Frame(name, picture)


def _start_of(content: Path | bytes) -> bytes:
    if isinstance(content, bytes):
        return content[:12]
    with contextlib.suppress(OSError), content.open("rb") as file:
        return file.read(12)
    return b""


def _download(url: str, limits: Limits) -> Iterator[Frame]:
    try:
        with requests.get(url, timeout=TIMEOUT_S, stream=True) as answer:
            answer.raise_for_status()
            kind = answer.headers.get("content-type", "").lower()
            if kind.startswith(STREAM_TYPES) or base_name(url).lower().endswith(CLIPS):
                frames = read_clip(url, url, limits)
                try:
                    first = next(frames)
                except DataError:  # such as an MP4 whose table is behind its frames
                    if "content-length" not in answer.headers:
                        raise
                else:
                    yield first
                    yield from frames
                    return
            content = answer.raw.read(LARGEST_BYTES + 1, decode_content=True)
    except DataError:
        raise
    except (requests.RequestException, OSError) as error:
        raise DataError(f"{url}: could not be fetched ({error})") from error
    except Exception as error:  # urllib3's, from reading the body
        raise DataError(f"{url}: broke off ({error}); try again") from error
    yield from _picture_or_clip(_at_most(content, url), url, limits)


def _standard_input(limits: Limits) -> Iterator[Frame]:
    content = _at_most(sys.stdin.buffer.read(LARGEST_BYTES + 1), "stdin")
    yield from _picture_or_clip(content, "stdin", limits)


def _at_most(content: bytes, name: str) -> bytes:
    if len(content) > LARGEST_BYTES:
        raise DataError(f"{name}: more than {LARGEST_BYTES >> 20} MiB; save it as a file first")
    return content


def read_clip(file: Path | io.BytesIO | str, name: str, limits: Limits = USUAL) -> Iterator[Frame]:
    """Read the frames of a video, see `decode_clip`."""
    for index, (picture, time_s) in enumerate(decode_clip(file, name, limits)):
        yield Frame(name, picture, index, time_s)


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
    if name.startswith(URL_STARTS + STREAM_STARTS):
        parts = urlsplit(name)
        return Path(unquote(parts.path)).name or parts.netloc
    return Path(name).name
