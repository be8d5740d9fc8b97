"""Decode pictures: whatever a file holds becomes upright 8-bit RGB, or one clear error.

EXIF orientation is applied, as viewers do; pixel coordinates are those of the upright picture.
Transparent pixels are blended with white. 16-bit grey keeps its upper 8 bits. CMYK, YCbCr, palettes
and grey become RGB; colour profiles are not applied, nor were they in training. Of an animation or
a document with pages the first frame is taken. Above `DECODED_PX` pixels a picture is decoded at a
half, a third, … of its size, so that memory stays bounded; above a limit (`Limits`) it is refused.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

import numpy as np
from annotated_types import Gt, Le
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from convpose.config.schema import Count, Positive
from convpose.data.reading.images import HEIF_SUFFIXES, READS_HEIF, eight_bit, on_white
from convpose.errors import DataError
from convpose.geometry import Affine, Image, identity

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".webp", ".avif", ".gif", ".bmp"),
    *(".tif", ".tiff", ".ppm"),
    *(HEIF_SUFFIXES if READS_HEIF else ()),
)
DECODED_PX = 25_000_000  # a 24-megapixel photograph is decoded as it is
LARGEST_MEGAPIXELS = 178  # above it Pillow opens nothing
KEYS = {
    "max_megapixels": Annotated[float, Gt(0), Le(LARGEST_MEGAPIXELS)],
    "max_seconds": Positive | None,
    "max_file_mb": Count | None,
}
# what holds pictures; others, such as EPS, run programs
PICTURES = (
    *("JPEG", "MPO", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "DIB", "TIFF", "PPM"),
    *("JPEG2000", "ICO", "TGA"),
)


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


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Decoded picture.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright; smaller than the original where that is huge.
        to_px: (2, 3), pixels of `image` to pixels of the upright original; exact to a pixel of
            `image` where it is smaller.
        size_px: width and height of the upright original.
        note: message for the user, or None.
        square: whether the original's pixels are; else `image` has the shape that is shown.
    """

    image: Image
    to_px: Affine
    size_px: tuple[int, int]
    note: str | None = None
    square: bool = True

    @classmethod
    def of(cls, image: Image) -> "Picture":
        """Make a picture of an array, (H, W, 3) uint8 RGB.

        Raises:
            DataError: another shape or type, or no pixel.
        """
        shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
        if shape is None or len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
            found = type(image).__name__ if shape is None else f"{shape} {dtype}"
            raise DataError(
                f"an image is an array (H, W, 3) uint8 RGB, got {found}; "
                "convpose.predict.images.decode reads files of all kinds"
            )
        return cls(image, identity(), (shape[1], shape[0]))


@contextlib.contextmanager
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


def decode(source: Path | bytes, name: str = "", limits: Limits = USUAL) -> Picture:
    """Decode a file or its bytes.

    Args:
        source: path or bytes.
        name: what messages call it; the path if empty.
        limits: of its size.

    Raises:
        DataError: no file, not an image, broken, too large, or with pixels that have no defined
            brightness (32-bit).
    """
    name = name or (str(source) if isinstance(source, Path) else "the image")
    try:
        with warnings.catch_warnings():  # Pillow warns of what becomes an error or is repaired here
            warnings.simplefilter("ignore")
            content = io.BytesIO(source) if isinstance(source, bytes) else source
            with open_picture(content, name, limits) as file:
                return _picture(file, name)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        heif = Path(name).suffix.lower() in HEIF_SUFFIXES and not READS_HEIF
        raise DataError(
            f"{name}: not an image that can be read; save it as JPEG, PNG, WebP or 8-bit TIFF"
            + (", or type pip install pillow-heif" if heif else "")
        ) from error
    except PillowImage.DecompressionBombError as error:
        raise DataError(f"{name}: too many pixels to decode safely; save it smaller") from error
    except Exception as error:  # a broken file makes Pillow raise a dozen types
        reason = str(error) or type(error).__name__
        raise DataError(f"{name}: a broken image ({reason}); get it again") from error


def _picture(file: PillowImage.Image, name: str) -> Picture:
    # how many there are is not asked: of a GIF it takes decoding all of them; MPO is a phone's JPEG
    several = getattr(file, "is_animated", False) and file.format != "MPO"  # with a depth map
    note = f"{name}: only the first of its frames is used" if several else None
    width, height = file.size
    too_large = width * height / DECODED_PX
    if too_large > 1:  # JPEG only: decoded at 1/2, 1/4 or 1/8
        file.draft(None, (int(width / too_large**0.5), int(height / too_large**0.5)))
    lying = file.size
    _turn_upright(file)
    if file.size == lying[::-1] != lying:
        width, height = height, width
    image = on_white(_shrunk(eight_bit(file, name)))
    x, y = width / image.width, height / image.height
    to_px = np.array([[x, 0.0, 0.5 * x - 0.5], [0.0, y, 0.5 * y - 0.5]])
    return Picture(np.array(image, dtype=np.uint8), to_px, (width, height), note)


def _turn_upright(file: PillowImage.Image) -> None:
    """Load the pixels and turn them as EXIF says."""
    file.load()
    with contextlib.suppress(Exception):  # the pixels of a picture with garbage for EXIF are fine
        ImageOps.exif_transpose(file, in_place=True)


def _shrunk(image: PillowImage.Image) -> PillowImage.Image:
    """Average the image over squares that bring it below `DECODED_PX`."""
    factor = math.ceil(math.sqrt(image.width * image.height / DECODED_PX))
    return image.reduce(factor) if factor > 1 else image
