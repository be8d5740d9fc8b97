"""Write the two formats of phones: LiteRT's ``.tflite`` and Core ML's ``.mlpackage``."""

import contextlib
import importlib
import io
import json
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

from convpose.export.writers import quiet
from convpose.models.pose_model import PoseModel
from convpose.runtime.engines import FACTS
from convpose.runtime.exported import INPUT, KEY, OUTPUTS

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


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

    The last layer and the decoding after it stay fp32, see `convpose.export.writers.quantize`.
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
        for kind in WEIGHTED:
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
    weighted = [i for i, kind in enumerate(kinds) if kind in WEIGHTED]
    outputs = [graph.tensors[op.outputs[0]].name.decode() for op in graph.operators]
    return [
        (kinds[i], outputs[i])
        for i in range(weighted[0], weighted[-1])
        if kinds[i] in (*WEIGHTED, "ADD")
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
