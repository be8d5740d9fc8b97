"""MoveNet's files in small: random arrays of a narrow network, as safetensors and as Google's."""

import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from convpose.models.backbones.movenet import MoveNet
from convpose.models.keypoints.movenet import MoveNetHead
from convpose.models.pose_model import PoseModel

WIDTH = 0.1
NAMES = {"center": 1, "kpt_heatmap": 17, "kpt_regress": 34, "kpt_offset": 34}
ROOT = "StatefulPartitionedCall/"
PYRAMID = ROOT + "center_net_mobile_net_v2fpn_feature_extractor/model_1/"


def folded_arrays(seed: int = 0) -> dict[str, torch.Tensor]:
    """Half-precision arrays by the names of the published file."""
    rng = torch.Generator().manual_seed(seed)
    shapes = {}
    for name, value in MoveNet(WIDTH).state_dict().items():
        place = name.removeprefix("blocks.")
        if place.endswith((".conv.weight", ".depthwise.weight")):
            shapes[place.replace(".conv.weight", ".weight")] = value.shape
        elif place.endswith(".norm.bias"):
            shapes[place.replace(".norm.bias", ".bias")] = value.shape
    for branch, out in NAMES.items():
        shapes[f"{branch}.depthwise.weight"] = (24, 1, 3, 3)
        shapes[f"{branch}.pointwise.weight"] = (96, 24, 1, 1)
        shapes[f"{branch}.pointwise.bias"] = (96,)
        shapes[f"{branch}.output.weight"] = (out, 96, 1, 1)
        shapes[f"{branch}.output.bias"] = (out,)
    arrays = {}
    for name, shape in shapes.items():
        fan_in = int(np.prod(shape[1:])) or 1
        scale = 0.1 if len(shape) == 1 else (2 / fan_in) ** 0.5
        arrays[name] = (scale * torch.randn(shape, generator=rng)).half()
    return arrays


def write_arrays(folder: Path) -> Path:
    path = folder / "movenet_tiny.safetensors"
    save_file(folded_arrays(), path)
    return path


def google_name(name: str) -> str:
    """Name an array as Google's graph does, by hand."""
    place, _, leaf = name.rpartition(".")
    leaf = {"weight": "weights", "bias": "bn_offset"}[leaf]
    if place in ("stem", "last"):
        return f"{PYRAMID}model/{'Conv1' if place == 'stem' else 'Conv_1'}/Conv2D_{leaf}"
    if found := re.fullmatch(r"(block_\d+)\.(expand|depthwise|project)", place):
        block = "expanded_conv" if found[1] == "block_0" else found[1]
        kind = "depthwise" if found[2] == "depthwise" else "Conv2D"
        return f"{PYRAMID}model/{block}_{found[2]}/{kind}_{leaf}"
    read = {"weights": "Conv2D/ReadVariableOp", "bn_offset": "BiasAdd/ReadVariableOp"}[leaf]
    if found := re.fullmatch(r"pyramid\.lateral_(\d+)", place):
        number = ("32", "16", "8", "4").index(found[1])
        return f"{PYRAMID}conv2d{f'_{number}' if number else ''}/{read}"
    if found := re.fullmatch(r"pyramid\.smooth_(\d+)\.(depthwise|pointwise)", place):
        number = ("16", "8", "4").index(found[1])
        layer = f"{PYRAMID}separable_conv2d{f'_{number}' if number else ''}/separable_conv2d"
        return f"{layer}/ReadVariableOp" if found[2] == "depthwise" else f"{layer}_{leaf}"
    branch, layer = place.split(".")
    number = list(NAMES).index(branch)
    if layer == "output":
        return f"{ROOT}{branch}_0/conv2d_{4 + number}/{read}"
    layers = f"{ROOT}{branch}_0/separable_conv2d_{3 + number}"
    if leaf == "bn_offset":
        return f"{layers}/BiasAdd/ReadVariableOp"
    return f"{layers}/separable_conv2d/ReadVariableOp{'' if layer == 'depthwise' else '_1'}"


def write_graph(folder: Path) -> Path:
    """The same arrays as a TF.js graph model, in two shards and among constants of the decoding."""
    entries, parts = [], []
    for name, array in folded_arrays().items():
        deep = array.ndim == 4 and "depthwise" in name
        turned = array.permute((2, 3, 0, 1) if deep else (2, 3, 1, 0)) if array.ndim == 4 else array
        entry = {"name": google_name(name), "shape": list(turned.shape), "dtype": "float32"}
        entries.append(entry | {"quantization": {"dtype": "float16", "original_dtype": "float32"}})
        parts.append(turned.contiguous().numpy().tobytes())
    entries.append({"name": f"{ROOT}floordiv/y", "shape": [], "dtype": "int32"})
    parts.append(np.int32(48).tobytes())
    data = b"".join(parts)
    (folder / "tiny-1.bin").write_bytes(data[:1001])
    (folder / "tiny-2.bin").write_bytes(data[1001:])
    manifest = [{"paths": ["tiny-1.bin", "tiny-2.bin"], "weights": entries}]
    path = folder / "tiny.json"
    path.write_text(json.dumps({"format": "graph-model", "weightsManifest": manifest}))
    return path


def movenet_model(weights: str, size: int = 64) -> PoseModel:
    """Backbone and head of the narrow network with a file of weights, for LSP's joints."""
    backbone = MoveNet(WIDTH, weights)
    maps = (backbone.out_channels, backbone.strides)
    return PoseModel(backbone, MoveNetHead(*maps, size, 14, weights=weights), 14)


def movenet_crops(count: int = 4, size: int = 64) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=rng)
