"""Describe skeletons by the names of their keypoints, and map between them by name.

A skeleton is data: a mapping as in ``conf/skeleton/``, which travels with every network. Left is
the person's own left (person-centric). Everything that depends on the keypoint order (mirror
permutation, normaliser of PCK, sticks of PCP, drawing, maps between skeletons) is derived from
names, never typed as indices.

Keypoints of the same name in two skeletons are the same joint, however it is `spelled`. So are
LSP's ``neck`` and MPII's ``upper_neck``: Convolutional Pose Machines, trained on both, pairs them
too (``genJSON.m`` puts LSP into MPII's order). No other pair is. MPII's ``thorax`` lies between the
collar bones. COCO has neither neck nor head top, and the middle of its shoulders is not the neck:
on LSP and LSPET it lies 0.16 and 0.13 torso diameters (medians) from the annotated neck, and for 26
% and 25 % of the people beyond the 0.2 at which PCK counts a joint as wrong. A keypoint without
counterpart is masked.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt

from convpose.bounded import parse_yaml, read_file
from convpose.errors import ConfigError
from convpose.files import conf_folder

SIDES = ("left", "right")
SAME_JOINT = {"neck": "upper_neck", "upper_neck": "neck"}
SIGMA = 0.079  # of OKS for a joint that COCO lacks, as CrowdPose has it for head and neck
TORSO = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
_COLOUR = re.compile("#[0-9a-fA-F]{6}")
_SIDE_OF = {short: side for side in SIDES for short in (side, side[0], side[0] + "t")}
_OTHER_NAMES = {"top_of_head": "head_top", "top_head": "head_top", "headtop": "head_top"}

Pair = tuple[str, str]
Stick = tuple[tuple[str, ...], tuple[str, ...]]
Normaliser = (
    dict[str, tuple[Pair, ...]] | Literal["box_side", "box_diagonal"] | Annotated[float, Gt(0)]
)


def spelled(name: str) -> str:
    """Spell a keypoint's name as here: "Right Ankle", "r-ankle" and "ankleR" are right_ankle."""
    words = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W_A-Za-z]+", name)]
    for place in (0, -1, *range(1, len(words) - 1)) if len(words) > 1 else ():
        if (side := _SIDE_OF.get(words[place])) is not None:
            words.pop(place)
            words.insert(0, side)
            break
    joined = "_".join(words)
    return _OTHER_NAMES.get(joined, joined)


