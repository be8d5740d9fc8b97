"""YOLO-pose, as Ultralytics and Roboflow have it: ``data.yaml``, and a text file a photograph.

Source: docs.ultralytics.com, "Pose Estimation Datasets".

- **Files.** ``data.yaml`` says where the subsets are: ``train: images/train``, or ``train.txt``, a
  list with the path of a photograph a line. The labels of ``images/…/a.jpg`` are in
  ``labels/…/a.txt``.
- **A row** is a person: class, centre, width and height of the box, then x, y and perhaps
  visibility of each keypoint, all in fractions of the upright photograph.
- **Pixels** are COCO's, whose coordinates these tools divide by width and height.
- **Joints** have the names of ``kpt_names``, of the class that ``data.category`` names where those
  of the classes differ; without them COCO's, where the number and ``flip_idx``
  are COCO's, else ``point_1``, ``point_2`` and so on. ``flip_idx`` says what a mirror exchanges.
- **Unlabelled** is visibility 0 or, in files without it, the point 0, 0 or a negative one.
- **Left out** and counted: rows without keypoints, and with ``data.category`` other classes.
- **Ids**: ``STEM_NUMBER``, from 1 in the order of the rows.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from convpose.bounded import parse_yaml
from convpose.config.instantiate import build_skeleton
from convpose.data.annotation import AnnotatedPerson
from convpose.data.reading import PhotoNames, stem_of
from convpose.data.reading.images import framed_size
from convpose.data.reading.person_source import People, PeopleSource
from convpose.data.splits import SUBSETS
from convpose.errors import DataError
from convpose.skeleton import COCO17, Skeleton, spelled

log = logging.getLogger(__name__)
_REMEDY = "expected data.yaml of a pose data set, with kpt_shape: [K, 2 or 3], names, train and val"
_ROW = "class x y width height, then x y, or x y visibility, of each keypoint"


class YoloSource(PeopleSource):
    """People of YOLO's text files; see `PeopleSource` for the arguments."""

    NAME = "yolo"
    PATTERNS = ("data.yaml", "data.yml")
    OTHERS = ("*.yaml",)

    @classmethod
    def own_skeleton(cls, keys: Mapping[str, Any]) -> Skeleton:
        """Build the skeleton that the file describes."""
        file, content = next(iter(cls.find_files(keys)[0].items()))
        facts = _facts(file, content)
        names = keys.get("names") or {}
        joints = [str(names.get(j, j)) for j in _joints(file, facts, keys.get("category"))]
        flip = facts.get("flip_idx")
        pairs = None  # the names tell
        if flip is not None and not any(spelled(j).startswith("left_") for j in joints):
            pairs = [[joints[i], joints[j]] for i, j in enumerate(flip) if i < j]
        skeleton = {"name": Path(file).parent.name or cls.NAME, "keypoints": joints, "pairs": pairs}
        return build_skeleton({k: v for k, v in skeleton.items() if v is not None}, file)

    def read_people(self, file: str, content: bytes, left_out: Counter[str]) -> People:
        """Read the text files that belong to a ``data.yaml``."""
        facts = _facts(file, content)
        joints = _joints(file, facts, self.category)
        return joints, self._people(file, facts, len(joints), left_out)

    def _people(
        self, file: str, facts: dict[str, Any], count: int, left_out: Counter[str]
    ) -> Iterator[AnnotatedPerson]:
        names = self.photos.names()
        stems = {str(PurePosixPath(n).with_suffix("")): n for n in names if not _is_list(n)}
        by_name = PhotoNames(list(stems))
        labels: dict[str, str] = {}  # of photographs
        for name in names:
            if (stem := _photo_of(name)) and labels.setdefault(stem, name) != name:
                raise DataError(
                    f"{self.photos.path}: {labels[stem]} and {name} are both of {stem}; remove one"
                )
        if not labels:
            raise DataError(
                f"{self.photos.path}: no text file in a folder labels; expected labels/…/a.txt for "
                "images/…/a.jpg"
            )
        listed = self._listed(file, facts, by_name)
        classes, told = _classes(facts), set()
        for stem, label in labels.items():
            found = stem if stem in stems else by_name.find(stem)
            photo = stems[found] if found else stem
            called = f"{stem}{PurePosixPath(photo).suffix}" if found else stem  # the base finds it
            size = framed_size(self.photos, photo, self.upright) if found else (1, 1)
            subset = listed.get(found or stem) or _subset(facts, photo)
            told.add(subset)
            self.named.append((called, subset))
            lines = self.photos.read(label).decode("utf-8-sig", "replace").splitlines()
            rows = [(i, line.split()) for i, line in enumerate(lines, start=1) if line.strip()]
            for number, (line, cells) in enumerate(rows, start=1):
                where = f"{self.photos.path}: {label}: line {line}"
                values = _numbers(where, cells)
                category = classes.get(str(int(values[0])), str(int(values[0])))
                if self.category not in (None, category):
                    left_out[f"of another category than {self.category}"] += 1
                    continue
                if len(values) == 5:
                    left_out["without keypoints"] += 1
                    continue
                if len(values) not in (5 + 2 * count, 5 + 3 * count):
                    raise DataError(
                        f"{where} has {len(values)} numbers, expected {_ROW}: {5 + 2 * count} or "
                        f"{5 + 3 * count} for {count} keypoints"
                    )
                points = np.array(values[5:]).reshape(count, -1)
                there = (points[:, :2] >= 0).all(axis=1) & (points[:, :2] > 0).any(axis=1)
                flags = points[:, 2] if points.shape[1] == 3 else np.where(there, 2.0, 0.0)
                if not np.isin(flags, (0, 1, 2)).all():
                    raise DataError(f"{where} has a visibility that is none of 0, 1 and 2")
                centre, sides = np.array(values[1:3]) * size, np.array(values[3:5]) * size
                self.categories[category] += 1
                yield AnnotatedPerson(
                    f"{stem_of(photo)}_{number}",
                    called,
                    points[:, :2] * size,
                    np.asarray(flags, np.uint8),
                    np.concatenate([centre - sides / 2, centre + sides / 2]) - 0.5,
                    subset,
                )
        if told == {None} and (named := [f"{subset}: {e}" for subset, e in _entries(facts)]):
            log.warning(
                "%s: no photograph with labels is in %s, so nobody is of a subset; correct "
                "the paths, or type data.split=seeded",
                *(file, ", ".join(named)),
            )

    def _listed(self, file: str, facts: dict[str, Any], by_name: PhotoNames) -> dict[str, str]:
        """Read the lists of photographs that are there in place of folders: subsets by stem."""
        texts = PhotoNames([name for name in self.photos.names() if _is_list(name)])
        subsets: dict[str, str] = {}
        for subset, entry in _entries(facts):
            if not _is_list(entry):
                continue
            if (name := texts.find(entry)) is None:
                raise DataError(
                    f"{file}: {subset}: {entry} is not in {self.photos.path}; put the list there, "
                    f"or type the folder of the photographs, {subset}: images/{subset}"
                )
            for line in self.photos.read(name).decode("utf-8-sig", "replace").splitlines():
                path = PurePosixPath(_plain(line.strip()))
                if path.name and (photo := by_name.find(str(path.with_suffix("")))):
                    subsets.setdefault(photo, subset)
        return subsets


