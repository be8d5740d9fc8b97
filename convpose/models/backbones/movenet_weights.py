"""MoveNet's published arrays: which file has them, and where they go."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from convpose.bounded import UNEXPECTED, load_json
from convpose.errors import DataError, ModelError
from convpose.models.weights import load_backbone, read_weights

ARRAY = "stem.weight"  # what every file of folded arrays has
# places in Google's graph → MoveNet's places here; the numbers of layers are those of Keras
PLACES = {
    "model/Conv1": "stem",
    "model/Conv_1": "last",
    "model/expanded_conv": "block_0",
    "model_1/conv2d": "pyramid.lateral_32",
    "model_1/conv2d_1": "pyramid.lateral_16",
    "model_1/conv2d_2": "pyramid.lateral_8",
    "model_1/conv2d_3": "pyramid.lateral_4",
    "model_1/separable_conv2d": "pyramid.smooth_16",
    "model_1/separable_conv2d_1": "pyramid.smooth_8",
    "model_1/separable_conv2d_2": "pyramid.smooth_4",
}
BRANCH = re.compile(r"(center|kpt_heatmap|kpt_regress|kpt_offset)_0/(separable_)?conv2d_\d+/")
BLOCK = re.compile(r"model/(block_\d+|expanded_conv)_(expand|depthwise|project)/")


def read_movenet(weights: str, part: str) -> dict[str, torch.Tensor]:
    """Read a file's arrays by MoveNet's names, or a run's tensors by those of a part of it.

    Args:
        weights: folded arrays as ``.safetensors`` or as the ``.json`` of the TF.js graph model, or
            a checkpoint of a run.
        part: ``backbone`` or ``head``, of a run's network.

    Raises:
        ModelError: no such file, or one without MoveNet's arrays.
    """
    path = Path(weights)
    if path.suffix == ".json":
        return movenet_names(read_graph_model(path), weights)
    state = read_weights(path)
    if ARRAY in state:
        return {name: value.float() for name, value in state.items()}
    for prefix in (f"model.{part}.", f"{part}."):
        if own := {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}:
            return own
    raise ModelError(
        f"model.weights={weights}: holds neither MoveNet's arrays ({ARRAY} and so on) nor the "
        f"network of a run, its first tensor is {next(iter(state))}; type the file of the arrays, "
        "or model.weights=null"
    )


def movenet_names(graph: Mapping[str, torch.Tensor], weights: str) -> dict[str, torch.Tensor]:
    """Rename and turn the arrays of Google's single-pose graphs.

    Args:
        graph: arrays by their names in the graph; kernels are (H, W, in, out), depthwise ones
            (H, W, channels, 1).
        weights: what the user typed, for messages.

    Returns:
        float32 arrays ``PLACE.weight`` (out, in, H, W) and ``PLACE.bias``.

    Raises:
        ModelError: no array of MoveNet among them.
    """
    arrays = {}
    for name, array in graph.items():
        if place := _place(name):
            leaf = "bias" if array.ndim == 1 else "weight"
            if array.ndim == 4:
                deep = place.endswith("depthwise")
                array = array.permute((2, 3, 0, 1) if deep else (3, 2, 0, 1)).contiguous()
            arrays[f"{place}.{leaf}"] = array.float()
    if ARRAY not in arrays:
        raise ModelError(
            f"model.weights={weights}: a graph model, but not MoveNet's single-pose one; type the "
            ".json of MoveNet Lightning or Thunder"
        )
    return arrays


def _place(name: str) -> str | None:
    """Find the place of an array of the graph; None for constants of the decoding."""
    # a separable convolution: its depthwise kernel is read by the first operation
    deep = name.endswith("separable_conv2d/ReadVariableOp")
    if found := BRANCH.search(name):
        layer = "output" if found[2] is None else "depthwise" if deep else "pointwise"
        return f"{found[1]}.{layer}"
    if found := BLOCK.search(name):
        return f"{PLACES.get('model/' + found[1], found[1])}.{found[2]}"
    for inside, place in PLACES.items():
        if f"/{inside}/" in name and name.endswith(("ReadVariableOp", "_weights", "_bn_offset")):
            separable = "separable" in inside
            return f"{place}.{'depthwise' if deep else 'pointwise'}" if separable else place
    return None


def load_folded(
    module: nn.Module, arrays: Mapping[str, torch.Tensor], weights: str, what: str
) -> bool:
    """Load folded arrays, or a state dict of the module itself.

    A norm starts as mean 0, variance 1, weight √(1 + ε) and the folded bias: in evaluation mode it
    adds the bias and changes nothing else.

    Args:
        module: made of `ConvNorm` and plain convolutions.
        arrays: by the module's names, without ``conv`` and ``norm``; or its state dict.
        weights: what the user typed, for messages.
        what: the architecture, for messages.

    Returns:
        Whether the arrays were folded.

    Raises:
        ModelError: arrays that are missing or of another shape.
    """
    if any(name.endswith("norm.running_var") for name in arrays):
        load_backbone(module, arrays, weights, what)
        return False
    state = {}
    for name, value in module.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        place, _, layer = stem.rpartition(".")
        if layer == "conv":
            given = arrays.get(_file_name(f"{place}.weight"))
        elif layer == "norm":
            norm = module.get_submodule(stem)
            assert isinstance(norm, nn.BatchNorm2d)
            given = arrays.get(_file_name(f"{place}.bias")) if leaf == "bias" else value
            if leaf == "weight":
                given = torch.full_like(value, math.sqrt(1 + norm.eps))
        else:
            given = arrays.get(_file_name(name))
        if given is not None:
            state[name] = given
    load_backbone(module, state, weights, what)
    return True


def _file_name(name: str) -> str:
    return name.removeprefix("blocks.")


DTYPES = {"float16": np.float16, "float32": np.float32, "int32": np.int32, "bool": np.bool_}


def read_graph_model(path: Path) -> dict[str, torch.Tensor]:
    """Read the arrays of a TF.js graph model by their names in the graph, in TensorFlow's layout.

    The shards are looked for beside the JSON, where they lie in every package. What a graph
    computes is not read: nothing of the file is run.

    Args:
        path: the ``.json``.

    Raises:
        ModelError: no such file, no graph model, a shard that is missing or of another size, or
            arrays that are stored in a way other than plain numbers (quantised to 8 bits).
    """
    groups = _manifest(path)
    arrays: dict[str, torch.Tensor] = {}
    for group in groups:
        data = b"".join(_shard(path, name) for name in group["paths"])
        start = 0
        for entry in group["weights"]:
            name, shape = entry["name"], entry["shape"]
            stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
            if stored not in DTYPES:
                raise ModelError(
                    f"{path}: the array {name} is stored as {stored}; expected "
                    f"{', '.join(DTYPES)}: take the model's float16 or float32 form"
                )
            kind = np.dtype(DTYPES[stored]).newbyteorder("<")
            end = start + math.prod(shape) * kind.itemsize
            if end <= len(data):
                array = np.frombuffer(data[start:end], dtype=kind).reshape(shape)
                arrays[name] = torch.from_numpy(array.astype(DTYPES[stored]))
            start = end
        if start != len(data):
            raise ModelError(
                f"{path}: its arrays take {start} bytes, and {', '.join(group['paths'])} "
                f"{'has' if len(group['paths']) == 1 else 'have'} {len(data)}; the download was "
                "cut off, or the shards are of another model: get both again"
            )
    return arrays


def _manifest(path: Path) -> list[dict[str, Any]]:
    try:
        content = load_json(path)
        groups: list[dict[str, Any]] = content["weightsManifest"]
        if not groups or not all(g["paths"] and "weights" in g for g in groups):
            raise KeyError
    except FileNotFoundError:
        raise ModelError(
            f"{path}: no such file; expected a TF.js graph model (.json, its .bin beside it)"
        ) from None
    except (OSError, DataError, *UNEXPECTED) as error:
        raise ModelError(
            f"{path}: not a TF.js graph model, it lists no weightsManifest; expected the .json "
            "that comes with .bin files"
        ) from error
    return groups


def _shard(path: Path, name: str) -> bytes:
    file = path.parent / Path(name).name  # beside the JSON, whatever the JSON says
    try:
        return file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{file}: {error.strerror or 'cannot be read'}; {path.name} has its arrays there: put "
            "both files into one folder"
        ) from None
