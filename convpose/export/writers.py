"""Write the three formats; OpenVINO's file is made from the ONNX graph."""

import copy
import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convpose.models.pose_model import PoseModel
from convpose.runtime.exported import INPUT, KEY, OUTPUTS

OPSET = 20


class Deployed(nn.Module):
    """Reduce a network to what use needs: crops to keypoints and scores.

    Args:
        model: the network; it is copied.
        half: whether backbone and head compute in fp16. Keypoints are decoded in fp32 anyway.
    """

    def __init__(self, model: nn.Module, half: bool = False) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        if half:
            for part in self.model.modules():
                if isinstance(part, PoseModel):  # the network, and those that a cascade starts from
                    part.backbone.half().register_forward_pre_hook(_to_half)
                    part.head.half()
        self.eval()

    def forward(self, crops: torch.Tensor) -> dict[str, torch.Tensor]:
        """Turn (B, 3, S, S) uint8 into keypoints (B, K, 2) and scores (B, K)."""
        output = self.model(crops)
        return {"keypoints": output["keypoints"].float(), "scores": output["scores"].float()}


def _to_half(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.half() for tensor in inputs)


def write_onnx(
    network: nn.Module, input_size_px: int, facts: Mapping[str, Any], path: Path
) -> None:
    """Write a `Deployed` network as ONNX, for batches of any size.

    Args:
        network: the network.
        input_size_px: side of its crops.
        facts: metadata, see `convpose.export.network.Network.facts`.
        path: the file.
    """
    onnx: Any = importlib.import_module("onnx")
    crops = torch.zeros(2, 3, input_size_px, input_size_px, dtype=torch.uint8)
    with torch.no_grad(), quiet():
        program: Any = torch.onnx.export(
            network,
            (crops,),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            verbose=False,
        )
    graph = program.model_proto
    onnx.helper.set_model_props(graph, {KEY: json.dumps(facts)})
    path.write_bytes(graph.SerializeToString())


def write_openvino(source: Path, facts: Mapping[str, Any], path: Path, half: bool) -> None:
    """Write an ONNX file as OpenVINO's ``.xml`` and ``.bin``.

    Args:
        source: the ONNX file.
        facts: see `write_onnx`.
        path: the ``.xml`` file.
        half: whether the weights are stored in fp16; the engine chooses what to compute in.
    """
    engine: Any = importlib.import_module("openvino")
    model = engine.Core().read_model(source)
    model.set_rt_info(json.dumps(facts), [KEY])
    engine.save_model(model, path, compress_to_fp16=half)


def write_torchscript(
    network: nn.Module, input_size_px: int, facts: Mapping[str, Any], path: Path
) -> None:
    """Write a `Deployed` network as TorchScript; see `write_onnx`."""
    jit: Any = torch.jit  # its functions have no types
    crops = torch.zeros(2, 3, input_size_px, input_size_px, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        # TorchScript is deprecated, but the user asked for it; a trace may freeze what should vary,
        # which the check against PyTorch would notice
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", jit.TracerWarning)
        traced = jit.freeze(jit.trace(network, crops, strict=False))
        jit.save(traced, path, _extra_files={KEY: json.dumps(facts)})


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporters log about each node that they merge or remove."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


WEIGHTED = ("Conv", "Gemm", "MatMul")
BATCH_SIZE = 8  # crops; the activations of all nodes are held for them


def quantize(source: Path, crops: NDArray[np.uint8], path: Path) -> None:
    """Write an int8 version of an ONNX file: QDQ, which ONNX Runtime and OpenVINO both read.

    The normalisation, the last layers and the decoding after them stay fp32: rounding a heatmap or
    a coordinate to eight bits would cost half a pixel.

    Args:
        source: fp32 file of `write_onnx`.
        crops: (N, 3, S, S) uint8, such as the network will see.
        path: the new file.
    """
    onnx: Any = importlib.import_module("onnx")
    tool: Any = importlib.import_module("onnxruntime.quantization")
    graph = onnx.load(source)
    with quiet():
        tool.quantize_static(
            source,
            path,
            _reader(tool.CalibrationDataReader, crops),
            quant_format=tool.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tool.QuantType.QUInt8,
            weight_type=tool.QuantType.QInt8,
            calibrate_method=tool.CalibrationMethod.MinMax,
            nodes_to_exclude=whole_nodes(graph.graph),
        )
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    made = onnx.load(path)
    onnx.helper.set_model_props(made, {KEY: facts[KEY]})
    onnx.save(made, path)


def whole_nodes(graph: Any) -> list[str]:
    """List the nodes that stay fp32: before the first weights, the last weights, and after.

    Args:
        graph: ONNX, its nodes in topological order.
    """
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    weights_follow: dict[str, bool] = {}
    for node in reversed(graph.node):
        following = [reader for name in node.output for reader in readers.get(name, [])]
        weights_follow[node.name] = any(
            reader.op_type in WEIGHTED or weights_follow[reader.name] for reader in following
        )
    weighted: set[str] = set()  # tensors that some weights were multiplied into
    whole = []
    for node in graph.node:
        inside = node.op_type in WEIGHTED or not weighted.isdisjoint(node.input)
        if inside:
            weighted.update(node.output)
        if not (inside and weights_follow[node.name]):
            whole.append(node.name)
    return whole


def _reader(base: Any, crops: NDArray[np.uint8]) -> Any:
    batches = iter([crops[i : i + BATCH_SIZE] for i in range(0, len(crops), BATCH_SIZE)])

    class Reader(base):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader()
