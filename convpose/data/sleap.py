"""Labels that sleap-io reads: SLEAP's ``.slp``, DeepLabCut's ``.csv``, NWB, JABS, LEAP and others.

Source: io.sleap.ai, ``load_file``. It comes with ``convpose[formats]``.

- **Frames** are images that the labels name, or frames of videos, or lie in the file itself
  (``.pkg.slp``). They are looked for where the labels say, else below their folder.
- **Pixels** have their centres at integers, as sleap-io gives them.
- **Joints** are the nodes of the skeleton, its edges the limbs, its symmetries the mirror pairs. Of
  several skeletons ``data.category`` names one. A point that is not there is unlabelled.
- **Left out** and counted: what a network has predicted and nobody corrected; a file with nothing
  else, such as every file of JABS, is read, with a warning.
- **Ids**: ``STEM_NUMBER``, from 1 in the order of a frame's animals.
"""

import importlib
import io
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image as PillowImage

from convpose.bounded import UNEXPECTED
from convpose.config.instantiate import build_skeleton
from convpose.data.annotation import AnnotatedPerson
from convpose.data.reading import stem_of
from convpose.data.reading.archive import MAX_FILE_BYTES, Archive, open_archive
from convpose.data.reading.person_source import People, PeopleSource
from convpose.errors import DataError, require_extra
from convpose.skeleton import Skeleton

log = logging.getLogger(__name__)


class SleapSource(PeopleSource):
    """Animals and people of a file that sleap-io reads; see `PeopleSource` for the arguments."""

    NAME = "sleap"
    UPRIGHT = "stored"

    @classmethod
    def find_files(
        cls, keys: Mapping[str, Any], name: str | None = None
    ) -> tuple[dict[str, bytes], Archive]:
        """Return the path of the labels, and their frames."""
        frames = FrameArchive(str(keys.get("source") or ""))
        images = keys.get("images")
        return {str(frames.path): b""}, open_archive(images) if images else frames

    @classmethod
    def own_skeleton(cls, keys: Mapping[str, Any]) -> Skeleton:
        """Build the skeleton of the labels."""
        path = Path(str(keys.get("source") or ""))
        skeleton = _skeleton(path, load_labels(path), keys.get("category"))
        names = keys.get("names") or {}
        joints = [str(names.get(joint, joint)) for joint in skeleton.node_names]
        facts: dict[str, Any] = {"name": skeleton.name or path.stem, "keypoints": joints}
        facts["limbs"] = [[joints[a], joints[b]] for a, b in skeleton.edge_inds]
        if skeleton.symmetries:
            pairs = (sorted(skeleton.index(n) for n in pair.nodes) for pair in skeleton.symmetries)
            facts["pairs"] = [[joints[a], joints[b]] for a, b in pairs]
        return build_skeleton(facts, str(path))

    def read_people(self, file: str, content: bytes, left_out: Counter[str]) -> People:
        """Read the labels."""
        labels = load_labels(Path(file))
        skeleton = _skeleton(Path(file), labels, self.category)
        return tuple(skeleton.node_names), _people(labels, Path(file), skeleton, left_out)


