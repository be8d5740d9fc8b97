"""Static int8: ranges of all activations from calibration crops, weights by output channel."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convpose.exporting.writers import quiet
from convpose.inference.runtimes.exported import INPUT, KEY

WEIGHTED = ("Conv", "Gemm", "MatMul")
AT_A_TIME = 8  # crops; the activations of all nodes are held for them


def quantize(source: Path, crops: NDArray[np.uint8], path: Path) -> None:
    """Write an int8 version of an ONNX file: QDQ, which ONNX Runtime and OpenVINO both read.

    The normalisation, the last layers and the decoding behind them stay fp32: eight bits for a
    heatmap or a coordinate would be half a pixel.

    Args:
        source: fp32, of `convpose.exporting.writers.write_onnx`.
        crops: (N, 3, S, S) uint8, what the network will see.
        path: of the new file.
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
    """Names of the nodes that stay fp32: before the first weights, the last weights, and after.

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
    batches = iter([crops[i : i + AT_A_TIME] for i in range(0, len(crops), AT_A_TIME)])

    class Reader(base):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader()
