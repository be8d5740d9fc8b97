"""Read size and pixels of photographs, and decide how they are turned.

Pictures of all modes become RGB, one way for training, evaluation and prediction.

Labels belong to photographs as stored, or turned upright as EXIF says. Most tools label the upright
picture (CVAT, labelme), some the stored one (COCO Annotator). Width and height in the annotation
file tell which where a turn exchanges them. But Label Studio gives the stored size to labels of the
upright picture, which then lie beyond the stored frame.
"""

import contextlib
import io
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

import cv2
import numpy as np
from PIL import ExifTags
from PIL import Image as PillowImage

from convpose.data.annotation import AnnotatedPerson
from convpose.data.reading.archive import Archive
from convpose.errors import DataError
from convpose.geometry import Image

HEIF_SUFFIXES = (".heic", ".heif", ".hif")
_JPEG, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_SIDES_SWAPPED = (5, 6, 7, 8)  # values of EXIF's orientation
Upright = Literal["auto", "exif", "stored"]


if READS_HEIF := find_spec("pillow_heif") is not None:  # a package of its own; not one of ours
    import_module("pillow_heif").register_heif_opener()


def eight_bit(file: PillowImage.Image, name: str) -> PillowImage.Image:
    """Convert to a mode of 8 bits a channel, whose values can be averaged.

    Raises:
        DataError: 32-bit pixels.
    """
    if file.mode in ("I", "F"):
        raise DataError(
            f"{name}: 32-bit pixels, of which nobody knows what is white; save it with 8 or 16 bits"
        )
    if file.mode.startswith("I;16"):
        return PillowImage.fromarray((np.asarray(file) >> 8).astype(np.uint8))
    if file.mode in ("1", "P", "PA"):
        return file.convert("RGBA" if file.has_transparency_data else "RGB")
    return file


def on_white(image: PillowImage.Image) -> PillowImage.Image:
    """Convert to RGB; transparent pixels are blended with white."""
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    opaque = PillowImage.new("RGB", image.size, (255, 255, 255))
    opaque.paste(image, mask=image.getchannel("A"))
    return opaque


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


def framed_size(photos: Archive, file: str, choice: Upright) -> tuple[int, int]:
    """Return the size of a photograph in the frame of its labels, upright unless ``stored``.

    Raises:
        DataError: missing, or no photograph.
    """
    stored, orientation = photo_header(photos, file)
    return stored if choice == "stored" else upright_size(stored, orientation)


def place_in_frames(
    name: str, photos: Archive, people: Sequence[AnnotatedPerson], choice: Upright
) -> tuple[list[AnnotatedPerson], list[str]]:
    """Find the frame that each person's labels belong to: its size, and if it is turned.

    Args:
        name: of the data set.
        photos: the archive.
        people: whose files lie there.
        choice: ``exif`` turns photographs as EXIF says, ``stored`` does not; ``auto`` goes by what
            the file says, then by its sizes, and else turns them.

    Returns:
        The people with `size_px` and `upright`; sentences about what is doubtful.

    Raises:
        DataError: a photograph without a size in the file is missing or damaged.
    """
    groups: defaultdict[str, list[AnnotatedPerson]] = defaultdict(list)
    for person in people:
        groups[person.file].append(person)
    frames: dict[str, tuple[tuple[int, int], bool | None]] = {}
    as_stored: dict[str, tuple[int, int]] = {}  # by their size: the frames if that misleads
    num_undecided = misled = 0
    for file, group in groups.items():
        given, upright = group[0].size_px, group[0].upright
        try:
            stored, orientation = photo_header(photos, file)
        except DataError:
            if given is None:
                raise
            stored, orientation = given, 1
        if orientation == 1:
            frames[file] = given or stored, upright
            continue
        turned = upright_size(stored, orientation)
        if choice != "auto":
            upright = choice == "exif"
        elif upright is None and stored != turned and given in (stored, turned):
            upright = given == turned
            if not upright:
                as_stored[file] = turned
                misled += _fit(group, turned) - _fit(group, stored)
        elif upright is None:
            upright = True
            num_undecided += 1
        size = turned if upright else stored
        frames[file] = size if given in (None, stored, turned) else given, upright
    if misled > 0:
        frames |= {file: (size, True) for file, size in as_stored.items()}
    placed = [
        replace(person, size_px=frames[person.file][0], upright=frames[person.file][1])
        for person in people
    ]
    keys = f"type data.sources.{name}.upright=exif or =stored"
    taken = "beyond it are labels, so upright" if misled > 0 else "taken as stored"
    kinds = (
        (num_undecided, "that no width and height settles, taken upright"),
        (len(as_stored), f"and the size of the stored picture in the file, {taken}"),
    )
    doubts = [
        f"{name}: {n:,} photographs have an EXIF orientation {what}; if skeletons lie beside their "
        f"people, {keys}"
        for n, what in kinds
        if n
    ]
    return placed, doubts


def _fit(people: Sequence[AnnotatedPerson], size_px: tuple[int, int]) -> bool:
    """Check if all labelled points lie in a frame, up to a pixel; NaN counts as inside."""
    return not any((person.points_px > np.array(size_px) + 0.5).any() for person in people)
