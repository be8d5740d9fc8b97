"""MPII Human Pose: its ``mpii_human_pose_v1_u12_1.mat``, and the JSON files of Simple Baselines.

Sources: M. Andriluka et al., CVPR 2014; the fields are described at human-pose.mpi-inf.mpg.de,
"Download"; Simple Baselines (human-pose-estimation.pytorch), ``lib/dataset/mpii.py``.

- **Pixels.** MATLAB's first pixel is 1, in both kinds of files; 1 is subtracted, as Simple
  Baselines does ("MPII uses matlab format, index is based 1").
- **Joints** by id, left is the person's own. To LSP14: ``upper_neck`` is the neck; ``pelvis`` and
  ``thorax`` have no counterpart.
- **Visibility.** ``.mat``: ``is_visible`` 0 is occluded; where it is missing or empty, as for head
  top and upper neck, the joint counts as visible; a joint that has no point is unlabelled. JSON:
  ``joints_vis`` tells labelled from not, occlusion is not in it.
- **Box**: the square of 200 · scale pixels around the person's centre, moved down by 15 · scale "to
  avoid cropping limbs" (Simple Baselines); with ``data.box_scale=1.25`` that is their crop. People
  without centre and scale have the box of their joints.
- **Head**, by which PCKh divides: the diagonal of its box. ``.mat``: ``x1`` to ``y2``. The JSON
  files have none; ``headboxes_src`` of ``gt_valid.mat`` beside ``valid.json`` has those of its
  people, in their order.
- **Left out** and counted: people of test images (``img_train`` 0: their joints are not public),
  people without ``annopoints``, with fewer than `min_joints` joints, and up to 1 % of photographs
  that are missing (the archive lacks a few).
- **Ids**: ``STEM_NUMBER`` as ``015601864_1``. ``.mat``: the person's index in ``annorect``, from 1;
  JSON: the number among the people of that photograph, from 1, in the order of the files.
- **Subsets.** ``.mat``: everybody who has joints is in ``train``, so the split is a seeded one.
  JSON: ``train.json`` and ``valid.json``, the split of Tompson et al. that everybody validates
  with; with ``data.split=official`` the latter is the test.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convpose.bounded import MAX_BYTES, parse_json, read_file
from convpose.data.annotation import AnnotatedPerson
from convpose.data.reading import field, many, number, read_variable, stem_of, subset_of
from convpose.data.reading.person_source import People, PeopleSource
from convpose.errors import DataError
from convpose.skeleton import MPII16

log = logging.getLogger(__name__)
ORIGIN_PX = 1.0
_K = MPII16.num_keypoints
_REMEDY_MAT = "use mpii_human_pose_v1_u12_1.mat of mpii_human_pose_v1_u12_2.zip"
HEAD_FILES = ("gt_valid.mat", "mpii_gt_val.mat")  # of Simple Baselines and HRNet, of mmpose
_REMEDY_JSON = "use train.json and valid.json of Simple Baselines or HRNet (data/mpii/annot)"


class MpiiSource(PeopleSource):
    """People of MPII's own ``.mat`` file; see `PeopleSource` for the arguments."""

    NAME = "mpii"
    STEMS = ("mpii",)
    PATTERNS: Sequence[str] = ("mpii_human_pose_v1_u12*.mat",)
    MISSING_SHARE = 0.01
    BOXES_REACH_OUT = True  # squares around the person

    def read_people(self, file: str, content: bytes, left_out: Counter[str]) -> People:
        """Read a ``.mat`` file."""
        release = read_variable(file, content, "RELEASE", _REMEDY_MAT)
        return MPII16.keypoints, _people(file, release, left_out)


class MpiiJsonSource(MpiiSource):
    """People of the JSON files of Simple Baselines; see `PeopleSource` for the arguments.

    ``trainval.json`` repeats two other files, so the patterns leave it out.
    """

    PATTERNS = ("train.json", "valid.json")

    def read_people(self, file: str, content: bytes, left_out: Counter[str]) -> People:
        """Read a JSON file; people are numbered through all files."""
        entries = parse_json(file, content, _REMEDY_JSON)
        people = _people_of_json(file, entries, self.numbers, left_out)
        if subset_of(file) != "val":
            return MPII16.keypoints, people
        given = self._head_file(file)
        if given is None:
            log.warning(
                "%s: no head boxes, so no PCKh; put gt_valid.mat of the same download beside it, "
                "or type data=mpii for the official .mat",
                file,
            )
            return MPII16.keypoints, people
        heads_px = _heads(*given, len(entries))
        headed = zip(people, heads_px, strict=False)
        return MPII16.keypoints, (replace(person, head_px=d) for person, d in headed)

    def _head_file(self, file: str) -> tuple[str, bytes] | None:
        """Find the file of head boxes beside an annotation file, or in the archive."""
        for path in (Path(file).with_name(name) for name in HEAD_FILES):
            if path.is_file():
                return str(path), read_file(path)
        found = [name for name in self.photos.names() if name.rpartition("/")[2] in HEAD_FILES]
        return (found[0], self.photos.read(found[0], MAX_BYTES)) if found else None


