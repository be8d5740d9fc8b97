"""What the runtimes of exported files share: the facts that such a file holds about itself."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convpose.errors import ModelError
from convpose.runtime.crop_spec import Spec
from convpose.runtime.runtime import Runtime, TorchRuntime

VERSION = 1
KEY = "convpose"  # of the facts in a file's metadata
INPUT, OUTPUTS = "crops", ("keypoints", "scores")


class ExportedRuntime(ABC):
    """Base of the runtimes that read one exported file.

    Args:
        path: the file.
        facts: JSON text of its metadata, None where it has none.

    Attributes:
        spec: see `Runtime`.

    Raises:
        ModelError: facts of another version, or none.
    """

    def __init__(self, path: Path, facts: str | None) -> None:
        self.path = path
        self.spec = read_spec(path, facts)

    @abstractmethod
    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Runtime`."""

    def with_tta(self, mirror: bool, quarter_turns: bool) -> Runtime:
        """Return a runtime with test-time augmentation; itself where neither is asked for."""
        if not (mirror or quarter_turns):
            return self
        return TorchRuntime(_Module(self), self.spec).with_tta(mirror, quarter_turns)


class _Module(nn.Module):
    """A runtime that answers as a `PoseModel` on the CPU does."""

    def __init__(self, runtime: ExportedRuntime) -> None:
        super().__init__()
        self._runtime = runtime

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        keypoints, scores = self._runtime(image.contiguous().numpy())
        return {"keypoints": torch.from_numpy(keypoints), "scores": torch.from_numpy(scores)}


def check_file(path: Path) -> None:
    """ModelError if an exported file is not there."""
    if not path.is_file():
        raise ModelError(f"weights={path}: no such file; python -m convpose.export writes one")


def read_spec(path: Path, facts: str | None) -> Spec:
    """The `Spec` in the facts of a file.

    Raises:
        ModelError: facts of another version, or none.
    """
    try:
        content: dict[str, Any] = json.loads(facts or "")
        version, spec = content["version"], content["spec"]
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(
            f"weights={path}: does not say what crops it wants and what its keypoints are; use a "
            "file that convpose.export wrote"
        ) from error
    if version != VERSION:
        raise ModelError(
            f"weights={path}: format version {version}, this convpose reads {VERSION}; export the "
            "network again"
        )
    return Spec.from_dict(spec)


def broken(path: Path, kind: str, error: Exception) -> ModelError:
    """The error for a file that its engine cannot read."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelError(f"weights={path}: not a readable {kind} file ({reason})")
