"""Write the five formats, two of phones; OpenVINO's file is made from the ONNX graph."""

import contextlib
import importlib
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convpose.models.pose_model import PoseModel
from convpose.runtime import INPUT, KEY, OUTPUTS
from convpose.runtime.engines import FACTS

OPSET = 18  # since 19 ONNX Runtime averages cells in ten times the time
ONNX_WEIGHTED = ("Conv", "Gemm", "MatMul")
BATCH_SIZE = 8  # crops; the activations of all nodes are held for them
LITERT_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporters log about each node that they merge or remove."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


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
            reader.op_type in ONNX_WEIGHTED or weights_follow[reader.name] for reader in following
        )
    weighted: set[str] = set()  # tensors that some weights were multiplied into
    whole = []
    for node in graph.node:
        inside = node.op_type in ONNX_WEIGHTED or not weighted.isdisjoint(node.input)
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


def write_litert(
    network: nn.Module,
    input_size_px: int,
    facts: Mapping[str, Any],
    path: Path,
    half: bool = False,
    calibration: NDArray[np.uint8] | None = None,
) -> None:
    """Write a `Deployed` network for LiteRT, for one crop at a time.

    The facts are appended as a zip archive, as TFLite's metadata have files.

    Args:
        network: the network; its memory layout is changed.
        input_size_px: side of its crops.
        facts: metadata, see `convpose.export.network.Network.facts`.
        path: the file.
        half: whether the weights are stored in fp16; they are computed with in fp32.
        calibration: crops (N, 3, S, S) uint8 for int8; None for no int8.
    """
    for part in network.modules():  # the converter mixes weights up that are laid out otherwise
        if isinstance(part, PoseModel):
            part.memory_format = torch.contiguous_format
            part.to(memory_format=torch.contiguous_format)
    with torch.no_grad(), silent():
        tool: Any = importlib.import_module("litert_torch")
        crop = torch.zeros(1, 3, input_size_px, input_size_px, dtype=torch.uint8)
        tool.convert(network, sample_kwargs={INPUT: crop}).export(str(path))
        if half or calibration is not None:
            _round(path, calibration)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(FACTS, json.dumps(facts))


def _round(path: Path, calibration: NDArray[np.uint8] | None) -> None:
    """Round the weights of a model to fp16, or weights and activations to int8.

    The last layer and the decoding after it stay fp32, see `quantize`.
    """
    tool: Any = importlib.import_module("ai_edge_quantizer.quantizer")
    kinds: Any = importlib.import_module("ai_edge_quantizer.qtyping")
    names: Any = importlib.import_module("ai_edge_quantizer.algorithm_manager").AlgorithmName
    model = tool.Quantizer(str(path))
    found = None
    if calibration is None:
        weights = kinds.TensorQuantizationConfig(16, dtype=kinds.TensorDataType.FLOAT)
        config = kinds.OpQuantizationConfig(
            weight_tensor_config=weights, compute_precision=kinds.ComputePrecision.FLOAT
        )
        for kind in LITERT_WEIGHTED:
            model.update_quantization_recipe(
                ".*", kinds.TFLOperationName(kind), config, names.FLOAT_CASTING
            )
    else:
        for kind, output in _inside(path):
            model.add_static_config(f"^{re.escape(output)};?$", kinds.TFLOperationName(kind), 8, 8)
        crops = [{INPUT: crop[None]} for crop in calibration]
        found = model.calibrate({"serving_default": crops}, num_threads=1)
    path.unlink()
    model.quantize(found, enable_progress_report=False).export_model(str(path))


def _inside(path: Path) -> list[tuple[str, str]]:
    """List kind and output of the convolutions and sums from the first one to before the last."""
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    reader: Any = importlib.import_module("ai_edge_quantizer.utils.tfl_flatbuffer_utils")
    model = reader.read_model(str(path))
    graph = model.subgraphs[0]
    named = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    kinds = [named[model.operatorCodes[op.opcodeIndex].builtinCode] for op in graph.operators]
    weighted = [i for i, kind in enumerate(kinds) if kind in LITERT_WEIGHTED]
    outputs = [graph.tensors[op.outputs[0]].name.decode() for op in graph.operators]
    return [
        (kinds[i], outputs[i])
        for i in range(weighted[0], weighted[-1])
        if kinds[i] in (*LITERT_WEIGHTED, "ADD")
    ]


class _Tuple(nn.Module):
    """Answer with keypoints and scores in this order, and take crops as numbers from 0 to 255."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.network(crops)
        return tuple(output[name] for name in OUTPUTS)


def write_coreml(
    network: nn.Module, input_size_px: int, facts: Mapping[str, Any], path: Path, half: bool
) -> None:
    """Write a `Deployed` network as a Core ML program whose input is a picture.

    Args:
        network: the network, fp32.
        input_size_px: see `write_litert`.
        facts: see there.
        path: the folder, ``.mlpackage``.
        half: whether it computes in fp16.
    """
    crop = torch.zeros(1, 3, input_size_px, input_size_px)
    table = torch._decomp.get_decompositions([torch.ops.aten.logit])  # coremltools has no logit
    with torch.no_grad(), silent():
        tool: Any = importlib.import_module("coremltools")
        program = torch.export.export(_Tuple(network), (crop,)).run_decompositions(table)
        model = tool.convert(
            program,
            inputs=[tool.ImageType(INPUT, crop.shape, color_layout=tool.colorlayout.RGB)],
            outputs=[tool.TensorType(name, dtype=np.float32) for name in OUTPUTS],
            minimum_deployment_target=tool.target.iOS16,
            compute_precision=tool.precision.FLOAT16 if half else tool.precision.FLOAT32,
            skip_model_load=True,
        )
        model.user_defined_metadata[KEY] = json.dumps(facts)
        model.save(str(path))


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep the converters' progress off the terminal, and their warnings about themselves."""
    out = io.StringIO()
    with (
        quiet(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
    ):
        warnings.simplefilter("ignore")
        yield
