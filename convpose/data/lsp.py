"""Leeds Sports Pose (LSP, 2,000 images) and its extended training set (LSPET, 10,000 images).

Both are an ``images/`` folder beside ``joints.mat``, and differ in three ways that are easy to
miss: the axis order of the joints, the meaning of the flag, and what stands where nothing is
labelled. Sources: S. Johnson and M. Everingham, BMVC 2010 (LSP) and CVPR 2011 (LSPET).

HR-LSPET (MPI Informatics) is LSPET in higher resolution: the same people under the same numbers,
some left out, as PNG files beside a ``joints.mat`` with LSPET's axes.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convpose.data.annotation import Annotation, check_reach, find_doubts
from convpose.data.reading import read_variable
from convpose.data.reading.archive import Archive
from convpose.data.reading.download import download
from convpose.data.reading.images import photo_header, read_photo
from convpose.errors import ConfigError, DataError
from convpose.geometry import Affine, Image, identity
from convpose.skeleton import LSP14

# File stems of the archives. HR-LSPET does not stand for LSPET: some of its images are left out.
STEMS = {"lsp": "lsp_dataset", "lspet": "lspet_dataset", "hr_lspet": "hr-lspet"}

# Number of the first pixel in joints.mat. The files come from MATLAB, whose first pixel is 1, but
# the data speak for 0: LSP's images are cropped symmetrically around the joints, so smallest plus
# largest coordinate should be W − 1 for a first pixel of 0, and W + 1 for 1. The median of 2,000
# images is W − 0.91 (quartiles −1.21 and −0.61; the same for y and H).
ORIGIN_PX = 0.0

_IMAGE = re.compile(r"(?:images/)?im(\d+)\.(?:jpe?g|png)")
_K = LSP14.num_keypoints


class LspSource:
    """Annotations and images of LSP or LSPET, read from a zip or an unpacked folder.

    LSP labels every joint and flags the occluded ones: visibility 1 or 2. LSPET flags the labelled
    ones and does not mark occlusion: visibility 0 or 2. Unlabelled joints have NaN coordinates.

    Args:
        name: ``lsp``, ``lspet`` or ``hr_lspet``.
        source: the archive, its unpacked folder, or a folder that holds one of them; None looks
            in `folder` and then downloads to it.
        folder: the data folder (``CONVPOSE_DATA``).
        mirrors: URLs of the archive.
        sha256: hash of the archive that the mirrors send, if it is known.
        mask_unlabelled: False takes every coordinate for a label, LSPET's garbage included; only
            to measure the cost of that mistake.

    Attributes:
        annotations: one per image in the order of the file numbers.
        doubts: labels that are hardly meant, a sentence a kind.

    Raises:
        ConfigError: unknown name.
        DataError: no data found, or data that are not what `name` says: file, expectation and
            remedy are in the message.
    """

    def __init__(
        self,
        name: str,
        source: str | Path | None,
        folder: str | Path,
        mirrors: Sequence[str] = (),
        sha256: str | None = None,
        mask_unlabelled: bool = True,
    ) -> None:
        if name not in STEMS:
            raise ConfigError(f"unknown data set {name!r}; choose one of {', '.join(STEMS)}")
        self.name = name
        self.archive = Archive(_locate(name, source, Path(folder), mirrors, sha256))
        points_px, flags = _read_joints(self.archive)
        self._files = _image_files(self.archive, len(points_px))
        sizes_px = np.array([photo_header(self.archive, file)[0] for file in self._files])
        _check_flags(name, self.archive, points_px, flags)
        unlabelled = 0 if mask_unlabelled else 1
        visibility = np.where(flags, 1, 2) if name == "lsp" else np.where(flags, 2, unlabelled)
        points_px[visibility == 0] = np.nan
        ids = [Path(file).stem for file in self._files]
        check_reach(f"{self.archive.path}: joints.mat", ids, LSP14.keypoints, points_px, visibility)
        _check_scale(self.archive, points_px, sizes_px)
        self.annotations = [
            Annotation(image_id, name, int(w), int(h), points, visible, file=file, upright=False)
            for image_id, file, (w, h), points, visible in zip(
                ids,
                self._files,
                sizes_px,
                points_px.astype(np.float32),
                visibility.astype(np.uint8),
                strict=True,
            )
        ]
        self.doubts = find_doubts(self.annotations, LSP14.keypoints)

    @classmethod
    def locate(cls, keys: Mapping[str, Any]) -> None:
        """Find the archive of these arguments, or download it; raise what the constructor would."""
        if keys.get("name") in STEMS:
            given = keys.get("mirrors") or (), keys.get("sha256")
            _locate(keys["name"], keys.get("source"), Path(str(keys.get("folder"))), *given)

    def read_image(self, index: int) -> tuple[Image, Affine]:
        """Decode the image of ``annotations[index]``: (H, W, 3) uint8 RGB, and the identity.

        An EXIF rotation is ignored, because the coordinates belong to the pixels as stored.

        Raises:
            DataError: the file is missing, damaged, truncated or no image.
        """
        return read_photo(self.archive, self._files[index]), identity()


def _locate(
    name: str, source: str | Path | None, folder: Path, mirrors: Sequence[str], sha256: str | None
) -> Path:
    """Find the archive or the unpacked folder; download the archive if there is neither."""
    root = folder if source is None else Path(source).expanduser()
    if source is not None and not root.exists():
        raise DataError(
            f"data.source={source}: no such file or folder; type the path of {STEMS[name]}.zip "
            "or of its unpacked folder"
        )
    layouts = [root] if source is not None or _is_unpacked(root) else []
    layouts += [root / f"{STEMS[name]}.zip", root / STEMS[name]]
    for layout in layouts:
        if layout.is_file() or _is_unpacked(layout):
            return layout
    if source is None and mirrors:
        return download(mirrors, folder / f"{STEMS[name]}.zip", sha256)
    raise DataError(
        f"{name} not found: looked in {root.absolute()} for joints.mat with images/, for "
        f"{STEMS[name]}.zip and for a folder of that name; type "
        f"data.source=/path/to/{STEMS[name]}.zip, or put the file into the folder that the "
        "environment variable CONVPOSE_DATA names"
    )


def _is_unpacked(folder: Path) -> bool:
    return (folder / "joints.mat").is_file() or (
        folder.name in STEMS.values()
        and any(folder.glob("*/joints.mat"))  # lspet_dataset/lspet_dataset/joints.mat
    )


def _read_joints(archive: Archive) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read coordinates (N, K, 2) in pixels, garbage included, and flags (N, K)."""
    remedy = (
        f"expected x, y and a flag of 0 or 1 in the shape (3, {_K}, N) or ({_K}, 3, N); use "
        "joints.mat of the official lsp_dataset.zip or lspet_dataset.zip"
    )
    file, content = f"{archive.path}: joints.mat", archive.read("joints.mat")
    joints = read_variable(file, content, "joints", remedy, squeeze=False)
    if joints.dtype.kind not in "iuf":
        raise DataError(f"{file}: joints holds {joints.dtype}, no numbers; {remedy}")
    if joints.ndim == 3 and joints.shape[:2] == (3, _K):
        joints = joints.transpose(1, 0, 2)
    if joints.ndim != 3 or joints.shape[:2] != (_K, 3) or joints.shape[2] == 0:
        raise DataError(f"{file}: joints has the shape {joints.shape}; {remedy}")
    joints = joints.transpose(2, 0, 1).astype(np.float64)
    if not np.isfinite(joints).all() or not np.isin(joints[..., 2], (0, 1)).all():
        raise DataError(
            f"{file}: joints has other values (NaN, or flags like {joints[..., 2].max():g}); "
            f"{remedy}"
        )
    return joints[..., :2] - ORIGIN_PX, joints[..., 2] == 1


