"""What is derived from keypoint names: mirror, parts, sticks."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from convpose.errors import ConfigError
from convpose.skeleton import (
    COCO17,
    FLIC11,
    LSP14,
    MPII16,
    SKELETONS,
    Skeleton,
    counterparts,
    skeleton_named,
)

ALL = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)


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


@ALL
def test_mirror_twice_is_the_identity(skeleton):
    mirror = np.array(skeleton.mirror)
    assert mirror[mirror].tolist() == list(range(skeleton.num_keypoints))
    for name, i in zip(skeleton.keypoints, mirror, strict=True):
        sided = name.startswith(("left_", "right_"))
        assert (skeleton.keypoints[i] != name) is sided


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


@ALL
def test_every_keypoint_is_in_one_part(skeleton):
    indices = [i for part in skeleton.parts.values() for i in part]
    assert sorted(indices) == list(range(skeleton.num_keypoints))
    published = ["head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
    parts = [part for part in skeleton.parts if part in published]
    assert parts == [part for part in published if part in skeleton.parts]
    assert list(skeleton.parts)[: len(parts)] == parts


def test_faces_are_heads_and_what_tables_lack_comes_last():
    assert [COCO17.keypoints[i] for i in COCO17.parts["head"]] == [
        *("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    ]
    assert [MPII16.keypoints[i] for i in MPII16.parts["head"]] == ["upper_neck", "head_top"]
    assert list(MPII16.parts)[-2:] == ["pelvis", "thorax"]
    assert list(FLIC11.parts) == ["head", "shoulder", "elbow", "wrist", "hip"]


@ALL
def test_every_name_that_it_uses_is_a_keypoint(skeleton):
    known = set(skeleton.keypoints)
    assert len(known) == skeleton.num_keypoints
    ends = [name for stick in skeleton.sticks.values() for end in stick for name in end]
    pairs = (skeleton.torso, skeleton.torso_fallback)
    for names in (*skeleton.limbs, *pairs, skeleton.limb_joints, ends):
        assert set(names) <= known


@ALL
def test_limbs_and_sticks_are_the_same_on_both_sides(skeleton):
    other = dict(
        zip(skeleton.keypoints, [skeleton.keypoints[i] for i in skeleton.mirror], strict=True)
    )
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert len(limbs) == len(skeleton.limbs)
    assert {frozenset(other[name] for name in limb) for limb in limbs} == limbs
    sticks = {tuple(map(frozenset, stick)) for stick in skeleton.sticks.values()}
    assert {tuple(frozenset(map(other.get, e)) for e in stick) for stick in sticks} == sticks


@ALL
def test_all_joints_hang_together(skeleton):
    """Drawn, it is one figure, but for FLIC's face, which no joint leads to."""
    reached = {skeleton.keypoints[0]}
    for _ in skeleton.keypoints:
        reached |= {name for limb in skeleton.limbs if reached & set(limb) for name in limb}
    face = {"left_eye", "right_eye", "nose"} if skeleton is FLIC11 else set()
    assert set(skeleton.keypoints) - reached == face


@ALL
def test_torso_pairs_are_the_two_diagonals(skeleton):
    other = dict(
        zip(skeleton.keypoints, [skeleton.keypoints[i] for i in skeleton.mirror], strict=True)
    )
    assert skeleton.torso == ("left_shoulder", "right_hip")
    assert skeleton.torso_fallback == tuple(other[name] for name in skeleton.torso)


def test_orders_are_those_of_the_files():
    """COCO's annotation files and MPII's ids, as their makers list them."""
    assert COCO17.keypoints[:5] == ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    assert COCO17.keypoints[5::2] == tuple(
        f"left_{j}" for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    )
    assert COCO17.keypoints[6::2] == tuple(
        f"right_{j}" for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    )
    assert MPII16.keypoints[:6] == LSP14.keypoints[:6]
    assert MPII16.keypoints[6:10] == ("pelvis", "thorax", "upper_neck", "head_top")
    assert MPII16.keypoints[10:] == LSP14.keypoints[6:12]


class TestMaps:
    def mapped(self, names, skeleton):
        indices = counterparts(names, skeleton)
        return {k: names[i] for k, i in zip(skeleton.keypoints, indices, strict=True) if i >= 0}

    def test_coco_lacks_neck_and_head_top(self):
        found = self.mapped(COCO17.keypoints, LSP14)
        assert set(LSP14.keypoints) - set(found) == {"neck", "head_top"}
        assert all(name == k for k, name in found.items())

    def test_upper_neck_is_the_neck_and_thorax_is_not(self):
        found = self.mapped(MPII16.keypoints, LSP14)
        assert found.pop("neck") == "upper_neck"
        assert all(name == k for k, name in found.items())
        assert len(found) == 13
        assert self.mapped(LSP14.keypoints, MPII16)["upper_neck"] == "neck"
        assert "neck" not in self.mapped(("thorax", "pelvis"), LSP14)

    def test_a_name_goes_before_another_of_the_same_meaning(self):
        assert self.mapped(("upper_neck", "neck"), LSP14) == {"neck": "neck"}

    @pytest.mark.parametrize(
        ("name", "keypoint"),
        [
            *((n, "right_ankle") for n in ("Right Ankle", "right-ankle", "RightAnkle", "R_ANKLE")),
            *(
                (n, "right_ankle")
                for n in ("r ankle", "ankle_r", "ankle right", "RAnkle", "rt.ankle")
            ),
            *((n, "left_wrist") for n in ("LEFT_WRIST", "leftWrist", "Wrist-L", "l_wrist")),
            *((n, "head_top") for n in ("Head Top", "headTop", "Top of Head", "top_head")),
            ("Upper Neck", "neck"),
        ],
    )
    def test_the_same_name_may_be_spelled_another_way(self, name, keypoint):
        assert self.mapped((name, "paw"), LSP14) == {keypoint: name}

    def test_what_is_spelled_the_same_goes_first_and_of_two_others_none(self):
        assert self.mapped(("Neck", "neck"), LSP14) == {"neck": "neck"}
        assert self.mapped(("L Knee", "left-knee"), LSP14) == {}
        assert self.mapped(("Lankle", "lefty", "l", "right"), LSP14) == {}

    def test_flic_has_eight(self):
        found = self.mapped(FLIC11.keypoints, LSP14)
        assert len(found) == 8
        assert not [k for k in found if k.endswith(("knee", "ankle"))]

    @ALL
    def test_to_itself_it_changes_nothing(self, skeleton):
        assert counterparts(skeleton.keypoints, skeleton) == tuple(range(skeleton.num_keypoints))

    def test_any_order(self):
        names = LSP14.keypoints[::-1]
        assert counterparts(names, LSP14) == tuple(reversed(range(14)))


def test_a_skeleton_is_found_by_name():
    assert skeleton_named("mpii16") is MPII16
    with pytest.raises(
        ConfigError, match=r"data\.skeleton=body: unknown skeleton; type one of lsp"
    ):
        skeleton_named("body")


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