@dataclass(frozen=True)
class Skeleton:
    """Holds the names of keypoints, and what is built from them.

    Attributes:
        name: short name of the annotation scheme.
        keypoints: K names in the order of the arrays.
        limbs: pairs of keypoint names that are drawn as bones.
        pairs: (left, right) names that a mirror exchanges; None guesses them from the names. An
            empty tuple says that the mirror image is right as it is.
        normaliser: size by which PCK and NME divide distances: ``box_side`` (the longer one),
            ``box_diagonal``, a number of pixels, or ``{NAME: pairs}``, the distance of the first
            of these pairs of keypoints that is labelled; None: the torso, or without one the box.
        sigmas: (K,) of OKS; an empty tuple takes COCO's by name, and `SIGMA`.
        parts: keypoints that tables put together, by the name of the part; what is in none is a
            part by itself, left and right together.
        sticks: PCP sticks by name, each end the mean of the keypoints named; None: the limbs.
        limb_joints: keypoints that tables pool as "limbs" (LSP's twelve: no head, no neck).
        colours: of keypoints, ``#rrggbb``, instead of the colour of their side.

    Raises:
        ConfigError: a name that is no keypoint, occurs twice, or another number of sigmas.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[Pair, ...] = ()
    pairs: tuple[Pair, ...] | None = None
    normaliser: Normaliser | None = None
    sigmas: tuple[Annotated[float, Gt(0)], ...] = ()
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sticks: dict[str, Stick] | None = None
    limb_joints: tuple[str, ...] = ()
    colours: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Turn lists of a file into tuples, fill in what is None and check the names."""
        for each in dataclasses.fields(self):
            object.__setattr__(self, each.name, _tuples(getattr(self, each.name)))
        fill: dict[str, Any] = {"pairs": self._guessed_pairs(), "sticks": self._limb_sticks()}
        torso = {name for pair in TORSO for name in pair} <= set(self.keypoints)
        fill["normaliser"] = {"torso": TORSO} if torso else "box_side"
        for key, value in fill.items():
            if getattr(self, key) is None and value is not None:
                object.__setattr__(self, key, value)
        self._check()

    def _guessed_pairs(self) -> tuple[Pair, ...] | None:
        """Pair the names that differ in the side alone; None if there is no pair."""
        known = {spelled(name): name for name in self.keypoints}
        left = {n: known[n] for n in known if n.startswith("left_")}
        other = {n: f"right_{n.removeprefix('left_')}" for n in left}
        pairs = tuple((left[n], known[other[n]]) for n in left if other[n] in known)
        return pairs or None

    def _limb_sticks(self) -> dict[str, Stick]:
        return {f"{a}–{b}": ((a,), (b,)) for a, b in self.limbs}

    def _check(self) -> None:
        ends = [name for stick in (self.sticks or {}).values() for end in stick for name in end]
        used = {
            "limbs": [name for limb in self.limbs for name in limb],
            "pairs": [name for pair in self.pairs or () for name in pair],
            "normaliser": [name for pair in self.reference_pairs for name in pair],
            "parts": [name for part in self.parts.values() for name in part],
            "sticks": ends,
            "limb_joints": self.limb_joints,
            "colours": self.colours,
        }
        if not self.keypoints:
            raise ConfigError(f"skeleton {self.name}: no keypoints; type keypoints: [NAME, …]")
        once = {"keypoints": self.keypoints, "pairs": used["pairs"], "parts": used["parts"]}
        for key, names in once.items():
            if twice := [name for i, name in enumerate(names) if name in list(names)[:i]]:
                raise ConfigError(f"skeleton {self.name}: {key} has {twice[0]} more than once")
        for key, names in used.items():
            if unknown := [name for name in names if name not in self.keypoints]:
                raise ConfigError(
                    f"skeleton {self.name}: {key} names {unknown[0]}, which is no keypoint; its "
                    f"keypoints are {', '.join(self.keypoints)}"
                )
        if wrong := [c for c in self.colours.values() if not _COLOUR.fullmatch(c)]:
            raise ConfigError(f"skeleton {self.name}: colours: {wrong[0]} is no #rrggbb")
        if self.normaliser == {}:
            raise ConfigError(f"skeleton {self.name}: normaliser names no pairs of keypoints")
        if self.sigmas and len(self.sigmas) != len(self.keypoints):
            raise ConfigError(
                f"skeleton {self.name}: {len(self.sigmas)} sigmas for {len(self.keypoints)} "
                "keypoints; give one for each, or none"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that `Skeleton` takes, without those that are empty."""
        plain: dict[str, Any] = _lists(dataclasses.asdict(self))
        kept = ("pairs", "sticks")  # None and empty differ
        return {key: v for key, v in plain.items() if key in kept or v not in (None, [], {})}

    @property
    def num_keypoints(self) -> int:
        """Return K, the number of keypoints."""
        return len(self.keypoints)

    def index(self, name: str) -> int:
        """Return the position of a keypoint in the arrays; ValueError if there is no such name."""
        return self.keypoints.index(name)

    @property
    def mirrors(self) -> bool:
        """Tell if a mirror image is a right sample: not where nobody knows left and right."""
        return self.pairs is not None

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """Return the permutation (K,) that exchanges left and right, ``keypoints[mirror]``."""
        other = {a: b for pair in self.pairs or () for a, b in (pair, pair[::-1])}
        return tuple(self.index(other.get(name, name)) for name in self.keypoints)

    @cached_property
    def one_sided(self) -> tuple[int, ...]:
        """Return the positions of keypoints of a side without a partner: a mirror has none."""
        paired = {name for pair in self.pairs or () for name in pair}
        sided = tuple(f"{side}_" for side in SIDES)
        alone = [n for n in self.keypoints if n not in paired and spelled(n).startswith(sided)]
        return tuple(map(self.index, alone)) if self.pairs else ()  # pairs: [] says all is right

    def side(self, name: str) -> str | None:
        """Return ``left`` or ``right`` for a keypoint of a pair; None for another."""
        sides = {n: s for pair in self.pairs or () for n, s in zip(pair, SIDES, strict=True)}
        return sides.get(name)

    @property
    def reference(self) -> str:
        """Return what PCK divides by, in a word such as ``torso``, ``box_side`` or ``pixels``."""
        if isinstance(self.normaliser, dict):
            return next(iter(self.normaliser), "")
        return self.normaliser if isinstance(self.normaliser, str) else "pixels"

    @property
    def reference_pairs(self) -> tuple[Pair, ...]:
        """Return the pairs of keypoints of the normaliser, in the order of preference."""
        return self.normaliser.get(self.reference, ()) if isinstance(self.normaliser, dict) else ()

    @property
    def unit(self) -> str:
        """Return the unit of normalised distances for the axis of a figure."""
        if self.reference == "pixels":
            return f"× {self.normaliser} px"
        words = {"torso": "torso diameters"}
        return words.get(self.reference, f"{self.reference.replace('_', ' ')}s")

    @cached_property
    def part_indices(self) -> dict[str, tuple[int, ...]]:
        """Group keypoints to body parts, both sides together, in the order of `parts`."""
        groups = {part: [self.index(name) for name in names] for part, names in self.parts.items()}
        taken = {i for group in groups.values() for i in group}
        right = {b: a for a, b in self.pairs or ()}
        for i, name in enumerate(self.keypoints):
            if i not in taken:
                joint = spelled(right.get(name, name))
                groups.setdefault(joint.removeprefix("left_"), []).append(i)
        return {part: tuple(group) for part, group in groups.items()}

    @cached_property
    def oks_sigmas(self) -> tuple[float, ...]:
        """Return the (K,) sigmas of OKS."""
        coco = load("coco17")
        known = dict(zip(coco.keypoints, coco.sigmas, strict=True))
        return self.sigmas or tuple(known.get(spelled(n), SIGMA) for n in self.keypoints)


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _tuples(item) for key, item in value.items()}
    sequence = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(_tuples(item) for item in value) if sequence else value


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def skeleton_file(name: str) -> Path:
    """Return the path of a skeleton that comes with convpose."""
    return conf_folder() / "skeleton" / f"{name}.yaml"


@cache
def load(name: str) -> Skeleton:
    """Load a skeleton that comes with convpose."""
    path = skeleton_file(name)
    return Skeleton(**parse_yaml(str(path), read_file(path).decode()))


@cache
def bundled() -> dict[str, Skeleton]:
    """Load all skeletons that come with convpose, by name."""
    return {path.stem: load(path.stem) for path in sorted(skeleton_file("").parent.glob("*.yaml"))}


LSP14, COCO17, MPII16, FLIC11 = map(load, ("lsp14", "coco17", "mpii16", "flic11"))


def counterparts(names: Sequence[str], skeleton: Skeleton) -> tuple[int, ...]:
    """Find the position in `names` of each keypoint of a skeleton; −1 for none.

    The same name counts before one that is spelled another way, if only one is.
    """
    exact = {name: i for i, name in enumerate(names)}
    alike = Counter(map(spelled, names))
    other = {spelled(name): i for i, name in enumerate(names) if alike[spelled(name)] == 1}

    def position(keypoint: str) -> int:
        same = SAME_JOINT.get(keypoint, keypoint)
        ways = (exact, keypoint), (exact, same), (other, spelled(keypoint)), (other, spelled(same))
        return next((known[name] for known, name in ways if name in known), -1)

    return tuple(map(position, skeleton.keypoints))
