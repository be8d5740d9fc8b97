"""Start a network from a trained one: of another data set, another head, or both."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from convpose.errors import ModelError
from convpose.models.weights import read_weights

KEPT = ("score_", "start.")  # a network's own, whatever it starts from


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was taken over.

    Attributes:
        source: the file that was read.
        taken: number of tensors that fit.
        fresh: parts of the network that keep their random start, with their numbers of tensors.
        unused: parts of the file that the network has no place for, likewise.
    """

    source: Path
    taken: int
    fresh: dict[str, int]
    unused: dict[str, int]

    def __str__(self) -> str:
        """Two or three lines for the console."""
        lines = [f"weights={self.source}: {self.taken} tensors taken over"]
        for title, parts in (("start at random", self.fresh), ("have no place", self.unused)):
            if parts:
                named = ", ".join(f"{part} ({count})" for part, count in parts.items())
                lines.append(f"  {title}: {named}")
        return "\n".join(lines)


def transfer(model: nn.Module, path: Path) -> Transfer:
    """Load every tensor of a training's checkpoint whose name and shape the network has.

    The score's calibration is not taken over: it belongs to the data it was fitted on. Nor is what
    a cascade starts from: in one network it may be a stage earlier than in the other.

    Args:
        model: a `PoseModel`.
        path: checkpoint of a run.

    Raises:
        ModelError: nothing fits, or not a file of tensors.
    """
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(KEPT)}
    prefix = "model."
    given = {k.removeprefix(prefix): v for k, v in read_weights(path).items()}
    given = {k: v for k, v in given.items() if not k.startswith(KEPT)}
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    if not any(isinstance(own[k], torch.Tensor) and own[k].ndim > 1 for k in fitting):
        raise ModelError(
            f"weights={path}: none of its {len(given)} tensors fits this network; choose the model "
            "that the run was trained with, or type weights=null"
        )
    model.load_state_dict(fitting, strict=False)
    return Transfer(path, len(fitting), _parts(own, fitting), _parts(given, fitting))


def _parts(names: dict[str, torch.Tensor], without: dict[str, torch.Tensor]) -> dict[str, int]:
    """Tensors that are not in `without`, counted by the part of the network that they are in."""
    return dict(Counter(".".join(n.split(".")[:2]) for n in names if n not in without))
