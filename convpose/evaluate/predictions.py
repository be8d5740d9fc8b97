"""Save, load and check predicted keypoints, as `convpose.evaluate` writes and scores them.

The file is an ``.npz`` with ``image_id`` (N,) str, the file stems (``im1001``), ``keypoints_px``
(N, K, 2) in pixels of the image file, and optionally ``scores`` (N, K), probabilities. Other
programs can write these arrays to be scored here, so every mistake has a message of its own.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convpose.bounded import MAX_BYTES, UNEXPECTED
from convpose.errors import DataError
from convpose.files import replacing
from convpose.skeleton import Skeleton

DAMAGED = (zipfile.BadZipFile, zlib.error, SyntaxError)
FORMAT = "image_id (N,) str, keypoints_px (N, K, 2) and, if you like, scores (N, K)"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predicted keypoints of N images.

    Attributes:
        image_id: (N,) str, the file stems.
        keypoints_px: (N, K, 2) float32 in pixels of the image file.
        scores: (N, K) float32 from 0 to 1, or None.
    """

    image_id: NDArray[np.str_]
    keypoints_px: NDArray[np.float32]
    scores: NDArray[np.float32] | None = None

    def save(self, path: Path) -> None:
        """Write the ``.npz`` at exactly `path`; a reader sees the old file or the whole new one."""
        arrays = {"image_id": self.image_id, "keypoints_px": self.keypoints_px}
        if self.scores is not None:
            arrays["scores"] = self.scores
        with replacing(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read a file and check its arrays; `match` checks their values.

        Raises:
            DataError: no such file, not an ``.npz``, a missing or pickled array, a wrong shape or
                dtype.
        """
        arrays = _read_arrays(path)
        for name in ("image_id", "keypoints_px"):
            if name not in arrays:
                found = ", ".join(arrays) or "none"
                raise DataError(f"{path} has no array '{name}' (found: {found}). Save {FORMAT}.")
        ids = arrays["image_id"]
        keypoints_px = _float32(path, arrays, "keypoints_px")
        if ids.ndim != 1 or ids.dtype.kind != "U":
            raise DataError(
                f"{path}: 'image_id' must be (N,) str, got {ids.shape} {ids.dtype}. "
                "Save the file stems, such as 'im1001', as np.array(stems, dtype=str)."
            )
        if keypoints_px.ndim != 3 or keypoints_px.shape[2] != 2 or len(keypoints_px) != len(ids):
            raise DataError(
                f"{path}: 'keypoints_px' must be (N, K, 2) with N = {len(ids)} as 'image_id' has, "
                f"got {keypoints_px.shape}. Save one (x, y) per keypoint and image."
            )
        if "scores" not in arrays:
            return cls(ids.astype(np.str_), keypoints_px)
        scores = _float32(path, arrays, "scores")
        if scores.shape != keypoints_px.shape[:2]:
            raise DataError(
                f"{path}: 'scores' must be {keypoints_px.shape[:2]} as 'keypoints_px' has, "
                f"got {scores.shape}. Save one score per keypoint, or leave the array out."
            )
        return cls(ids.astype(np.str_), keypoints_px, scores)


def match(
    predictions: Predictions, image_ids: Sequence[str], skeleton: Skeleton, where: Path
) -> Predictions:
    """Bring predictions into the order of a subset, which they must cover exactly.

    Args:
        predictions: as `Predictions.load` read them.
        image_ids: the N ids of the subset.
        skeleton: gives K and the keypoint names of messages.
        where: the file that messages name.

    Raises:
        DataError: another number of keypoints, an id twice, unknown or missing, a value that is NaN
            or infinite, a score that is no probability.
    """
    if predictions.keypoints_px.shape[1] != skeleton.num_keypoints:
        raise DataError(
            f"{where}: 'keypoints_px' has {predictions.keypoints_px.shape[1]} keypoints per image, "
            f"{skeleton.name} has {skeleton.num_keypoints}: {', '.join(skeleton.keypoints)}."
        )
    found = predictions.image_id.tolist()
    twice = [image_id for image_id, count in Counter(found).items() if count > 1]
    if twice:
        raise DataError(
            f"{where}: 'image_id' holds {_listed(twice)} more than once. Save one row per image."
        )
    unknown = sorted(set(found) - set(image_ids))
    if unknown:
        raise DataError(
            f"{where}: 'image_id' holds {_listed(unknown)}, unknown to this subset of "
            f"{len(image_ids)} images (such as {', '.join(image_ids[:1])}). Choose the data and "
            "split that were predicted, or leave these rows out."
        )
    row = {image_id: i for i, image_id in enumerate(found)}
    missing = [image_id for image_id in image_ids if image_id not in row]
    if missing:
        raise DataError(
            f"{where}: 'image_id' lacks {_listed(missing)} of the {len(image_ids)} images of this "
            "subset, and a score holds only over all of them. Predict these too."
        )
    _check_finite("keypoints_px", predictions.keypoints_px, found, skeleton, where)
    if predictions.scores is not None:
        _check_finite("scores", predictions.scores, found, skeleton, where)
        low, high = predictions.scores.min(), predictions.scores.max()
        if low < 0 or high > 1:
            raise DataError(
                f"{where}: 'scores' go from {low:.3g} to {high:.3g}. Save probabilities from 0 to "
                "1, or leave the array out if they are none."
            )
    order = [row[image_id] for image_id in image_ids]
    scores = None if predictions.scores is None else predictions.scores[order]
    return Predictions(predictions.image_id[order], predictions.keypoints_px[order], scores)


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file. Give the .npz that holds {FORMAT}.")
    try:
        with path.open("rb") as file:  # ours to close: np.load leaves a broken one open
            if zipfile.is_zipfile(file):
                _check_sizes(path, zipfile.ZipFile(file))
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.lib.npyio.NpzFile):
                return {name: loaded[name] for name in loaded.files}
        raise DataError(f"{path} is a single array, not an .npz. Use np.savez with {FORMAT}.")
    except (*UNEXPECTED, OSError, EOFError, MemoryError, NotImplementedError, *DAMAGED) as error:
        if "allow_pickle" in str(error) and zipfile.is_zipfile(path):
            raise DataError(
                f"{path} holds pickled objects, which are never loaded (they can run code). "
                f"Save plain arrays: {FORMAT}."
            ) from error
        raise DataError(
            f"{path} is not a readable .npz file ({error}). Use np.savez with {FORMAT}."
        ) from error


def _check_sizes(path: Path, file: zipfile.ZipFile) -> None:
    """Refuse arrays that unpack to more than anybody's predictions are."""
    size = sum(member.file_size for member in file.infolist())
    if size > MAX_BYTES:
        raise DataError(f"{path}: unpacks to {size:,} bytes, no predictions are so large")


def _float32(path: Path, arrays: dict[str, NDArray[np.generic]], name: str) -> NDArray[np.float32]:
    if arrays[name].dtype.kind not in "fiu":
        raise DataError(f"{path}: '{name}' must be numbers (float32), got {arrays[name].dtype}.")
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, which `match` names
        return arrays[name].astype(np.float32)


def _check_finite(
    name: str, values: NDArray[np.float32], ids: list[str], skeleton: Skeleton, where: Path
) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        image, keypoint = bad[0][:2]
        raise DataError(
            f"{where}: {len(bad)} values of '{name}' are NaN or infinite, first "
            f"{skeleton.keypoints[keypoint]} of {ids[image]}. Every keypoint needs a guess; "
            "a prediction that diverged cannot be scored."
        )


def _listed(ids: list[str], shown: int = 5) -> str:
    more = f" and {len(ids) - shown} more" if len(ids) > shown else ""
    return ", ".join(ids[:shown]) + more
