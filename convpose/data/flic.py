"""Frames Labeled In Cinema (FLIC): upper bodies in films, labelled in ``examples.mat``.

Sources: B. Sapp and B. Taskar, CVPR 2013 (MODEC); ``demo_FLIC.m`` in the archive and
``flip_backwards_facing_groundtruth.m`` in MODEC's code.

- **Joints**: of the 29 columns of ``coords`` (order of ``lookupPart.m``), 11 are annotated:
  shoulders, elbows, wrists, hips, eyes and nose. The others are NaN, and so are joints that could
  not be labelled. To LSP14: eight joints; knees, ankles, neck and head top stay masked.
- **Left and right.** The file has the person's own left, as LSP has. Published results are
  *observer-centric*: the authors' script exchanges left and right of those whose left shoulder and
  left hip both lie left of the right ones in the image, that is, who turn their back ("incorrect
  annotation according to human anatomy", it says), so that everybody counts as seen from the
  front. ``observer_centric: true`` does that, with the script's rule and joints (shoulders, elbows,
  wrists, hips). It is for comparing with published numbers; a network of LSP is person-centric.
- **Visibility**: labelled joints count as visible; occlusion is not in the file.
- **Pixels.** MATLAB's first pixel is 1, and the authors draw the coordinates as they are; so 1 is
  subtracted. Nothing in the file proves it.
- **Box**: the file has none of the whole person (``torsobox`` is a detected torso), so the box is
  drawn around all labelled joints, eyes and nose included.
- **Left out** and counted: who is neither in training nor in test (FLIC-full's ``isbad`` and
  ``isunchecked``), and people with fewer than `min_joints` joints.
- **Ids**: ``STEM_NUMBER`` with the number of the example in the file, from 1, as
  ``2-fast-2-furious-00003571_1``; some frames show several people.
- **Subsets**: ``istrain`` and ``istest``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convpose.data.annotation import AnnotatedPerson
from convpose.data.reading import field, many, number, read_variable, stem_of
from convpose.data.reading.images import Upright
from convpose.data.reading.person_source import People, PeopleSource
from convpose.errors import DataError
from convpose.skeleton import FLIC11, LSP14, Skeleton

ORIGIN_PX = 1.0
COLUMNS = (0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16)  # of the 11 joints, in FLIC11's order
_SWAPPED = [
    FLIC11.mirror[i] if name.endswith(("shoulder", "elbow", "wrist", "hip")) else i
    for i, name in enumerate(FLIC11.keypoints)
]
_REMEDY = "use examples.mat of FLIC.zip or FLIC-full.zip"


class FlicSource(PeopleSource):
    """People of FLIC or FLIC-full; see `PeopleSource` for the other arguments.

    Args:
        observer_centric: exchange left and right of people who turn their back.
    """

    NAME = "flic"
    STEMS = ("FLIC", "FLIC-full", "flic")
    PATTERNS = ("examples.mat",)

    def __init__(
        self,
        source: str | None,
        folder: str = "",
        observer_centric: bool = False,
        annotations: Sequence[str] | None = None,
        images: str | None = None,
        skeleton: Skeleton | Mapping[str, Any] | str = LSP14,
        min_joints: int = 4,
        name: str | None = None,
        upright: Upright | None = None,
        names: Mapping[str, str] | None = None,
        missing: Literal["skip", "refuse"] = "skip",
    ) -> None:
        self._observer_centric, self._num_backs = observer_centric, 0
        where = source, folder, annotations, images
        super().__init__(*where, skeleton, min_joints, name, upright, names, missing=missing)
        self.notes.append(
            f"{self.name}: {self._num_backs:,} people turn their back; left and right are "
            + ("exchanged for them: observer-centric" if observer_centric else "their own")
        )

    def read_people(self, file: str, content: bytes, left_out: Counter[str]) -> People:
        """Read a ``.mat`` file; exchange left and right if that is asked for."""
        examples = many(read_variable(file, content, "examples", _REMEDY))
        people = list(_people(file, examples, left_out))
        backs = [person for person in people if _turns_back(person.points_px)]
        self._num_backs += len(backs)
        for person in backs if self._observer_centric else ():
            person.points_px[:] = person.points_px[_SWAPPED]
            person.visibility[:] = person.visibility[_SWAPPED]
        return FLIC11.keypoints, people


def _people(file: str, examples: list[Any], left_out: Counter[str]) -> Iterator[AnnotatedPerson]:
    for index, example in enumerate(examples, start=1):
        name, coords = field(example, "filepath"), field(example, "coords")
        if not isinstance(name, str) or np.shape(coords) != (2, 29):
            raise DataError(
                f"{file}: examples({index}) has filepath {name} and coords of shape "
                f"{np.shape(coords)}, expected a name and (2, 29); {_REMEDY}"
            )
        train, test = number(example, "istrain") == 1, number(example, "istest") == 1
        if not train and not test:
            left_out["of neither training nor test (isbad or isunchecked)"] += 1
            continue
        points_px = np.array(coords, dtype=np.float64).T[list(COLUMNS)] - ORIGIN_PX
        labelled = np.isfinite(points_px).all(axis=1)
        yield AnnotatedPerson(
            f"{stem_of(name)}_{index}",
            name,
            points_px,
            np.where(labelled, 2, 0).astype(np.uint8),
            subset="train" if train else "test",
        )


def _turns_back(points_px: NDArray[np.float64]) -> bool:
    """Check if left shoulder and left hip lie left of the right ones; NaN counts as no."""
    x = {name: points_px[i, 0] for i, name in enumerate(FLIC11.keypoints)}
    return all(x[f"left_{joint}"] < x[f"right_{joint}"] for joint in ("shoulder", "hip"))
