"""Define skeletons by the names of their keypoints, and map between them by name.

Left is the person's own left (person-centric). Everything that depends on the keypoint order
(mirror permutation, torso pair, sticks of PCP, drawing, maps between skeletons) is derived from
names, never typed as indices.

Keypoints of the same name in two skeletons are the same joint, however it is spelled. So are LSP's
``neck`` and MPII's ``upper_neck``: Convolutional Pose Machines, trained on both, pairs them too
(``genJSON.m`` puts LSP into MPII's order). No other pair is. MPII's ``thorax`` lies between the
collar bones. COCO has neither neck nor head top, and the middle of its shoulders is not the neck:
on LSP and LSPET it lies 0.16 and 0.13 torso diameters (medians) from the annotated neck, and for 26
% and 25 % of the people beyond the 0.2 at which PCK counts a joint as wrong. A keypoint without
counterpart is masked.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from convpose.errors import ConfigError

SIDES = ("left", "right")
HEAD = ("nose", "eye", "ear", "neck", "upper_neck", "head_top")  # counted as "head" in tables
PARTS = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_SIDE_OF = {short: side for side in SIDES for short in (side, side[0], side[0] + "t")}
_OTHER_NAMES = {"top_of_head": "head_top", "top_head": "head_top", "headtop": "head_top"}
SAME_JOINT = {"neck": "upper_neck", "upper_neck": "neck"}

Stick = tuple[tuple[str, ...], tuple[str, ...]]


def _bones(*joints: str) -> tuple[tuple[str, str], ...]:
    """Link joints to bones, on the right side, then on the left."""
    ends = list(pairwise(joints))
    return tuple((f"{side}_{a}", f"{side}_{b}") for side in ("right", "left") for a, b in ends)


def _sticks(**ends: tuple[str, str]) -> dict[str, Stick]:
    """Name the sticks of both sides."""
    return {
        f"{side}_{name}": ((f"{side}_{a}",), (f"{side}_{b}",))
        for name, (a, b) in ends.items()
        for side in ("right", "left")
    }


_LEGS = _bones("ankle", "knee", "hip")
_ARMS = _bones("wrist", "elbow", "shoulder")
_SHOULDERS = (("right_shoulder", "left_shoulder"),)
_TORSO = (("right_hip", "left_hip"), *_bones("hip", "shoulder"))
_TORSO_STICK = {"torso": (("right_hip", "left_hip"), ("right_shoulder", "left_shoulder"))}
_LEG_STICKS = _sticks(upper_leg=("hip", "knee"), lower_leg=("knee", "ankle"))
_ARM_STICKS = _sticks(upper_arm=("shoulder", "elbow"), forearm=("elbow", "wrist"))
_LIMB_JOINTS = ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")


@dataclass(frozen=True)
class Skeleton:
    """Holds the names of keypoints, and what is built from them.

    Attributes:
        name: short name of the annotation scheme.
        keypoints: K names in the order of the arrays; pairs start with ``left_`` and ``right_``.
        limbs: pairs of keypoint names that are drawn as bones.
        torso: (shoulder, hip) pair whose distance normalises PCK.
        torso_fallback: the other diagonal, used when an end of `torso` is unlabelled.
        sticks: PCP sticks by name; each end is the mean of the keypoints named.
        limb_joints: keypoints counted as the "12 limb joints" (no head, no neck).
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...]
    torso: tuple[str, str] = ("left_shoulder", "right_hip")
    torso_fallback: tuple[str, str] = ("right_shoulder", "left_hip")
    sticks: dict[str, Stick] = field(default_factory=dict)
    limb_joints: tuple[str, ...] = ()

    @property
    def num_keypoints(self) -> int:
        """Return K, the number of keypoints."""
        return len(self.keypoints)

    def index(self, name: str) -> int:
        """Return the position of a keypoint in the arrays; ValueError if there is no such name."""
        return self.keypoints.index(name)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """Return the permutation (K,) that exchanges left and right, ``keypoints[mirror]``."""
        swap = {"left": "right", "right": "left"}

        def other(name: str) -> str:
            side, _, joint = name.partition("_")
            return f"{swap[side]}_{joint}" if side in swap else name

        return tuple(self.index(other(name)) for name in self.keypoints)

    @cached_property
    def parts(self) -> dict[str, tuple[int, ...]]:
        """Group keypoints to body parts, both sides together, those of published tables first."""
        parts: dict[str, list[int]] = {part: [] for part in PARTS}
        for i, name in enumerate(self.keypoints):
            side, _, joint = name.partition("_")
            joint = joint if side in SIDES else name
            parts.setdefault("head" if joint in HEAD else joint, []).append(i)
        return {part: tuple(indices) for part, indices in parts.items() if indices}