def _facts(file: str, content: bytes) -> dict[str, Any]:
    facts = parse_yaml(file, content.decode("utf-8", "replace"))
    shape = facts.get("kpt_shape") if isinstance(facts, dict) else None
    if not isinstance(shape, list) or not shape or not isinstance(shape[0], int) or shape[0] < 1:
        raise DataError(f"{file}: {_REMEDY}")
    flip = facts.get("flip_idx")
    if flip is not None and sorted(flip) != list(range(shape[0])):
        raise DataError(f"{file}: flip_idx must have each of 0 to {shape[0] - 1} once")
    assert isinstance(facts, dict)
    return facts


def _joints(file: str, facts: Mapping[str, Any], category: str | None) -> tuple[str, ...]:
    """Name the keypoints of a class."""
    count, names, classes = facts["kpt_shape"][0], facts.get("kpt_names"), _classes(facts)
    if category is not None and classes and category not in classes.values():
        there = ", ".join(classes.values())
        raise DataError(f"{file}: data.category={category}: no such class; there are {there}")
    if isinstance(names, dict):  # by class
        named = {str(number): given for number, given in names.items()}
        own = {name: named.get(number) for number, name in classes.items()} or named
        names = next(iter(own.values()), None) if category is None else own.get(category)
        if category is None and any(given != names for given in own.values()):
            raise DataError(
                f"{file}: the kpt_names of the classes {', '.join(own)} differ; type "
                f"data.category={next(iter(own))}, or another of them"
            )
    if isinstance(names, list) and len(names) == count:
        return tuple(map(str, names))
    if facts.get("flip_idx") == list(COCO17.mirror):
        return COCO17.keypoints
    return tuple(f"point_{i}" for i in range(1, count + 1))


def _classes(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the classes by number."""
    names = facts.get("names") or {}
    named = dict(enumerate(names)) if isinstance(names, list) else names
    return {str(number): str(name) for number, name in named.items()}


def _photo_of(label: str) -> str:
    """Return the path of the photograph of a text file, without its ending; else nothing."""
    path = PurePosixPath(label)
    folders = [folder.casefold() for folder in path.parts[:-1]]
    if path.suffix.casefold() != ".txt" or "labels" not in folders:
        return ""
    last = len(folders) - 1 - folders[::-1].index("labels")
    return str(PurePosixPath(*path.parts[:last], "images", *path.parts[last + 1 :]).with_suffix(""))


def _subset(facts: Mapping[str, Any], photo: str) -> str | None:
    """Return the subset whose folder holds a photograph, if one does."""
    folder = f"/{PurePosixPath(photo).parent}".casefold()
    for subset, entry in _entries(facts):
        end = f"/{entry}".casefold()
        if folder.endswith(end) or end.endswith(folder):
            return subset
    return None


def _entries(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """List the folders and lists of each subset."""
    for subset in SUBSETS:
        given = facts.get(subset)
        for entry in given if isinstance(given, list) else [given]:
            if path := _plain(str(entry or "")):
                yield subset, path


def _plain(path: str) -> str:
    """Write a path without dots and without a slash before it."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return "/".join(part for part in parts if part not in ("..", ".", "/"))


def _is_list(name: str) -> bool:
    return name.casefold().endswith(".txt")


def _numbers(where: str, cells: Sequence[str]) -> list[float]:
    try:
        values = [float(cell) for cell in cells]
    except ValueError as error:
        raise DataError(f"{where}: {error}; expected {_ROW}") from error
    if len(values) < 5 or not np.isfinite(values).all() or values[0] < 0:
        raise DataError(f"{where}: expected {_ROW}")
    return values
