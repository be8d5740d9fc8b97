"""Frames Labeled In Cinema (FLIC): upper bodies in films, of ``examples.mat``.

Sources: B. Sapp and B. Taskar, CVPR 2013 (MODEC); ``demo_FLIC.m`` in the archive and
``flip_backwards_facing_groundtruth.m`` in MODEC's code.

- **Joints**: of the 29 columns of ``coords`` (order of ``lookupPart.m``), 11 are annotated:
  shoulders, elbows, wrists, hips, eyes and nose. The others are NaN, and so is what could not be
  labelled. To LSP14: eight joints; knees, ankles, neck and head top stay masked.
- **Left and right.** The file has the person's own left, as LSP has. Published results are
  *observer-centric*: the authors' script exchanges left and right of those whose left shoulder and
  left hip both lie left of the right ones in the image, that is, who turn their back ("incorrect
  annotation according to human anatomy", it says), so that everybody counts as seen from the
  front. ``observer_centric: true`` does that, with the script's rule and joints (shoulders, elbows,
  wrists, hips). It is for comparing with published numbers; a network of LSP is person-centric.
- **Visibility**: labelled joints count as visible; occlusion is not in the file.
- **Pixels.** MATLAB's first pixel is 1, and the authors draw the coordinates as they are; so 1 is
  subtracted. Nothing in the file proves it.
- **Box**: none of the whole person is given (``torsobox`` is a detected torso), so that of all
  labelled joints, eyes and nose included.
- **Left out** and counted: who is neither in training nor in test (FLIC-full's ``isbad`` and
  ``isunchecked``), and people with fewer than `min_joints` joints.
- **Ids**: ``STEM_NUMBER`` with the number of the example in the file, from 1, as
  ``2-fast-2-furious-00003571_1``; some frames show several people.
- **Parts**: ``istrain`` and ``istest``.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convpose.data.reading.locate import find_files, stem_of
from convpose.data.reading.matlab import field, many, number, read_struct
from convpose.data.reading.person_source import PeopleSource, Person
from convpose.errors import DataError
from convpose.skeleton import FLIC11

ORIGIN_PX = 1.0
COLUMNS = (0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16)  # of the 11 joints, in FLIC11's order
_SWAPPED = [
    FLIC11.mirror[i] if name.endswith(("shoulder", "elbow", "wrist", "hip")) else i
    for i, name in enumerate(FLIC11.keypoints)
]
_REMEDY = "use examples.mat of FLIC.zip or FLIC-full.zip"


class FlicSource(PeopleSource):
    """The people of FLIC or FLIC-full.

    Args:
        source: ``examples.mat``, or the folder or zip that holds it and ``images/``; None looks
            for ``FLIC`` and ``FLIC-full`` in `folder`.
        folder: the data folder (``CONVPOSE_DATA``).
        observer_centric: exchange left and right of people who turn their back.
        annotations: patterns of the file in a folder or zip.
        images: folder or zip of the frames; None: where the file is.
        skeleton: name of the skeleton that the joints are mapped to.
        min_joints: people with fewer labelled joints of that skeleton are left out.
        name: of the data set.

    Raises:
        ConfigError: unknown skeleton.
        DataError: nothing found, or another structure: file, expectation and remedy.
    """

    def __init__(
        self,
        source: str | None,
        folder: str,
        observer_centric: bool = False,
        annotations: Sequence[str] = ("examples.mat",),
        images: str | None = None,
        skeleton: str = "lsp14",
        min_joints: int = 4,
        name: str = "flic",
    ) -> None:
        stems = ("FLIC", "FLIC-full", "flic")
        files, photos = find_files(name, source, folder, stems, annotations, images)
        left_out: Counter[str] = Counter()
        people: list[Person] = []
        for file, content in files.items():
            examples = many(read_struct(file, content, "examples", _REMEDY))
            people += _people(file, examples, left_out)
        backs = [i for i, person in enumerate(people) if _turned(person.points_px)]
        for i in backs if observer_centric else ():
            person = people[i]
            person.points_px[:], person.visibility[:] = (
                person.points_px[_SWAPPED],
                person.visibility[_SWAPPED],
            )
        super().__init__(name, photos, FLIC11.keypoints, people, skeleton, min_joints, left_out)
        self.notes.append(
            f"{name}: {len(backs):,} people turn their back; left and right are "
            + ("exchanged for them: observer-centric" if observer_centric else "their own")
        )


def _people(file: str, examples: list[Any], left_out: Counter[str]) -> Iterator[Person]:
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
        yield Person(
            f"{stem_of(name)}_{index}",
            name,
            points_px,
            np.where(labelled, 2, 0).astype(np.uint8),
            part="train" if train else "test",
        )


def _turned(points_px: NDArray[np.float64]) -> bool:
    """Whether left shoulder and left hip lie left of the right ones; unlabelled ones do not."""
    x = {name: points_px[i, 0] for i, name in enumerate(FLIC11.keypoints)}
    return all(x[f"left_{joint}"] < x[f"right_{joint}"] for joint in ("shoulder", "hip"))
