"""Convert decoded pictures of all modes to RGB, one way for training, evaluation and prediction."""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
from PIL import Image as PillowImage

from convpose.errors import DataError

HEIF_SUFFIXES = (".heic", ".heif", ".hif")
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