class FrameArchive(Archive):
    """Frames of labels as if they were files; those of videos are PNG images.

    Args:
        path: of the labels. Each process opens its videos anew.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        self._opened: tuple[int, Any] | None = None
        labels, folder = self._labels(), self.path.parent
        try:
            self._frames = {
                _frame_name(labels, f, folder): (labels.videos.index(f.video), f.frame_idx)
                for f in labels
            }
        except UNEXPECTED as error:
            raise DataError(f"{self.path}: a frame of no image or video ({error})") from error
        self._members = {name: name for name in self._frames}

    def open(self, name: str, limit: int = MAX_FILE_BYTES) -> IO[bytes]:
        """Open a frame; DataError if there is none, or no such video."""
        if name not in self._frames:
            raise DataError(f"{self.path}: {name} is missing")
        video, index = self._frames[name]
        try:
            if isinstance(self._labels().videos[video].filename, list):
                return self._find(name).open("rb")
            pixels = np.asarray(self._labels().videos[video][index])
            png = io.BytesIO()
            PillowImage.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))).save(png, "PNG")
            png.seek(0)
            return png
        except Exception as error:  # of sleap-io and of the libraries that decode for it
            raise DataError(
                f"{self.path}: {name} cannot be read ({error}); put images and videos where the "
                "labels say, or save the labels with their frames, as .pkg.slp"
            ) from error

    def _find(self, name: str) -> Path:
        """Find a file where the labels say, else below their folder, by the end of its path."""
        parts = Path(name.replace("\\", "/")).parts
        ends = [self.path.parent / Path(*parts[i:]) for i in range(len(parts))]
        return next((path for path in (Path(name), *ends) if path.is_file()), Path(name))

    def _labels(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            labels = load_labels(self.path)
            names: dict[Path, str] = {}
            for video in labels.videos:
                files = video.filename
                for name in [files] if isinstance(files, str) else files:
                    path = self._find(name)
                    if path.is_file() and names.setdefault(path, name) != name:
                        raise DataError(
                            f"{self.path}: {names[path]} and {name} would both be {path}; put "
                            "images and videos where the labels say"
                        )
            for video in (v for v in labels.videos if isinstance(v.filename, str)):
                if (found := str(self._find(video.filename))) != video.filename:
                    video.replace_filename(found)
            self._opened = os.getpid(), labels
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def load_labels(path: Path) -> Any:
    """Load ``sleap_io.Labels``.

    Raises:
        ConfigError: sleap-io is not installed.
        DataError: no such file, or none that sleap-io reads.
    """
    require_extra("formats", "sleap_io")
    sleap_io: Any = importlib.import_module("sleap_io")  # a second, and an extra
    path = path.expanduser()
    if not path.is_file():  # it would fetch what looks like a URL
        raise DataError(f"data.source={path}: no such file; type the path of the labels, MINE.slp")
    try:
        labels = sleap_io.load_file(str(path))
    except Exception as error:  # of a dozen readers
        raise DataError(f"{path}: not a file that sleap-io reads ({error})") from error
    if not isinstance(labels, sleap_io.Labels) or not labels.skeletons:
        raise DataError(f"{path}: no labels with a skeleton in it")
    return labels


def _skeleton(path: Path, labels: Any, wanted: str | None) -> Any:
    names = [str(skeleton.name) for skeleton in labels.skeletons]
    if wanted is None and len(names) == 1:
        return labels.skeletons[0]
    if wanted not in names:
        raise DataError(
            f"{path}: type data.category= with one of its skeletons, {', '.join(names)}"
        )
    return labels.skeletons[names.index(wanted)]


def _frame_name(labels: Any, frame: Any, folder: Path) -> str:
    """Name a frame, from the folder of the labels; those of a video are in a folder of its name."""
    if isinstance(frame.video.filename, list):
        image = Path(frame.video.filename[frame.frame_idx])
        inside = image.is_relative_to(folder)
        return (image.relative_to(folder) if inside else image).as_posix()
    number = labels.videos.index(frame.video)
    return f"{Path(frame.video.filename).stem}-{number}/{frame.frame_idx:06d}.png"


def _people(
    labels: Any, file: Path, skeleton: Any, left_out: Counter[str]
) -> Iterator[AnnotatedPerson]:
    predicted = not any(frame.user_instances for frame in labels)
    if predicted:
        log.warning("%s: nobody has corrected these labels, a network has predicted them", file)
    folder = file.parent
    for frame in labels:
        name = _frame_name(labels, frame, folder)
        found = frame.predicted_instances if predicted else frame.user_instances
        left_out["whom a network has predicted"] += len(frame.predicted_instances) * (not predicted)
        others = [one for one in found if one.skeleton is not skeleton]
        left_out["of another category"] += len(others)
        own = [one for one in found if one.skeleton is skeleton]
        for number, one in enumerate(own, start=1):
            points_px = np.asarray(one.numpy(), np.float64)
            known = np.isfinite(points_px).all(axis=1)
            flags = np.where(known, 2, 0).astype(np.uint8)
            yield AnnotatedPerson(f"{stem_of(name)}_{number}", name, points_px, flags)
