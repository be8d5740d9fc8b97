"""Derive from keypoint names: mirror, parts, sticks."""

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from convpose.config.instantiate import build_skeleton
from convpose.errors import ConfigError
from convpose.skeleton import (
    COCO17,
    FLIC11,
    LSP14,
    MPII16,
    Skeleton,
    bundled,
    counterparts,
)

ALL = pytest.mark.parametrize("skeleton", bundled().values(), ids=bundled())


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
    assert LSP14.part_indices == {
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
    indices = [i for part in skeleton.part_indices.values() for i in part]
    assert sorted(indices) == list(range(skeleton.num_keypoints))
    published = ["head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"]
    parts = [part for part in skeleton.part_indices if part in published]
    assert parts == [part for part in published if part in skeleton.part_indices]
    assert list(skeleton.part_indices)[: len(parts)] == parts


def test_faces_are_heads_and_what_tables_lack_comes_last():
    assert [COCO17.keypoints[i] for i in COCO17.part_indices["head"]] == [
        *("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    ]
    assert [MPII16.keypoints[i] for i in MPII16.part_indices["head"]] == ["upper_neck", "head_top"]
    assert list(MPII16.part_indices)[-2:] == ["pelvis", "thorax"]
    assert list(FLIC11.part_indices) == ["head", "shoulder", "elbow", "wrist", "hip"]


@ALL
def test_every_name_that_it_uses_is_a_keypoint(skeleton):
    known = set(skeleton.keypoints)
    assert len(known) == skeleton.num_keypoints
    ends = [name for stick in skeleton.sticks.values() for end in stick for name in end]
    for names in (*skeleton.limbs, *skeleton.reference_pairs, skeleton.limb_joints, ends):
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
    if skeleton.reference == "torso":
        (a, b), fallback = skeleton.reference_pairs
        assert (a, b) == ("left_shoulder", "right_hip")
        assert fallback == tuple(
            skeleton.keypoints[skeleton.mirror[skeleton.index(n)]] for n in (a, b)
        )


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


MINE = {
    "name": "mine",
    "keypoints": ["nose", "eye_L", "eye_R", "tail"],
    "limbs": [["eye_L", "eye_R"], ["nose", "tail"]],
    "normaliser": {"body": [["nose", "tail"]]},
    "parts": {"face": ["nose", "eye_L", "eye_R"]},
    "colours": {"tail": "#ff0080"},
}


@pytest.mark.parametrize("how", ["name", "file", "mapping"])
def test_a_skeleton_is_a_name_a_file_or_a_mapping(how, tmp_path):
    (tmp_path / "mine.yaml").write_text(json.dumps({k: v for k, v in MINE.items() if k != "name"}))
    given = {"name": "mpii16", "file": str(tmp_path / "mine.yaml"), "mapping": MINE}
    expected = MPII16 if how == "name" else Skeleton(**MINE)
    assert build_skeleton(given[how]) == expected
    assert build_skeleton(expected.to_dict()) == expected  # as it travels with a network


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("body", r"data\.skeleton=body: unknown skeleton; type one of aic14, .*FILE\.yaml"),
        ("none.yaml", r"data\.skeleton=none\.yaml: cannot be read"),
        ({"keypoints": "nose"}, r"data\.skeleton\.keypoints=nose: expected a list"),
        ({"keypoints": ["nose", "nose"]}, "keypoints has nose more than once"),
        (
            {"limbs": [["nose", "toe"]]},
            "limbs names toe, which is no keypoint; its keypoints are nose",
        ),
        ({"limbs": [["nose"]]}, r"data\.skeleton\.limbs=.*: expected a list"),
        ({"sigmas": [0.1]}, "1 sigmas for 4 keypoints"),
        ({"sigmas": [0, 1, 1, 1]}, r"data\.skeleton\.sigmas="),
        (
            {"normaliser": "arm"},
            r"data\.skeleton\.normaliser=arm: expected .*box_side or box_diagonal",
        ),
        ({"normaliser": -2}, r"data\.skeleton\.normaliser=-2: expected"),
        ({"normaliser": {}}, "normaliser"),
        ({"colours": {"tail": "pink"}}, "colours: pink is no #rrggbb"),
        ({"bones": []}, r"unknown key data\.skeleton\.bones; keys there: name, keypoints, limbs"),
    ],
    ids=str,
)
def test_a_skeleton_that_cannot_be_says_why(broken, message):
    with pytest.raises(ConfigError, match=message):
        build_skeleton(MINE | broken if isinstance(broken, dict) else broken)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["Left Eye", "Right Eye", "nose"], (("Left Eye", "Right Eye"),)),
        (["hand_l", "hand_r"], (("hand_l", "hand_r"),)),
        (["R-ankle", "L-ankle"], (("L-ankle", "R-ankle"),)),
        (["LAnkle", "RAnkle"], (("LAnkle", "RAnkle"),)),
        (["paw_front_left", "paw_front_right"], (("paw_front_left", "paw_front_right"),)),
        (["left_eye", "nose"], None),
        (["thumb", "wrist"], None),
    ],
    ids=str,
)
def test_pairs_are_guessed_from_the_names(names, pairs):
    skeleton = Skeleton("mine", tuple(names))
    assert skeleton.pairs == pairs
    assert skeleton.mirrors is (pairs is not None)
    for left, right in pairs or ():
        assert skeleton.mirror[names.index(left)] == names.index(right)
        assert (skeleton.side(left), skeleton.side(right)) == ("left", "right")


@pytest.mark.parametrize(
    ("pairs", "alone"), [(None, (3, 4)), ([["Left Eye", "Left Ear"]], (1, 4)), ([], ())], ids=str
)
def test_a_side_without_a_partner_is_known(pairs, alone):
    names = ("Left Eye", "Right Eye", "Tip", "Left Ear", "hand_r")
    assert Skeleton("mine", names, pairs=pairs).one_sided == alone
    assert not any(skeleton.one_sided for skeleton in bundled().values())


def test_what_a_skeleton_leaves_out_is_filled_in():
    mine = Skeleton("mine", ("nose", "left_ear", "right_ear"), (("nose", "left_ear"),))
    assert mine.part_indices == {"nose": (0,), "ear": (1, 2)}
    assert mine.sticks == {"nose–left_ear": (("nose",), ("left_ear",))}
    assert (mine.normaliser, mine.unit) == ("box_side", "box sides")
    assert mine.oks_sigmas == (0.026, 0.035, 0.035)  # COCO's nose and ears
    assert Skeleton("other", ("tail",)).oks_sigmas == (0.079,)
    assert Skeleton("px", ("tail",), normaliser=50).unit == "× 50 px"
    assert bundled()["hand21"].mirrors  # without pairs, but its yaml says that the mirror is right


def test_pcp_has_ten_sticks_and_the_limbs_twelve_joints():
    assert len(LSP14.sticks) == 10
    assert LSP14.sticks["head"] == (("neck",), ("head_top",))
    assert set(LSP14.keypoints) - set(LSP14.limb_joints) == {"neck", "head_top"}


def test_unknown_names_are_refused_and_nothing_changes_later():
    with pytest.raises(ValueError, match="not in tuple"):
        LSP14.index("tail")
    with pytest.raises(FrozenInstanceError):
        LSP14.name = "other"
