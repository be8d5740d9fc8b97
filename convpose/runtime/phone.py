"""Run exported files in the engines of phones: LiteRT, and Core ML on a Mac."""

import importlib
import sys
import zipfile
from abc import abstractmethod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convpose.bounded import MAX_FACTS
from convpose.errors import ConfigError, ModelError, require_extra
from convpose.hardware import want_gpu
from convpose.runtime.exported import INPUT, KEY, OUTPUTS, ExportedRuntime, broken, check_file

FACTS = f"{KEY}.json"  # in the zip archive behind a LiteRT model
MAC_ONLY = "Core ML computes on macOS alone"


class _OneByOne(ExportedRuntime):
    """Run a file that takes one crop at a time."""

    def __init__(self, path: Path, facts: str | None) -> None:
        super().__init__(path, facts)
        self._alone = Lock()  # the engines' own objects are for one thread

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute keypoints; see `Runtime`."""
        with self._alone:
            found = [self._answer(crop) for crop in crops]
        keypoints, scores = (np.concatenate([one[name] for one in found]) for name in OUTPUTS)
        return keypoints, scores

    @abstractmethod
    def _answer(self, crop: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Compute `OUTPUTS` of one crop (3, S, S), in a batch of one."""


class LiteRtRuntime(_OneByOne):
    """Run a ``.tflite`` file in LiteRT, on the processor.

    Args:
        path: a file of `convpose.export`.
        accelerator: ``cpu`` or ``auto``.
        threads: number of processor threads; None for the engine's own choice.

    Raises:
        ConfigError: ai-edge-litert is not installed, or no such accelerator.
        ModelError: no such file, or one that cannot be read.
    """

    def __init__(
        self, path: str | Path, accelerator: str = "auto", threads: int | None = None
    ) -> None:
        require_extra("litert", "ai_edge_litert")
        engine: Any = importlib.import_module("ai_edge_litert.interpreter")
        path = Path(path)
        check_file(path)
        want_gpu(accelerator, False, "LiteRT uses the processor here")
        super().__init__(path, litert_facts(path))
        try:
            self._interpreter = engine.Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
            self._run = self._interpreter.get_signature_runner()
        except Exception as error:  # the engine's own types
            raise broken(path, "LiteRT", error) from error

    def _answer(self, crop: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        found: dict[str, NDArray[np.float32]] = self._run(**{INPUT: crop[None]})
        return found


def litert_facts(path: Path) -> str | None:
    """Read the facts in the archive behind a LiteRT model; None if there is none."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(FACTS) as file:
            return file.read(MAX_FACTS + 1).decode("utf-8", "replace")
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError):
        return None


class CoreMlRuntime(_OneByOne):
    """Run an ``.mlpackage`` in Core ML, on a Mac.

    Args:
        path: a folder that `convpose.export` wrote.
        accelerator: ``cpu``; ``gpu`` and ``auto`` leave it to the system, neural engine and all.
        threads: None; Core ML has no such choice.

    Raises:
        ConfigError: not on a Mac, or coremltools is not installed.
        ModelError: no such folder, or one that cannot be read.
    """

    def __init__(
        self, path: str | Path, accelerator: str = "auto", threads: int | None = None
    ) -> None:
        path = Path(path)
        if sys.platform != "darwin":
            raise ConfigError(f"weights={path}: {MAC_ONLY}; here, use a file of format=onnx")
        require_extra("coreml", "coremltools")
        engine: Any = importlib.import_module("coremltools")
        if not path.is_dir():
            raise ModelError(f"weights={path}: no such folder; python -m convpose.export writes it")
        everything = want_gpu(accelerator, True, "")
        unit = engine.ComputeUnit.ALL if everything else engine.ComputeUnit.CPU_ONLY
        try:
            self._model: Any = engine.models.MLModel(str(path), compute_units=unit)
        except Exception as error:  # the engine's own types
            raise broken(path, "Core ML", error) from error
        super().__init__(path, self._model.user_defined_metadata.get(KEY))

    def _answer(self, crop: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        picture = Image.fromarray(crop.transpose(1, 2, 0))
        found: dict[str, NDArray[np.float32]] = self._model.predict({INPUT: picture})
        return {name: found[name].astype(np.float32) for name in OUTPUTS}
