"""Crop cache: every crop of a source as a JPEG, with its annotation, in one memory-mapped file.

Training from the cache skips the archive and decodes pixels that are seen, at the size that is
seen. The file is a safetensors file: plain tensors and text, checksummed, that can be copied to
another machine, where the archive is not needed any more.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from convpose.bounded import UNEXPECTED, parse_json
from convpose.data.annotation import Annotation, PoseSource
from convpose.data.crop import Crop
from convpose.errors import DataError
from convpose.files import remove_left
from convpose.geometry import Affine, Image, compose, invert, transform

MARGIN = 1.3  # stored region / crop: room for augment.scale, shift and rotation around a box crop
CHUNK = 2**24  # bytes that are checked at a time
NAMES = ("keypoints_px", "offsets", "region_to_px", "size_px", "visibility")
FORMATS = {"jpeg": (".jpg", cv2.IMWRITE_JPEG_QUALITY), "webp": (".webp", cv2.IMWRITE_WEBP_QUALITY)}

log = logging.getLogger(__name__)
_REMEDY = "delete the file to have it written again, or type data.cache=ANOTHER_FILE"


class CropCache:
    """Reader of a cache file, a `PoseSource`.

    Args:
        path: file written by `write_cache`.
        crop: of the data; the file must have been made for the same.
        contents: data sets and settings as `write_cache` got them.

    Raises:
        DataError: no cache file, a damaged one, or one for another crop.
    """

    def __init__(self, path: Path, crop: Crop, contents: str) -> None:
        self.path = path
        self._file: Any
        self._pixels: Any
        self._open()
        meta, arrays = self._read()
        if meta["crop"] != str(crop) or meta["box_scale"] != crop.box_scale:
            raise DataError(
                f"{path}: written for data.crop={meta['crop']} data.box_scale={meta['box_scale']}, "
                f"asked for data.crop={crop} data.box_scale={crop.box_scale}; {_REMEDY}"
            )
        if meta["contents"] != contents:
            raise DataError(
                f"{path}: holds {meta['contents']}, the configuration asks for {contents}; "
                f"{_REMEDY}"
            )
        self._offsets = arrays["offsets"]
        self._regions = arrays["region_to_px"]
        nothing = [None] * len(meta["image_ids"])
        optional = ("boxes_px", "files", "parts", "uprights", "heads_px")
        boxes, *others = (meta.get(key, nothing) for key in optional)
        boxes = [None if box is None else np.array(box) for box in boxes]
        columns = (  # in the order of the attributes of `Annotation`
            *(meta["image_ids"], meta["datasets"], *arrays["size_px"].T.tolist()),
            *(arrays["keypoints_px"], arrays["visibility"], boxes, *others),
        )
        self.annotations = [Annotation(*row) for row in zip(*columns, strict=True)]

    def _open(self) -> None:
        try:
            self._file = safe_open(self.path, framework="np")
            metadata = self._file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{self.path}: not a readable crop cache ({error}); type data.cache=ANOTHER_FILE"
            ) from error
        if "convpose" not in metadata:
            raise DataError(
                f"{self.path}: a safetensors file, but no crop cache; type data.cache=ANOTHER_FILE"
            )
        self._pixels = self._file.get_slice("pixels")

    def _read(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Read everything but the pixels, and compare the checksum."""
        try:
            meta = parse_json(str(self.path), self._file.metadata()["convpose"])
            arrays = {key: self._file.get_tensor(key) for key in NAMES}
            intact = meta.pop("sha256") == _checksum(meta, self._pixels, arrays)
        except (SafetensorError, DataError, *UNEXPECTED):
            intact = False
        if not intact:
            raise DataError(
                f"{self.path}: the checksum does not match, the file is damaged or of another "
                f"version of convpose; {_REMEDY}"
            )
        return meta, arrays

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open file, which a spawned worker opens for itself."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_file", "_pixels")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read_image(self, index: int) -> tuple[Image, Affine]:
        """Decode a stored region: (H, W, 3) uint8 RGB and the affine to pixels of the image."""
        encoded = self._pixels[int(self._offsets[index]) : int(self._offsets[index + 1])]
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
        return np.asarray(image, dtype=np.uint8), self._regions[index]


def cache_file(path: Path, crop: Crop, contents: str) -> Path:
    """Return the file of a cache: `path`, or if another cache lies there, one beside it.

    That one is named by what is in it, so that no experiment stands in another's way.
    """
    asked = {"crop": str(crop), "box_scale": crop.box_scale, "contents": contents}
    meta = _meta(path)
    if not asked.keys() <= meta.keys():
        return path  # there is none yet, or `CropCache` says what is wrong
    if all(meta[key] == value for key, value in asked.items()):
        return path
    digest = hashlib.sha256(json.dumps([*asked.values()]).encode()).hexdigest()[:8]
    beside = path.with_stem(f"{path.stem}-{digest}")
    log.info("data.cache=%s holds other crops; these are in %s", path, beside)
    return beside


