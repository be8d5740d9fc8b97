"""Name the engines, and the files that each of them runs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Union

from convpose.runtime.exported import (
    ExportedRuntime,
    OnnxRuntime,
    OpenVinoRuntime,
    load_torchscript,
)
from convpose.runtime.phone import CoreMlRuntime, LiteRtRuntime

if TYPE_CHECKING:
    from convpose.runtime.pytorch import TorchRuntime

AnyRuntime = Union["TorchRuntime", ExportedRuntime]
# by engine: (file, accelerator, threads) → runtime
OPENERS: dict[str, Callable[[str | Path, str, int | None], AnyRuntime]] = {
    "torch": load_torchscript,
    "onnx": OnnxRuntime,
    "openvino": OpenVinoRuntime,
    "litert": LiteRtRuntime,
    "coreml": CoreMlRuntime,
}
ENGINE_OF = {
    ".onnx": "onnx",
    ".xml": "openvino",
    ".torchscript": "torch",
    ".tflite": "litert",
    ".mlpackage": "coreml",
}
