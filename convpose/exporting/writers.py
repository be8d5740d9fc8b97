"""Writers of the three formats. OpenVINO's file is made from the ONNX graph, which is checked."""

import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convpose.inference.runtimes.exported import INPUT, KEY, OUTPUTS

OPSET = 20


def write_onnx(
    network: nn.Module, input_size_px: int, facts: Mapping[str, Any], path: Path
) -> None:
    """Write a `Deployed` network as ONNX, for batches of any size.

    Args:
        network: to write.
        input_size_px: side of its crops.
        facts: for the metadata.
        path: of the file.
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
        facts: for the metadata.
        path: of the ``.xml``.
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
        # TorchScript is deprecated, and asked for; what a trace freezes, the parity check would see
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", jit.TracerWarning)
        traced = jit.freeze(jit.trace(network, crops, strict=False))
        jit.save(traced, path, _extra_files={KEY: json.dumps(facts)})


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters log about each node that they merge, remove or advise on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
