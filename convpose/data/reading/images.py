"""Photographs of an archive: read their size and pixels, or raise one clear error."""

import warnings

import cv2
import numpy as np
from PIL import ExifTags
from PIL import Image as PillowImage

from convpose.data.reading.archive import Archive
from convpose.errors import DataError
from convpose.geometry import Image

_JPEG, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_SIDES_SWAPPED = (5, 6, 7, 8)  # values of EXIF's orientation


def photo_size(archive: Archive, name: str, upright: bool = False) -> tuple[int, int]:
    """Read width and height from the header alone, as stored or after the EXIF rotation.

    Raises:
        DataError: the file is missing, no image, or claims a size that no photograph has.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", PillowImage.DecompressionBombWarning)
        try:
            with archive.open(name) as file, PillowImage.open(file) as image:
                orientation = image.getexif().get(ExifTags.Base.Orientation) if upright else None
                swapped = orientation in _SIDES_SWAPPED
                return (image.height, image.width) if swapped else image.size
        except DataError:
            raise
        except Exception as error:  # Pillow raises a dozen types on a damaged header
            raise _not_an_image(archive, name, str(error)) from error


def read_photo(archive: Archive, name: str, upright: bool = False) -> Image:
    """Decode a photograph to (H, W, 3) uint8 RGB.

    Args:
        archive: holds it.
        name: of the file in the archive.
        upright: turn it as EXIF says; False if coordinates belong to the pixels as stored.

    Raises:
        DataError: the file is missing, damaged, truncated or no image.
    """
    content = archive.read(name)
    flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    # OpenCV 5 refuses a truncated JPEG, OpenCV 4 fills the rest with grey and says nothing. Look
    # for the end behind the last scan: a thumbnail before it has an end of its own, and phones
    # append data of their own
    truncated = content.startswith(_JPEG) and _END not in content[content.rfind(_SCAN) :]
    if image is None or truncated:
        raise _not_an_image(archive, name, "truncated" if truncated else "not decodable")
    return np.asarray(image, dtype=np.uint8)


def _not_an_image(archive: Archive, name: str, reason: str) -> DataError:
    return DataError(
        f"{archive.path}: {name} is not a readable JPEG or PNG image ({reason}); unpack or "
        "download the archive again"
    )
