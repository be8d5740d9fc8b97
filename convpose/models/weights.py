"""Weights of networks: read from files, loaded, and taken over from another network."""

import contextlib
import threading
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from convpose.errors import ModelError

PREFIX = "model."  # of the network's tensors in a checkpoint of a training


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint, a state dict or a safetensors file, on the CPU.

    Loads with ``weights_only=True``: a pickle that would run code is refused.

    Raises:
        ModelError: no file, no weights, or a file that is not safe to load.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected weights (.ckpt, .pt, .pth, .safetensors)")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types on a file that is none of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path}: not a file of tensors ({reason}); expected a state dict or a checkpoint "
            "that torch.load(weights_only=True) reads"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        raise ModelError(f"{path}: holds no state dict; expected names with tensors")
    if not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise ModelError(f"{path}: holds more than tensors; expected names with tensors only")
    return state


def load_backbone(
    module: nn.Module, state: Mapping[str, torch.Tensor], weights: str, what: str
) -> None:
    """Load all tensors of a backbone; more in the state dict, a classifier's, are left out.

    Args:
        module: the backbone.
        state: tensors by the module's own names.
        weights: what the user typed, for messages.
        what: the architecture, for messages.

    Raises:
        ModelError: tensors that are missing or of another shape, or weights never trained.
    """
    own = module.state_dict()
    misfits = [k for k in own if k not in state or state[k].shape != own[k].shape]
    if misfits:
        raise ModelError(
            f"model.weights={weights}: does not fit {what}: {len(misfits)} of {len(own)} tensors "
            f"are missing or of another shape, the first is {misfits[0]}; choose the model that "
            "the weights are for, or type model.weights=null"
        )
    variances = [v for k, v in state.items() if k.endswith("running_var")]
    if variances and all(bool((v == 0).all()) for v in variances):
        raise ModelError(
            f"model.weights={weights}: the batch-norm statistics are all zero, these weights "
            "were never trained; type model.weights=null or another file"
        )
    module.load_state_dict({key: state[key] for key in own})


@contextlib.contextmanager
def no_larger_than(path: Path) -> Iterator[None]:
    """Refuse a network with more parameters than a file can hold, before they get their values.

    Args:
        path: of the weights, which are there already; a configuration may ask for anything.

    Raises:
        ModelError: too many parameters.
    """
    thread, left = threading.get_ident(), path.stat().st_size // 2  # in half precision

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is not None and threading.get_ident() == thread:
            left -= parameter.numel()
        if left < 0:
            raise ModelError(
                f"{path}: its configuration describes a larger network than the file holds; get "
                "both again"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load the network of a training's checkpoint, exactly.

    Raises:
        ModelError: not a checkpoint of this network.
    """
    state = read_weights(path)
    own = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: not a checkpoint of this network: {error}; evaluate it from the run folder "
            "that it was written to"
        ) from error


NOT_TRANSFERRED = ("score_", "start.")  # prefixes of tensors that belong to one network alone


@dataclass(frozen=True, slots=True)
class Transfer:
    """Result of `transfer`.

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
        """Write one to three lines for the console."""
        lines = [f"weights={self.source}: {self.taken} tensors taken over"]
        for title, parts in (("start at random", self.fresh), ("have no place", self.unused)):
            if parts:
                named = ", ".join(f"{part} ({count})" for part, count in parts.items())
                lines.append(f"  {title}: {named}")
        return "\n".join(lines)


def transfer(
    model: nn.Module,
    path: Path,
    state: Mapping[str, torch.Tensor] | None = None,
    rows: Mapping[str, Sequence[int]] = types.MappingProxyType({}),
) -> Transfer:
    """Load every tensor of a training's checkpoint whose name and shape the network has.

    At least a weight of the backbone fits: what remains of another one, such as the pixels' mean
    or a head's last layer, is worth nothing here.

    The score's calibration is not taken over: it belongs to the data it was fitted on. Nor is the
    start of a cascade: in one network it may be a stage earlier than in the other.

    Args:
        model: a `PoseModel`.
        path: checkpoint of a run, or another file of weights.
        state: its tensors, if they have been read.
        rows: for tensors of the head the row of the file for each row of the network, −1 for a
            row that keeps its random start.

    Raises:
        ModelError: nothing fits, or not a file of tensors.
    """
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(NOT_TRANSFERRED)}
    given = {k.removeprefix(PREFIX): v for k, v in (state or read_weights(path)).items()}
    given = {k: v for k, v in given.items() if not k.startswith(NOT_TRANSFERRED)}
    for name, order in rows.items():
        if name in given and name in own:
            mixed, known = own[name].clone(), torch.tensor(order) >= 0
            mixed[known] = given[name][torch.tensor(order)[known]].to(mixed)
            given[name] = mixed
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    weights = {k for k, v in model.named_parameters() if v.ndim > 1 and k.startswith("backbone.")}
    if not weights & fitting.keys():
        raise ModelError(
            f"weights={path}: none of its {len(given)} tensors fits this network's backbone; type "
            "the model that the run was trained with, or type weights=null"
        )
    model.load_state_dict(fitting, strict=False)
    return Transfer(path, len(fitting), _parts(own, fitting), _parts(given, fitting))


def _parts(names: dict[str, torch.Tensor], without: dict[str, torch.Tensor]) -> dict[str, int]:
    """Count the tensors that are not in `without` by the part of the network that has them."""
    return dict(Counter(".".join(n.split(".")[:2]) for n in names if n not in without))
