"""Photographs of an archive: read their size and pixels, or raise one clear error."""

import contextlib
import io
import warnings

import cv2
import numpy as np
from PIL import ExifTags
from PIL import Image as PillowImage

from convpose.data.reading.archive import Archive
from convpose.data.reading.pixels import eight_bit, on_white
from convpose.errors import DataError
from convpose.geometry import Image

_JPEG, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_SIDES_SWAPPED = (5, 6, 7, 8)  # values of EXIF's orientation


def photo_header(archive: Archive, name: str) -> tuple[tuple[int, int], int]:
    """Read width and height of the pixels as stored, and EXIF's orientation (1 to 8).

    Raises:
        DataError: the file is missing, no image, or claims a size that no photograph has.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
        try:
            with archive.open(name) as file, PillowImage.open(file) as image:
                return image.size, _orientation(image)
        except DataError:
            raise
        except Exception as error:  # Pillow raises a dozen types on a damaged header
            raise _not_an_image(archive, name, str(error)) from error


def upright_size(size_px: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return width and height after the turn that EXIF's orientation says."""
    return size_px[::-1] if orientation in _SIDES_SWAPPED else size_px


def _orientation(image: PillowImage.Image) -> int:
    with contextlib.suppress(Exception):  # the pixels of a picture with garbage for EXIF are fine
        found = int(image.getexif().get(ExifTags.Base.Orientation, 1))
        return found if found in range(1, 9) else 1
    return 1


def read_photo(archive: Archive, name: str, upright: bool = False) -> Image:
    """Decode a photograph to (H, W, 3) uint8 RGB; transparent pixels are white.

    Args:
        archive: holds it.
        name: of the file in the archive.
        upright: turn it as EXIF says; False if coordinates belong to the pixels as stored.

    Raises:
        DataError: the file is missing, damaged, truncated or no image.
    """
    content = archive.read(name)
    if content and not content.startswith(_JPEG):
        return _by_pillow(content, archive, name, upright)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    # OpenCV 5 refuses a truncated JPEG, OpenCV 4 fills the rest with grey and says nothing. Look
    # for the end behind the last scan: a thumbnail before it has an end of its own, and phones
    # append data of their own
    truncated = bool(content) and _END not in content[content.rfind(_SCAN) :]
    if image is None or truncated:
        raise _not_an_image(archive, name, "truncated" if truncated else "not decodable")
    orientation = 1
    if upright:  # by Pillow, as in prediction
        with PillowImage.open(io.BytesIO(content)) as file:
            orientation = _orientation(file)
    return _turned(np.asarray(image, np.uint8), orientation)


def _by_pillow(content: bytes, archive: Archive, name: str, upright: bool) -> Image:
    """Decode what is no JPEG as prediction does: OpenCV would drop transparency."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PillowImage.open(io.BytesIO(content)) as file:
                orientation = _orientation(file) if upright else 1
                opaque = on_white(eight_bit(file, f"{archive.path}: {name}"))
                pixels = np.array(opaque, dtype=np.uint8)
    except DataError:
        raise
    except Exception as error:  # Pillow raises a dozen types on a damaged file
        raise _not_an_image(archive, name, str(error)) from error
    return _turned(pixels, orientation)


def _turned(image: Image, orientation: int) -> Image:
    """Turn and mirror stored pixels so that they are upright."""
    if orientation in _SIDES_SWAPPED:
        image = image.transpose(1, 0, 2)
    across = -1 if orientation in (2, 3, 6, 7) else 1
    down = -1 if orientation in (3, 4, 7, 8) else 1
    return np.ascontiguousarray(image[::down, ::across])


def _not_an_image(archive: Archive, name: str, reason: str) -> DataError:
    return DataError(
        f"{archive.path}: {name} is not a readable JPEG or PNG image ({reason}); unpack or "
        "download the archive again"
    )
