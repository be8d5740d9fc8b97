"""Map the joints of a file to the keypoints of a skeleton by name, and say how it went."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from convpose.errors import ConfigError
from convpose.skeleton import Skeleton, spelled


def renamed(joints: Sequence[str], names: Mapping[str, str], target: Skeleton) -> list[str]:
    """Give the joints of a file the names of keypoints, as ``data.names`` says.

    Args:
        joints: names in the file.
        names: keypoints of `target` by joint.
        target: the skeleton.

    Raises:
        ConfigError: a joint that the file lacks, or a keypoint that the skeleton lacks.
    """
    given = {spelled(joint): keypoint for joint, keypoint in names.items()}
    for words, known, whose in (
        (list(names), joints, "the joints of the file are"),
        (list(names.values()), target.keypoints, f"the keypoints of {target.name} are"),
    ):
        there = {spelled(name) for name in known}
        if lost := [word for word in words if spelled(word) not in there]:
            raise ConfigError(f"data.names: there is no {lost[0]}; {whose} {', '.join(known)}")
    return [given.get(spelled(joint), joint) for joint in joints]


def joint_notes(
    name: str,
    joints: Sequence[str],
    target: Skeleton,
    index: NDArray[np.int64],
    left_out: Counter[str],
) -> list[str]:
    """Say in sentences what was left out, renamed, masked and not used."""
    masked = [keypoint for keypoint, i in zip(target.keypoints, index, strict=True) if i < 0]
    unused = [joint for i, joint in enumerate(joints) if i not in index]
    called = zip(target.keypoints, index, strict=True)
    same = [f"{joints[i]} is the {k}" for k, i in called if i >= 0 and joints[i] != k]
    notes = [f"{name}: {n:,} people left out {why}" for why, n in left_out.items() if n]
    if same:
        notes.append(f"{name}: {', '.join(same)} of {target.name}")
    if masked:
        notes.append(f"{name}: no counterpart, so masked: {', '.join(masked)}")
    if unused:
        notes.append(f"{name}: not in {target.name}, so not used: {', '.join(unused)}")
    return notes
