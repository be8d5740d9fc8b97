"""Labels that cannot be: exact people pass, and each kind of mistake is found where it was made."""

import numpy as np
import pytest
from label_checks import agreement, stretch, twist

from convpose.data.synthetic import SyntheticSource
from convpose.skeleton import LSP14

MIRROR = list(LSP14.mirror)
MOVE = np.array([30.0, -12.0])


@pytest.fixture
def people() -> np.ndarray:
    """(300, 14, 2) exact labels, to be spoilt by a test."""
    annotations = SyntheticSource(300, 96).annotations
    return np.stack([a.keypoints_px for a in annotations]).astype(np.float64)


def test_exact_labels_pass(people: np.ndarray) -> None:
    assert stretch(people, LSP14)[0].max() < 1.3
    assert stretch(people, LSP14)[0].min() >= 1
    assert twist(people, LSP14).min() > -0.3


def test_a_bone_too_long_is_named(people: np.ndarray) -> None:
    wrist, elbow = people[:, LSP14.index("left_wrist")], people[:, LSP14.index("left_elbow")]
    wrist += 300 * (wrist - elbow) / np.linalg.norm(wrist - elbow, axis=1, keepdims=True)

    ratio, longest = stretch(people, LSP14)

    assert ratio.min() > 2
    assert set(longest) == {"left forearm"}


def test_stretch_does_not_depend_on_size_and_needs_three_bones(people: np.ndarray) -> None:
    ratio, longest = stretch(people, LSP14)
    again, same = stretch(7 * people + MOVE, LSP14)
    assert again == pytest.approx(ratio)
    assert same == longest
    people[:, [i for i, name in enumerate(LSP14.keypoints) if "left_knee" not in name][2:]] = np.nan
    assert np.isnan(stretch(people, LSP14)[0]).all()


def test_swapped_hips_turn_the_trunk(people: np.ndarray) -> None:
    before = twist(people, LSP14)
    hips = [LSP14.index("left_hip"), LSP14.index("right_hip")]
    people[:, hips] = people[:, hips[::-1]]
    assert twist(people, LSP14) == pytest.approx(-before)
    people[0, hips[0]] = np.nan
    assert np.isnan(twist(people, LSP14)[0])


def test_another_crop_of_the_same_labels_agrees(people: np.ndarray) -> None:
    found = agreement(people[0], 2.5 * people[0] + MOVE, LSP14)
    assert found is not None
    assert not found.swapped
    assert found.distance == pytest.approx(0, abs=1e-9)


def test_one_joint_elsewhere_moves_no_other(people: np.ndarray) -> None:
    other = people[0].copy()
    ankle = LSP14.index("left_ankle")
    shoulder, hip = (other[LSP14.index(name)] for name in LSP14.reference_pairs[0])
    torso = np.linalg.norm(shoulder - hip)
    other[ankle] += [3 * torso, 4 * torso]
    found = agreement(people[0], other, LSP14)
    assert found is not None
    assert found.distance[ankle] == pytest.approx(5, rel=0.1)
    assert np.delete(found.distance, ankle).max() < 0.1


def test_swapped_sides_are_noticed_and_counted_as_disagreement(people: np.ndarray) -> None:
    wide = int(np.argmax(twist(people, LSP14)))
    found = agreement(people[wide], people[wide][MIRROR], LSP14)
    assert found is not None
    assert found.swapped
    assert np.median(found.distance) > 0.2


def test_too_little_in_common_gives_nothing(people: np.ndarray) -> None:
    few = people[0].copy()
    few[4:] = np.nan
    assert agreement(few, people[0], LSP14) is None
    assert agreement(people[0], np.full((14, 2), np.nan), LSP14) is None