LSP14 = Skeleton(
    name="lsp14",
    keypoints=(
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("right_wrist", "right_elbow", "right_shoulder"),
        *("left_shoulder", "left_elbow", "left_wrist", "neck", "head_top"),
    ),
    limbs=(
        *_LEGS,
        *_TORSO,
        ("right_shoulder", "neck"),
        ("left_shoulder", "neck"),
        *_ARMS,
        ("neck", "head_top"),
    ),
    sticks=_TORSO_STICK | _LEG_STICKS | _ARM_STICKS | {"head": (("neck",), ("head_top",))},
    limb_joints=tuple(f"{side}_{joint}" for side in SIDES for joint in _LIMB_JOINTS),
)

# Lin et al., ECCV 2014; order and names of its annotation files
COCO17 = Skeleton(
    name="coco17",
    keypoints=(
        *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
        *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
        *("left_wrist", "right_wrist", "left_hip", "right_hip"),
        *("left_knee", "right_knee", "left_ankle", "right_ankle"),
    ),
    limbs=(
        *_LEGS,
        *_TORSO,
        *_SHOULDERS,
        *_ARMS,
        *_bones("shoulder", "ear", "eye"),
        ("right_eye", "left_eye"),
        ("right_eye", "nose"),
        ("left_eye", "nose"),
    ),
    sticks=_TORSO_STICK | _LEG_STICKS | _ARM_STICKS,
    limb_joints=LSP14.limb_joints,
)

# Andriluka et al., CVPR 2014; the order is the point's ``id``
MPII16 = Skeleton(
    name="mpii16",
    keypoints=(
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("pelvis", "thorax", "upper_neck", "head_top"),
        *("right_wrist", "right_elbow", "right_shoulder"),
        *("left_shoulder", "left_elbow", "left_wrist"),
    ),
    limbs=(
        *_LEGS,
        ("right_hip", "pelvis"),
        ("left_hip", "pelvis"),
        ("pelvis", "thorax"),
        ("right_shoulder", "thorax"),
        ("left_shoulder", "thorax"),
        *_ARMS,
        ("thorax", "upper_neck"),
        ("upper_neck", "head_top"),
    ),
    sticks=_TORSO_STICK | _LEG_STICKS | _ARM_STICKS | {"head": (("upper_neck",), ("head_top",))},
    limb_joints=LSP14.limb_joints,
)

# Sapp and Taskar, CVPR 2013 (MODEC): the 11 of its 29 points that are annotated, in its order
FLIC11 = Skeleton(
    name="flic11",
    keypoints=(
        *("left_shoulder", "left_elbow", "left_wrist"),
        *("right_shoulder", "right_elbow", "right_wrist"),
        *("left_hip", "right_hip", "left_eye", "right_eye", "nose"),
    ),
    limbs=(
        *_TORSO,
        *_SHOULDERS,
        *_ARMS,
        ("right_eye", "left_eye"),
        ("right_eye", "nose"),
        ("left_eye", "nose"),
    ),
    sticks=_TORSO_STICK | _ARM_STICKS,
    limb_joints=tuple(f"{s}_{j}" for s in SIDES for j in ("hip", "wrist", "elbow", "shoulder")),
)

SKELETONS = {skeleton.name: skeleton for skeleton in (LSP14, COCO17, MPII16, FLIC11)}


def skeleton_named(name: str) -> Skeleton:
    """Find a skeleton by its name; ConfigError if there is none."""
    if name not in SKELETONS:
        raise ConfigError(
            f"data.skeleton={name}: unknown skeleton; type one of {', '.join(SKELETONS)}"
        )
    return SKELETONS[name]


def spelled(name: str) -> str:
    """Spell a keypoint's name as here: "Right Ankle", "r-ankle" and "ankleR" are right_ankle."""
    words = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W_A-Za-z]+", name)]
    for end in (0, -1) if len(words) > 1 else ():
        if (side := _SIDE_OF.get(words[end])) is not None:
            words.pop(end)
            words.insert(0, side)
            break
    joined = "_".join(words)
    return _OTHER_NAMES.get(joined, joined)


def counterparts(names: Sequence[str], skeleton: Skeleton) -> tuple[int, ...]:
    """Find the position in `names` of each keypoint of a skeleton; −1 for none.

    The same name counts before one that is spelled another way, if only one is.
    """
    exact = {name: i for i, name in enumerate(names)}
    alike = Counter(map(spelled, names))
    other = {spelled(name): i for i, name in enumerate(names) if alike[spelled(name)] == 1}

    def position(keypoint: str) -> int:
        both = (keypoint, SAME_JOINT.get(keypoint, keypoint))
        return next((known[k] for known in (exact, other) for k in both if k in known), -1)

    return tuple(map(position, skeleton.keypoints))