def _image_files(archive: Archive, count: int) -> list[str]:
    """List the image files by number; DataError if they do not match `count` annotations."""
    files = {int(m[1]): n for n in archive.names() if (m := _IMAGE.fullmatch(n)) is not None}
    numbers = sorted(files)
    gaps_allowed = all(name.endswith("png") for name in files.values())  # HR-LSPET
    if len(files) != count or not (gaps_allowed or numbers == list(range(1, count + 1))):
        missing = [number for number in range(1, count + 1) if number not in files]
        sample = next(iter(files.values()), "images/im00001.jpg")
        example = (
            re.sub(r"\d+", lambda m: f"{missing[0]:0{len(m[0])}d}", sample) + " is missing"
            if missing
            else "too many"
        )
        raise DataError(
            f"{archive.path}: joints.mat annotates {count} images, but images/ holds {len(files)} "
            f"({example}); unpack or download the archive again, with joints.mat and images/ from "
            "the same archive"
        )
    return [files[number] for number in numbers]


def _check_flags(
    name: str, archive: Archive, points_px: NDArray[np.float64], flags: NDArray[np.bool_]
) -> None:
    """Check the meaning of the flags: "occluded" in LSP, "labelled" in LSPET.

    LSPET's unlabelled joints have a coordinate of 0 or less (all 16,787 with flag 0).
    """
    given: NDArray[np.bool_] = np.all(points_px > 0, axis=-1)
    flagged = given[flags].mean() if flags.any() else 1.0
    unflagged = given[~flags].mean() if not flags.all() else float(name == "lsp")
    if name == "lsp":
        wrong = unflagged < 0.5
        meaning, other = "1 = occluded, all coordinates given", "lspet"
    else:
        wrong = flagged < 0.5 or (unflagged > 0.5 and flags.mean() < 0.5)
        meaning, other = "1 = labelled, 0 = no coordinates", "lsp"
    if wrong:
        raise DataError(
            f"{archive.path}: the flags of joints.mat are not those of {name} ({meaning}): "
            f"{flags.mean():.0%} of the joints have flag 1, {flagged:.0%} of these and "
            f"{unflagged:.0%} of the others have positive coordinates; if this is the archive of "
            f"{other}, type data={other}"
        )


def _check_scale(
    archive: Archive, points_px: NDArray[np.float64], sizes_px: NDArray[np.int64]
) -> None:
    """Check that coordinates and images have the same scale: LSP exists in two sizes."""
    labelled = np.isfinite(points_px).any((-1, -2))
    points, sizes = points_px[labelled], sizes_px[labelled]
    if not len(points):
        raise DataError(f"{archive.path}: joints.mat labels no joint at all; use the official one")
    reach = np.nanmax(points, axis=1) / sizes  # a person in the middle reaches past the middle
    outside = float((reach > 1.05).any(1).mean())
    middle = float(np.median(reach, axis=0).max())
    if outside > 0.1 or middle < 0.5:
        fault = (
            f"{outside:.0%} of the people reach beyond their image"
            if outside > 0.1
            else "the people fill only the upper left part of their images"
        )
        raise DataError(
            f"{archive.path}: joints.mat and the images have different sizes: {fault}. "
            "lsp_dataset_original.zip (full size) and lsp_dataset.zip (small) have different "
            "coordinates; take joints.mat and images/ from the same archive"
        )
