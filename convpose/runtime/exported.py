"""Read what an exported file says of itself; the engines that run it are in `engines`."""

import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convpose.bounded import MAX_FACTS, parse_json
from convpose.errors import DataError, ModelError, require_extra
from convpose.hardware import want_gpu
from convpose.runtime import CropSpec, Runtime

if TYPE_CHECKING:  # the module imports torch
    from convpose.runtime.pytorch import TorchRuntime

VERSION = 1  # of the facts
KEY = "convpose"  # under which a file's metadata holds the facts about it
INPUT, OUTPUTS = "crops", ("keypoints", "scores")


class ExportedRuntime(ABC):
    """Run one exported file: base of the engines.

    Args:
        path: the file.
        facts: JSON text in its metadata, None if there is none.

    Attributes:
        spec: see `Runtime`.

    Raises:
        ModelError: no facts, or facts of another version.
    """

    def __init__(self, path: Path, facts: str | None) -> None:
        self.path = path
        self.spec = read_spec(path, facts)

    @abstractmethod
    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute keypoints; see `Runtime`."""

    def with_tta(self, mirror: bool, quarter_turns: bool) -> Runtime:
        """Return a runtime with test-time augmentation; itself where neither is asked for."""
        if not (mirror or quarter_turns):
            return self
        from convpose.runtime.pytorch import AsModule, TorchRuntime  # augments in torch

        return TorchRuntime(AsModule(self), self.spec).with_tta(mirror, quarter_turns)


def load_torchscript(
    path: str | Path, accelerator: str = "auto", threads: int | None = None
) -> "TorchRuntime":
    """Load a ``.torchscript`` file of `convpose.export`.

    Such a file holds a program: open none from people whose programs you would not run.

    Args:
        path: the file.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where there is one.
        threads: number of processor threads; None for PyTorch's own choice.

    Raises:
        ConfigError: no such accelerator.
        ModelError: no such file, or one that cannot be read.
    """
    import torch  # the other engines are open before it is imported

    from convpose.runtime.pytorch import TorchRuntime

    path = Path(path)
    check_file(path)
    on_gpu = want_gpu(accelerator, torch.cuda.is_available(), "PyTorch sees no GPU here")
    device = "cuda" if on_gpu else "cpu"
    extra = {KEY: ""}
    with reading(path, "TorchScript"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, but the user asked for it
        jit: Any = torch.jit  # its functions have no types
        module = jit.load(path, map_location=device, _extra_files=extra)
    spec = read_spec(path, extra[KEY])
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchRuntime(module, spec, device)


def check_file(path: Path) -> None:
    """Refuse an exported file that is not there."""
    if not path.is_file():
        raise ModelError(f"weights={path}: no such file; python -m convpose.export writes one")


def check_external_data(path: Path) -> None:
    """Refuse an ONNX file that names a file outside its folder as the place of its weights.

    Raises:
        ModelError: it does, or is no ONNX file.
        ConfigError: onnx, which reads the names, is not installed.
    """
    content = path.read_bytes()
    if b"location" not in content:  # the key that names a file; texts stand in the file as they are
        return
    require_extra("onnx", "onnx")
    onnx: Any = importlib.import_module("onnx")
    with reading(path, "ONNX"):
        graph = onnx.load_from_string(content)
    folder = path.parent.resolve()
    for location in _locations(graph):
        if not (folder / location).resolve().is_relative_to(folder):
            raise ModelError(
                f"weights={path}: wants to read {location}, outside its folder; use a file that "
                "convpose.export wrote"
            )


def _locations(message: Any) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in [value] if hasattr(value, "ListFields") else value:
            if field.name == "external_data" and part.key == "location":
                yield part.value
            else:
                yield from _locations(part)


def read_spec(path: Path, facts: str | None) -> CropSpec:
    """Read the `CropSpec` in the facts of a file.

    Raises:
        ModelError: no facts, or facts of another version.
    """
    try:
        content: dict[str, Any] = parse_json(str(path), facts or "", most=MAX_FACTS)
        version, spec = content["version"], content["spec"]
    except (DataError, LookupError, TypeError) as error:
        raise ModelError(
            f"weights={path}: does not say what crops it wants and what its keypoints are; use a "
            "file that convpose.export wrote"
        ) from error
    if version != VERSION:
        raise ModelError(
            f"weights={path}: format version {version}, this convpose reads {VERSION}; export the "
            "network again"
        )
    return CropSpec.from_dict(spec)


@contextmanager
def reading(path: str | Path, kind: str, key: str = "weights") -> Iterator[None]:
    """Raise ModelError where an engine cannot read a file; ``key`` is how the user named it."""
    try:
        yield
    except Exception as error:  # the engines' own types, which share no base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{key}={path}: not a readable {kind} file ({reason})") from error
