"""Name the engines with the files that each of them runs, and the networks that come with convpose.

Nothing here needs torch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Union, get_args

from convpose.config.schema import Packaged
from convpose.errors import ModelError
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
FOLDER = Path(__file__).parents[1] / "weights"
NAMES: tuple[str, ...] = get_args(Packaged)  # the first is the default


def weights_file(weights: str | Path | None = None) -> Path:
    """Find the file of a network that comes with convpose, or take a file's path as it is.

    Args:
        weights: ``small``, ``large``, ``packaged`` or None for the default, or a path.

    Raises:
        ModelError: a name that is none of these.
    """
    name = NAMES[0] if weights in (None, "packaged") else str(weights)
    if name in NAMES:
        return FOLDER / f"{name}.safetensors"
    if not (path := Path(name)).suffix and not path.exists():
        raise ModelError(f"weights={name}: type {', '.join(NAMES)} or weights=FILE.safetensors")
    return path


def onnx_file(weights: str | Path | None) -> Path | None:
    """Find the ONNX file of the same network that lies beside its weights; None without one."""
    file = weights_file(weights)
    beside = file.with_suffix(".onnx")
    return beside if file.parent == FOLDER and beside.is_file() else None
