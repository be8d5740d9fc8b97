"""Common base of the readers of COCO, MPII, FLIC and CSV files: people in photographs.

A reader subclasses `PeopleSource` and turns its files into `AnnotatedPerson` records. The base
class finds the photographs, maps joints, drops people with too few; each is an annotation.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convpose.bounded import UNEXPECTED
from convpose.config.instantiate import build_skeleton
from convpose.data.annotation import (
    AnnotatedPerson,
    Annotation,
    check_reach,
    find_doubts,
    joint_notes,
    listed,
    mapped,
)
from convpose.data.reading import PhotoNames, find_files, find_folder, renamed
from convpose.data.reading.archive import Archive
from convpose.data.reading.images import Upright, place_in_frames, read_photo
from convpose.errors import DataError
from convpose.geometry import Affine, Image, identity
from convpose.skeleton import LSP14, Skeleton, counterparts

log = logging.getLogger(__name__)
People = tuple[Sequence[str], Iterable[AnnotatedPerson]]  # names of the J joints, and the people


class PeopleSource:
    """Base of the readers: a `PoseSource` of people whose photographs lie in an archive.

    Joints are mapped by name (`convpose.skeleton.counterparts`): joints that the file lacks are
    masked (visibility 0), joints that the skeleton lacks are left out. A person without a box gets
    one around all joints of the file, so that a face that the skeleton lacks stays in the crop.

    Args:
        source: an annotation file, or the folder or zip that holds it and the photographs; None
            looks for `STEMS` in `folder`.
        folder: the data folder (``CONVPOSE_DATA``).
        annotations: patterns of the annotation files in a folder or zip; None: `PATTERNS`.
        images: folder or zip of the photographs; None: where the annotation files are.
        skeleton: that the joints are mapped to; or its name, file or mapping.
        min_joints: people with fewer labelled joints of that skeleton are left out.
        name: of the data set; None: `NAME`.
        upright: ``exif`` turns photographs as EXIF says, ``stored`` does not, ``auto`` decides by
            the sizes in the file, else turns them; None: `UPRIGHT`.
        names: keypoints of the skeleton by the names that the files have for them, where these
            differ by more than spelling.
        category: whose people are read, by name, of a file with several; None: the only one.
        missing: ``skip`` leaves out people whose photograph is missing, and says how many;
            ``refuse`` raises an error.

    Attributes:
        annotations: all people who were kept, in the order of the files.
        notes: what was mapped, masked and left out, a sentence each.
        doubts: labels that are hardly meant, a sentence a kind.
        numbers: people by photograph, of a reader that counts them through all files.
        categories: people by category, of a reader that reads several as one.
        named: files and subsets of photographs, of a reader whose labels name some without people.

    Raises:
        ConfigError: unknown skeleton.
        DataError: files or photographs are missing, a file has another structure, nobody is left,
            or an id occurs twice. The message names file, expectation and remedy.
    """

    NAME = ""  # of the data set
    STEMS: Sequence[str] = ()  # names of its folder or zip
    PATTERNS: Sequence[str] = ()  # of its annotation files
    OTHERS: Sequence[str] = ()  # of those of other tools, one after the other where there are none
    MISSING_SHARE = 0.0  # people whose photograph may be missing; they are left out
    BOXES_REACH_OUT = False  # True: a box may reach beyond the photograph
    UPRIGHT: Upright = "auto"  # what upright=null means

    def __init__(
        self,
        source: str | None,
        folder: str = "",
        annotations: Sequence[str] | None = None,
        images: str | None = None,
        skeleton: Skeleton | Mapping[str, Any] | str = LSP14,
        min_joints: int = 4,
        name: str | None = None,
        upright: Upright | None = None,
        names: Mapping[str, str] | None = None,
        category: str | None = None,
        missing: Literal["skip", "refuse"] = "skip",
    ) -> None:
        self.name = name or self.NAME
        self.category = category
        self.upright: Upright = upright or self.UPRIGHT
        where = {"source": source, "folder": folder, "annotations": annotations, "images": images}
        files, self.photos = self.find_files(where, self.name)
        self.target, self.other_names = build_skeleton(skeleton), dict(names or {})
        self.numbers: Counter[str] = Counter()
        self.categories: Counter[str] = Counter()
        self.named: list[tuple[str, str | None]] = []
        left_out: Counter[str] = Counter()
        joints, people, halves = self._read(files, left_out)
        called = renamed(joints, self.other_names, self.target)
        index = np.array(counterparts(called, self.target))
        kept = mapped(people, index, max(1, min_joints))
        few = f"with fewer than {min_joints} labelled joints of {self.target.name}"
        left_out = left_out + Counter({few: len(people) - len(kept)})
        shown = self._with_photos(people, kept, missing)
        left_out += Counter({"whose photograph is missing": len(kept) - len(shown)})
        self._check_people(shown, people, joints, index, left_out)
        shown, self.doubts = place_in_frames(self.name, self.photos, shown, self.upright)
        self.annotations = [self.annotate(person) for person in shown]
        keypoints = self.target.keypoints
        self.doubts += find_doubts(self.annotations, keypoints, self.BOXES_REACH_OUT)
        boxed = [(p.image_id, p.box_px) for p in people if p.box_px is not None]
        turned = [image_id for image_id, box in boxed if (box[2:] < box[:2]).any()]
        kinds = (
            ("boxes that end before they begin (x, y, width, height in place of x0, …?)", turned),
            ("joints that have x without y, or y without x, and so are unlabelled", halves),
        )
        self.doubts += [f"{self.name}: {listed(kind, found)}" for kind, found in kinds if found]
        self.notes = joint_notes(self.name, joints, self.target, index, left_out)
        if len(self.categories) > 1:
            several = ", ".join(f"{category} ({n:,})" for category, n in self.categories.items())
            one = "data.category=NAME reads one alone"
            self.notes.append(f"{self.name}: read as one: {several}; {one}")

    def _read(
        self, files: Mapping[str, bytes], left_out: Counter[str]
    ) -> tuple[Sequence[str], list[AnnotatedPerson], list[str]]:
        """Read all files: their joints, which must agree, the people, and points without x or y."""
        joints: Sequence[str] = ()
        people: list[AnnotatedPerson] = []
        halves: list[str] = []
        for file, content in files.items():
            try:
                own, found = self.read_people(file, content, left_out)
                found = list(found)
            except UNEXPECTED as error:
                reason = f"{type(error).__name__}: {error}"
                raise DataError(f"{file}: not as {self.NAME} has it ({reason})") from error
            if joints and own != joints:
                raise DataError(
                    f"{file}: its joints ({', '.join(own)}) are not those of the other files "
                    f"({', '.join(joints)}); type data.source= with the path of one file"
                )
            joints = own
            halves += _check_points(file, joints, found)
            people += found
        return joints, people, halves

    def _with_photos(
        self, people: Sequence[AnnotatedPerson], kept: Sequence[AnnotatedPerson], missing: str
    ) -> list[AnnotatedPerson]:
        """Give those who are kept their photograph's name in the archive; leave out the others.

        All people count for whether a name is unique.
        """
        names = PhotoNames(self.photos.names())
        there = names.find_all([*((p.file, p.subset) for p in people), *self.named])
        pairs = [(person, there[person.file, person.subset]) for person in kept]
        lost = [(person.file, person.subset) for person, file in pairs if file is None]
        shown = [replace(person, file=file) for person, file in pairs if file is not None]
        if len(lost) > self.MISSING_SHARE * len(pairs):
            message = (
                f"{self.photos.path}: the photographs of {len(lost)} of {len(pairs)} people of "
                f"{self.name} are missing or not unique, the first is {lost[0][0]}"
                f"{names.hint(*lost[0])}; unpack or download them again, or name the folder or zip "
                f"that holds them with data.sources.{self.name}.images="
            )
            if missing == "refuse" or not shown:
                raise DataError(message)
            log.warning("%s; the others are read, data.missing=refuse stops instead", message)
        return shown

    def _check_people(
        self,
        shown: Sequence[AnnotatedPerson],
        people: Sequence[AnnotatedPerson],
        joints: Sequence[str],
        index: NDArray[np.int64],
        left_out: Counter[str],
    ) -> None:
        """Refuse a data set of nobody, and ids that occur more than once."""
        name, target, path = self.name, self.target, self.photos.path
        if not shown and people and (index < 0).all():
            raise DataError(
                f"{path}: none of the joint names of {name} is one of {target.name}: "
                f"{', '.join(joints)}; {target.name} has {', '.join(target.keypoints)}; type "
                "data.names={JOINT: KEYPOINT}, or data.skeleton=category for the file's own joints"
            )
        if not shown:
            reasons = ", ".join(f"{n:,} {why}" for why, n in left_out.items()) or "there are none"
            raise DataError(
                f"{path}: no people left of {name} for {target.name} ({reasons}); its joints are "
                f"{', '.join(joints)}; type data.skeleton=category for its own, "
                "data.names={JOINT: KEYPOINT} for other names, or a lower "
                f"data.sources.{name}.min_joints="
            )
        twice = [image_id for image_id, n in Counter(p.image_id for p in shown).items() if n > 1]
        if twice:
            raise DataError(
                f"{name}: {len(twice)} ids occur more than once, the first is {twice[0]}; give "
                "each photograph a name of its own, or name one annotation file only"
            )

    @classmethod
    def locate(cls, keys: Mapping[str, Any]) -> None:
        """Find the folder or file of these arguments; raise what the constructor would."""
        source, folder = keys.get("source"), keys.get("folder") or ""
        if source is None and cls.STEMS:
            find_folder(cls.NAME, Path(folder), cls.STEMS)
        elif source is None or not Path(source).expanduser().exists():
            cls.find_files(keys)

    @classmethod
    def find_files(
        cls, keys: Mapping[str, Any], name: str | None = None
    ) -> tuple[dict[str, bytes], Archive]:
        """Find the files of these arguments; see `convpose.data.reading.find_files`."""
        patterns = list(keys.get("annotations") or cls.PATTERNS)
        others = cls.OTHERS if patterns == list(cls.PATTERNS) else ()
        where = keys.get("source"), keys.get("folder") or "", cls.STEMS
        return find_files(name or cls.NAME, *where, patterns, keys.get("images"), others)

    def read_people(self, file: str, content: bytes, left_out: Counter[str]) -> People:
        """Turn an annotation file into people; each reader has its own.

        Args:
            file: path, for messages.
            content: of the file.
            left_out: count here whom the reader leaves out, by reason.

        Raises:
            DataError: the file has another structure.
        """
        raise NotImplementedError

    @classmethod
    def own_skeleton(cls, keys: Mapping[str, Any]) -> Skeleton | None:
        """Build the skeleton that the files themselves describe; None if they describe none.

        Args:
            keys: arguments of the class by name.

        Raises:
            DataError: see the class.
        """
        return None

    def annotate(self, person: AnnotatedPerson) -> Annotation:
        """Make the annotation of a person whose photograph and frame are known."""
        size_px = person.size_px or (0, 0)  # `place_in_frames` has found it
        labels = person.points_px.astype(np.float32), person.visibility.astype(np.uint8)
        same = ("box_px", "file", "subset", "upright", "head_px")
        others: dict[str, Any] = {name: getattr(person, name) for name in same}
        return Annotation(person.image_id, self.name, *size_px, *labels, **others)

    def read_image(self, index: int) -> tuple[Image, Affine]:
        """Decode the photograph of ``annotations[index]``: (H, W, 3) uint8 RGB, and the identity.

        Raises:
            DataError: missing, damaged, or of another size than the annotations say.
        """
        annotation = self.annotations[index]
        size = (annotation.height_px, annotation.width_px)
        file = str(annotation.file)
        image = stored = read_photo(self.photos, file, annotation.upright is True)
        if image.shape[:2] != size and annotation.upright is None:  # it had no orientation before
            image = read_photo(self.photos, file, upright=True)
        if image.shape[:2] != size:
            raise DataError(
                f"{self.photos.path}: {file} has {stored.shape[1]}×{stored.shape[0]} pixels, its "
                f"annotation says {size[1]}×{size[0]}; take photographs and annotations from "
                "the same archive"
            )
        return image, identity()


def _check_points(file: str, joints: Sequence[str], people: Sequence[AnnotatedPerson]) -> list[str]:
    """Refuse points and boxes that lie where no photograph is; list points with one coordinate."""
    if not people:
        return []
    ids = [person.image_id for person in people]
    boxes = np.stack([np.full(4, np.nan) if p.box_px is None else p.box_px for p in people])
    points_px = np.stack([person.points_px for person in people])
    visibility = np.stack([p.visibility for p in people])
    check_reach(file, ids, joints, points_px, visibility)
    corners_px = boxes.reshape(-1, 2, 2)
    check_reach(file, ids, ("the box", "the box"), corners_px, np.ones((len(boxes), 2), np.uint8))
    half = np.argwhere((np.isfinite(points_px).sum(axis=2) == 1) & (visibility > 0))
    return [f"{joints[k]} of {ids[i]}" for i, k in half]
