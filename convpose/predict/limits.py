"""Hold pictures, animations and clips to limits before they are decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import av
from annotated_types import Gt, Le
from PIL import Image as PillowImage

from convpose.config.schema import Count, Positive
from convpose.errors import DataError

LARGEST_MEGAPIXELS = 178  # above it Pillow opens nothing
KEYS = {
    "max_megapixels": Annotated[float, Gt(0), Le(LARGEST_MEGAPIXELS)],
    "max_seconds": Positive | None,
    "max_file_mb": Count | None,
}
# what holds pictures and clips; others, such as EPS and playlists, run programs or open files
PICTURES = (
    *("JPEG", "MPO", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "DIB", "TIFF", "PPM"),
    *("JPEG2000", "ICO", "TGA"),
)
STREAMS = "rtsp,rtp,sdp,hls,mpjpeg"
PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto,udp,rtp,rtmp,rtmps,srt"
STREAM_TIMEOUT_S = 20
CONTAINERS = "mov,avi,matroska,mpeg,mpegts,mpegvideo,asf,flv,ogg"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one input; a refusal names the key with which a command sets it.

    Attributes:
        megapixels: of a picture, and of each frame of a clip.
        seconds: of a clip; None for any.
        file_mb: of the file, in MiB; None for any.
    """

    megapixels: float = LARGEST_MEGAPIXELS
    seconds: float | None = None
    file_mb: int | None = None

    def check_size(self, name: str, size: int) -> None:
        """Refuse a file of too many bytes; DataError."""
        if self.file_mb is not None and size > self.file_mb << 20:
            raise DataError(
                f"{name}: {size / 2**20:.0f} MiB, more than the {self.file_mb} of max_file_mb; "
                "save it smaller"
            )

    def check_pixels(self, name: str, width: int, height: int) -> None:
        """Refuse a picture or a frame of too many pixels; DataError."""
        if width * height > self.megapixels * 1e6:
            raise DataError(
                f"{name}: {width} × {height} are {width * height / 1e6:.0f} megapixels, more than "
                f"the {self.megapixels:g} of max_megapixels; save it smaller"
            )

    def check_seconds(self, name: str, seconds: float) -> None:
        """Refuse a clip that is too long; DataError."""
        if self.seconds is not None and seconds > self.seconds:
            raise DataError(
                f"{name}: longer than the {self.seconds:g} s of max_seconds; cut it shorter"
            )


USUAL = Limits()


@contextmanager
def open_picture(file: Path | IO[bytes], name: str, limits: Limits) -> Iterator[PillowImage.Image]:
    """Open a picture by its header; nothing is decoded.

    Raises:
        DataError: over a limit.
        UnidentifiedImageError: not one of `PICTURES`.
    """
    if isinstance(file, Path):
        limits.check_size(name, file.stat().st_size)
    PillowImage.init()
    known = [kind for kind in PICTURES if kind in PillowImage.OPEN]
    with PillowImage.open(file, formats=known) as picture:
        limits.check_pixels(name, *picture.size)
        yield picture


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
