"""Files of an export: made beside their place, and moved there only when all checks have passed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convpose.errors import ConfigError
from convpose.exporting.network import Deployed, Network
from convpose.exporting.quantize import quantize
from convpose.exporting.writers import write_onnx, write_openvino, write_torchscript
from convpose.extras import require
from convpose.inference.runtime import TorchRuntime

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".torchscript"}
PRECISIONS = ("fp32", "fp16", "int8")


def check_format(form: str, precision: str, target: Path | None = None) -> None:
    """Refuse what no writer can make.

    Raises:
        ConfigError: an unknown format or precision, a pair that does not go together, a file with
            the suffix of another format, or a package that is not installed.
    """
    if form not in SUFFIXES:
        raise ConfigError(f"format={form}: type {', '.join(SUFFIXES)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision}: type {', '.join(PRECISIONS)}")
    if (form, precision) == ("torchscript", "int8"):
        raise ConfigError(
            "format=torchscript precision=int8: there is no engine for it; type format=onnx or "
            "format=openvino"
        )
    if target is not None and target.suffix != SUFFIXES[form]:
        raise ConfigError(f"output={target}: a file of format={form} ends in {SUFFIXES[form]}")
    if form != "torchscript":
        require("onnx", "onnx", "onnxscript", "onnxruntime")
    if form == "openvino":
        require("openvino", "openvino")


def write(
    network: Network,
    runtime: TorchRuntime,
    form: str,
    precision: str,
    path: Path,
    calibration: NDArray[np.uint8] | None = None,
) -> None:
    """Write a network to a `staged` path.

    Args:
        network: to write.
        runtime: it in PyTorch.
        form: a key of `SUFFIXES`.
        precision: one of `PRECISIONS`.
        path: of the file.
        calibration: crops (N, 3, S, S), of int8 only.
    """
    facts, size = network.facts(runtime, precision), runtime.spec.input_size_px
    half = precision == "fp16"
    if form == "torchscript":
        write_torchscript(Deployed(runtime.model, half), size, facts, path)
        return
    between = path.parent / "between"
    between.mkdir()
    graph = path if form == "onnx" else between / "graph.onnx"
    if calibration is None:  # OpenVINO halves weights by itself, and decodes them as it computes
        write_onnx(Deployed(runtime.model, half and form == "onnx"), size, facts, graph)
    else:
        write_onnx(Deployed(runtime.model), size, facts, between / "fp32.onnx")
        quantize(between / "fp32.onnx", calibration, graph)
    if form == "openvino":
        write_openvino(graph, facts, path, half)


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A path of the same name in a folder of its own, whose file takes the place of `target`.

    If the block raises, nothing has happened. What else it leaves in the folder goes with it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        path = Path(folder) / target.name
        yield path
        for file in (path.with_suffix(".bin"), path):  # OpenVINO's weights before what needs them
            if file.is_file():
                file.replace(target.parent / file.name)