def _people(file: str, release: Any, left_out: Counter[str]) -> Iterator[AnnotatedPerson]:
    images, in_train = many(field(release, "annolist")), many(field(release, "img_train"))
    if not images or len(images) != len(in_train):
        raise DataError(
            f"{file}: expected RELEASE.annolist and RELEASE.img_train of the same length, found "
            f"{len(images)} and {len(in_train)}; {_REMEDY_MAT}"
        )
    for image, train in zip(images, in_train, strict=True):
        name = field(image, "image", "name")
        rectangles = many(field(image, "annorect"))
        if not train:
            left_out["of test images, whose joints are not public"] += len(rectangles)
            continue
        for index, person in enumerate(rectangles, start=1):
            points = many(field(person, "annopoints", "point"))
            if not points:
                left_out["without annopoints"] += 1
                continue
            points_px = np.full((_K, 2), np.nan)
            visibility = np.zeros(_K, dtype=np.uint8)
            for point in points:
                joint = number(point, "id")
                if name is None or joint not in range(_K):
                    raise DataError(
                        f"{file}: person {index} of image {name} has a point with id {joint:g}, "
                        f"expected 0 to {_K - 1} and an image name; {_REMEDY_MAT}"
                    )
                points_px[int(joint)] = number(point, "x"), number(point, "y")
                visibility[int(joint)] = 1 if number(point, "is_visible") == 0 else 2
            centre = np.array([number(person, "objpos", "x"), number(person, "objpos", "y")])
            yield AnnotatedPerson(
                f"{stem_of(name)}_{index}",
                name,
                points_px - ORIGIN_PX,
                visibility,
                _box(centre, number(person, "scale")),
                "train",
                head_px=_head(person),
            )


def _people_of_json(
    file: str, entries: Any, numbers: Counter[str], left_out: Counter[str]
) -> Iterator[AnnotatedPerson]:
    if not isinstance(entries, list):
        raise DataError(
            f"{file}: expected a list of people, found a {type(entries).__name__}; {_REMEDY_JSON}"
        )
    for position, entry in enumerate(entries):
        try:
            name = str(entry["image"])
            numbers[name] += 1
            if "joints" not in entry:  # test.json
                left_out["without joints"] += 1
                continue
            points_px = np.array(entry["joints"], dtype=np.float64)
            labelled = np.array(entry["joints_vis"], dtype=np.float64) > 0
            if points_px.shape != (_K, 2) or labelled.shape != (_K,):
                raise DataError(
                    f"{file}: person {position} has joints {points_px.shape} and joints_vis "
                    f"{labelled.shape}, expected ({_K}, 2) and ({_K},); {_REMEDY_JSON}"
                )
            centre = np.array(entry.get("center") or (np.nan, np.nan), dtype=np.float64)
            scale = entry.get("scale")
            box = _box(centre, float("nan" if scale is None else scale))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{file}: person {position} is not as expected ({type(error).__name__}: {error}): "
                f"image, joints, joints_vis, center and scale; {_REMEDY_JSON}"
            ) from error
        yield AnnotatedPerson(
            f"{stem_of(name)}_{numbers[name]}",
            name,
            points_px - ORIGIN_PX,
            np.where(labelled, 2, 0).astype(np.uint8),
            box,
            subset_of(file),
        )


def _heads(file: str, content: bytes, count: int) -> list[float | None]:
    """Measure the diagonals of ``headboxes_src`` (corner, x or y, person)."""
    boxes = np.asarray(read_variable(file, content, "headboxes_src", _REMEDY_JSON, squeeze=False))
    if boxes.shape != (2, 2, count) or boxes.dtype.kind not in "fiu":
        raise DataError(
            f"{file}: headboxes_src is {boxes.dtype} {boxes.shape}, expected numbers (2, 2, "
            f"{count}) for the {count} people of valid.json; {_REMEDY_JSON} and their gt_valid.mat"
        )
    corners = boxes.astype(np.float64)
    return [float(d) if d > 0 else None for d in np.linalg.norm(corners[1] - corners[0], axis=0)]


def _head(person: Any) -> float | None:
    """Measure the diagonal of the head's box; None where it has none."""
    x1, y1, x2, y2 = (number(person, key) for key in ("x1", "y1", "x2", "y2"))
    diagonal = math.hypot(x2 - x1, y2 - y1)
    return diagonal if diagonal > 0 else None


def _box(centre: NDArray[np.float64], scale: float) -> NDArray[np.float64] | None:
    """Return the person's square; None where centre (−1 in JSON files) or scale is missing."""
    if not (centre > 0).all() or not scale > 0:
        return None
    middle = centre - ORIGIN_PX + (0.0, 15 * scale)
    return np.concatenate([middle - 100 * scale, middle + 100 * scale])