def cached_skeleton(path: Path) -> dict[str, Any] | None:
    """Read the skeleton of a cache file; None if there is none, or no cache."""
    skeleton = _meta(path).get("skeleton")
    return skeleton if isinstance(skeleton, dict) else None


def _meta(path: Path) -> dict[str, Any]:
    """Read what a cache file says of itself; empty if there is none, or no cache."""
    try:
        with safe_open(path, framework="np") as file:
            return dict(parse_json("", file.metadata()["convpose"]))
    except (SafetensorError, DataError, OSError, *UNEXPECTED):
        return {}


def write_cache(
    source: PoseSource,
    path: Path,
    crop: Crop,
    contents: str,
    size_px: int = 224,
    quality: int = 90,
    image_format: str = "jpeg",
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    skeleton: dict[str, Any] | None = None,
) -> None:
    """Write all crops of a source into one file, whole or not at all.

    Args:
        source: annotations and pixels.
        path: file to write.
        crop: of the data; `MARGIN` times as much of the image is kept around it.
        contents: names the data sets and their settings; `CropCache` compares it with its own.
        size_px: a crop is stored with this side at most; smaller ones are not enlarged.
        quality: of the image format, 1 to 100.
        image_format: ``jpeg``, or ``webp`` (smaller, slower to decode).
        progress: wraps the indices, for a progress bar.
        skeleton: of the keypoints; who has the cache alone can ask `cached_skeleton`.
    """
    suffix, flag = FORMATS[image_format]
    encoded: list[NDArray[np.uint8]] = []
    regions: list[Affine] = []
    for index in progress(range(len(source.annotations))):
        image, source_to_px = source.read_image(index)
        unit_to_source = compose(invert(source_to_px), crop.unit_to_px(source.annotations[index]))
        region, region_to_source = _region(image, unit_to_source, size_px)
        regions.append(compose(source_to_px, region_to_source))
        bgr = cv2.cvtColor(region, cv2.COLOR_RGB2BGR)
        encoded.append(cv2.imencode(suffix, bgr, [flag, quality])[1].ravel())
    annotations = source.annotations
    arrays: dict[str, NDArray[Any]] = {
        "offsets": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        "region_to_px": np.stack(regions),
        "size_px": np.array([(a.width_px, a.height_px) for a in annotations], dtype=np.int32),
        "keypoints_px": np.stack([a.keypoints_px for a in annotations]),
        "visibility": np.stack([a.visibility for a in annotations]),
    }
    # safetensors writes memory as it lies, whatever the strides say
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    pixels = np.concatenate(encoded)
    meta: dict[str, Any] = {
        "crop": str(crop),
        "box_scale": crop.box_scale,
        "contents": contents,
        "size_px": size_px,
        "quality": quality,
        "skeleton": skeleton,
        "image_ids": [a.image_id for a in annotations],
        "datasets": [a.dataset for a in annotations],
        "boxes_px": [None if a.box_px is None else a.box_px.tolist() for a in annotations],
        "files": [a.file for a in annotations],
        "parts": [a.subset for a in annotations],
        "uprights": [a.upright for a in annotations],
        "heads_px": [a.head_px for a in annotations],
    }
    meta["sha256"] = _checksum(meta, pixels, arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left(path.parent, f"{path.name}.*.part")
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file({"pixels": pixels, **arrays}, partial, {"convpose": json.dumps(meta)})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _region(image: Image, unit_to_source: Affine, size_px: int) -> tuple[Image, Affine]:
    """Cut the crop with its margin out of an image and shrink it; return it and its affine."""
    corners = transform(unit_to_source, np.array([[0.0, 0.0], [1.0, 1.0]]))
    centre, half = corners.mean(axis=0), np.abs(corners[1] - corners[0]) / 2
    height, width = image.shape[:2]
    size = np.array([width, height])
    low = np.clip(np.floor(centre - half * MARGIN + 0.5), 0, size - 1).astype(int)
    high = np.clip(np.ceil(centre + half * MARGIN + 0.5), low + 1, size).astype(int)
    cut = image[low[1] : high[1], low[0] : high[0]]
    scale = min(1.0, size_px / (2 * half.max()))
    new = np.maximum(1, np.round((high - low) * scale)).astype(int)
    if scale < 1:
        cut = np.asarray(
            cv2.resize(cut, (int(new[0]), int(new[1])), interpolation=cv2.INTER_AREA), np.uint8
        )
    ratio = (high - low) / np.array([cut.shape[1], cut.shape[0]])
    shift = low + 0.5 * ratio - 0.5
    return cut, np.array([[ratio[0], 0.0, shift[0]], [0.0, ratio[1], shift[1]]])


def _checksum(meta: dict[str, Any], pixels: Any, arrays: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(meta).encode())
    count = int(arrays["offsets"][-1])
    for start in range(0, count, CHUNK):  # the pixels of a file as it is read: it may be large
        digest.update(pixels[start : min(start + CHUNK, count)].data)
    for key in NAMES:
        digest.update(np.ascontiguousarray(arrays[key]).data)
    return digest.hexdigest()
