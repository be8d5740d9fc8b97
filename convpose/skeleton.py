"""Skeletons: keypoint names, left/right pairs, limbs and body parts as data.

Left is the person's own left (person-centric). Everything that depends on the keypoint order
(mirror permutation, torso pair, sticks of PCP, drawing) is derived from names, never typed as
indices.
"""

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Skeleton:
    """Named keypoints and what is built from them.

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
    torso: tuple[str, str]
    torso_fallback: tuple[str, str]
    sticks: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
    limb_joints: tuple[str, ...]

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.keypoints)

    def index(self, name: str) -> int:
        """Position of a keypoint name in the arrays; ValueError if there is no such name."""
        return self.keypoints.index(name)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """Permutation (K,) that exchanges left and right: ``mirrored = keypoints[mirror]``."""
        swap = {"left": "right", "right": "left"}

        def other(name: str) -> str:
            side, _, joint = name.partition("_")
            return f"{swap[side]}_{joint}" if side in swap else name

        return tuple(self.index(other(name)) for name in self.keypoints)

    @cached_property
    def parts(self) -> dict[str, tuple[int, ...]]:
        """Body parts in the order of published tables, left and right together: indices by part."""
        parts: dict[str, list[int]] = {}
        for i, name in enumerate(self.keypoints):
            side, _, joint = name.partition("_")
            part = joint if side in ("left", "right") else "head"  # neck and head top make "head"
            parts.setdefault(part, []).append(i)
        order = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        return {part: tuple(parts[part]) for part in order if part in parts}


LSP14 = Skeleton(
    name="lsp14",
    keypoints=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "neck",
        "head_top",
    ),
    limbs=(
        ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"),
        ("left_ankle", "left_knee"),
        ("left_knee", "left_hip"),
        ("right_hip", "left_hip"),
        ("right_hip", "right_shoulder"),
        ("left_hip", "left_shoulder"),
        ("right_shoulder", "neck"),
        ("left_shoulder", "neck"),
        ("right_wrist", "right_elbow"),
        ("right_elbow", "right_shoulder"),
        ("left_wrist", "left_elbow"),
        ("left_elbow", "left_shoulder"),
        ("neck", "head_top"),
    ),
    torso=("left_shoulder", "right_hip"),
    torso_fallback=("right_shoulder", "left_hip"),
    sticks={
        "torso": (("right_hip", "left_hip"), ("right_shoulder", "left_shoulder")),
        "right_upper_leg": (("right_hip",), ("right_knee",)),
        "left_upper_leg": (("left_hip",), ("left_knee",)),
        "right_lower_leg": (("right_knee",), ("right_ankle",)),
        "left_lower_leg": (("left_knee",), ("left_ankle",)),
        "right_upper_arm": (("right_shoulder",), ("right_elbow",)),
        "left_upper_arm": (("left_shoulder",), ("left_elbow",)),
        "right_forearm": (("right_elbow",), ("right_wrist",)),
        "left_forearm": (("left_elbow",), ("left_wrist",)),
        "head": (("neck",), ("head_top",)),
    },
    limb_joints=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
    ),
)
