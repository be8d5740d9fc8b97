"""Reading weights: tensors only, never code."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from convpose.errors import ModelError


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, a state dict or a safetensors file, on the CPU.

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


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load the network of a training's checkpoint, exactly.

    Raises:
        ModelError: not a checkpoint of this network.
    """
    prefix = "model."
    state = read_weights(path)
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        raise ModelError(
            f"{path}: not a checkpoint of this network: {error}; evaluate it from the run folder "
            "that it was written to"
        ) from error
