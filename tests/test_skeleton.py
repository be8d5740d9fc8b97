"""What is derived from keypoint names: mirror, parts, sticks."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from convpose.skeleton import LSP14, Skeleton


def test_lsp_has_the_fourteen_joints_in_the_order_of_its_file():
    assert LSP14.num_keypoints == 14
    assert LSP14.keypoints[:6] == (
        *("right_ankle", "right_knee", "right_hip"),
        *("left_hip", "left_knee", "left_ankle"),
    )
    assert LSP14.keypoints[6:12] == (
        *("right_wrist", "right_elbow", "right_shoulder"),
        *("left_shoulder", "left_elbow", "left_wrist"),
    )
    assert LSP14.keypoints[12:] == ("neck", "head_top")


def test_mirror_exchanges_left_and_right_by_name():
    assert LSP14.mirror == (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13)
    names = np.array(LSP14.keypoints)
    swapped = [n.replace("left", "?").replace("right", "left").replace("?", "right") for n in names]
    assert names[list(LSP14.mirror)].tolist() == swapped


def test_mirror_twice_is_the_identity():
    mirror = np.array(LSP14.mirror)
    assert mirror[mirror].tolist() == list(range(14))


def test_parts_join_left_and_right_in_the_order_of_published_tables():
    assert LSP14.parts == {
        "head": (12, 13),
        "shoulder": (8, 9),
        "elbow": (7, 10),
        "wrist": (6, 11),
        "hip": (2, 3),
        "knee": (1, 4),
        "ankle": (0, 5),
    }


def test_every_name_that_it_uses_is_a_keypoint():
    known = set(LSP14.keypoints)
    ends = [name for stick in LSP14.sticks.values() for end in stick for name in end]
    for names in (*LSP14.limbs, LSP14.torso, LSP14.torso_fallback, LSP14.limb_joints, ends):
        assert set(names) <= known


def test_torso_pairs_are_the_two_diagonals():
    mirror = {name: LSP14.keypoints[LSP14.mirror[i]] for i, name in enumerate(LSP14.keypoints)}
    assert LSP14.torso == ("left_shoulder", "right_hip")
    assert LSP14.torso_fallback == tuple(mirror[name] for name in LSP14.torso)


def test_pcp_has_ten_sticks_and_the_limbs_twelve_joints():
    assert len(LSP14.sticks) == 10
    assert LSP14.sticks["head"] == (("neck",), ("head_top",))
    assert set(LSP14.keypoints) - set(LSP14.limb_joints) == {"neck", "head_top"}


def test_another_skeleton_works_alike():
    eyes = Skeleton(
        name="eyes",
        keypoints=("nose", "left_eye", "right_eye"),
        limbs=(("left_eye", "right_eye"),),
        torso=("left_eye", "right_eye"),
        torso_fallback=("nose", "left_eye"),
        sticks={},
        limb_joints=(),
    )
    assert eyes.mirror == (0, 2, 1)


def test_unknown_names_are_refused_and_nothing_changes_later():
    with pytest.raises(ValueError, match="not in tuple"):
        LSP14.index("tail")
    with pytest.raises(FrozenInstanceError):
        LSP14.name = "other"
