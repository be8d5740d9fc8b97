"""Run exported files in ONNX Runtime, OpenVINO, LiteRT and, on a Mac, Core ML; name the engines.

The networks that come with convpose are named here as well. Nothing here needs torch.
"""

import importlib
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convpose.bounded import MAX_FACTS
from convpose.config.schema import Packaged
from convpose.errors import ConfigError, ModelError, require_extra
from convpose.hardware import want_gpu
from convpose.runtime import (
    INPUT,
    KEY,
    OUTPUTS,
    Runtime,
    check_external_data,
    check_file,
    read_spec,
    reading,
)

FACTS = f"{KEY}.json"  # in the zip archive behind a LiteRT model
MAC_ONLY = "Core ML computes on macOS alone"


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


class OnnxRuntime(ExportedRuntime):
    """Run an ``.onnx`` file in ONNX Runtime.

    Args:
        path: a file of `convpose.export`.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where onnxruntime-gpu finds one.
        threads: number of processor threads; None for the engine's own choice.

    Raises:
        ConfigError: onnxruntime is not installed, or no such accelerator.
        ModelError: no such file, or one that cannot be read.
    """

    def __init__(
        self, path: str | Path, accelerator: str = "auto", threads: int | None = None
    ) -> None:
        require_extra("onnx", "onnxruntime")
        path = Path(path)
        check_file(path)
        check_external_data(path)
        self._session = onnx_session(path, accelerator, threads)
        super().__init__(path, self._session.get_modelmeta().custom_metadata_map.get(KEY))

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute keypoints; see `Runtime`."""
        keypoints, scores = self._session.run(OUTPUTS, {INPUT: crops})
        return keypoints, scores


def onnx_session(
    path: str | Path, accelerator: str = "auto", threads: int | None = None, key: str = "weights"
) -> Any:
    """Open a file in ONNX Runtime, which is installed; see `OnnxRuntime` and `reading`."""
    engine: Any = importlib.import_module("onnxruntime")  # ships no types
    cuda = "CUDAExecutionProvider" in engine.get_available_providers()
    on_gpu = want_gpu(accelerator, cuda, "ONNX Runtime sees none (onnxruntime-gpu brings it)")
    options = engine.SessionOptions()
    options.log_severity_level = 3  # errors only; they are raised as well
    options.intra_op_num_threads = threads or 0
    providers = ["CUDAExecutionProvider"] * on_gpu + ["CPUExecutionProvider"]
    with reading(path, "ONNX", key):
        return engine.InferenceSession(str(path), options, providers=providers)


class OpenVinoRuntime(ExportedRuntime):
    """Run an ``.xml`` file with its ``.bin`` in OpenVINO.

    Layers that are not int8 are computed in fp32. On processors with bf16, OpenVINO would choose
    that by itself, and one keypoint in a hundred would land pixels away.

    Args:
        path: the ``.xml`` file of `convpose.export`.
        accelerator: ``cpu``, ``gpu`` for a GPU of Intel, or ``auto`` for one where there is one.
        threads: number of processor threads; None for the engine's own choice.

    Raises:
        ConfigError: openvino is not installed, or no such accelerator.
        ModelError: no such file, or one that cannot be read.
    """

    def __init__(
        self, path: str | Path, accelerator: str = "auto", threads: int | None = None
    ) -> None:
        require_extra("openvino", "openvino")
        engine: Any = importlib.import_module("openvino")
        path = Path(path)
        for file in (path, path.with_suffix(".bin")):
            check_file(file)
        core = engine.Core()
        intel = any(device.startswith("GPU") for device in core.available_devices)
        on_gpu = want_gpu(accelerator, intel, "OpenVINO sees no GPU of Intel's here")
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        with reading(path, "OpenVINO"):
            model = core.read_model(path)
            facts = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None
            compiled = core.compile_model(model, "GPU" if on_gpu else "CPU", options)
        super().__init__(path, facts)
        self._request = compiled.create_infer_request()
        self._alone = Lock()  # a request computes one batch at a time

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute keypoints; see `Runtime`."""
        with self._alone:
            found = self._request.infer({INPUT: crops}, share_inputs=True)
        keypoints, scores = (found[name] for name in OUTPUTS)
        return keypoints, scores


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
        with reading(path, "LiteRT"):
            self._interpreter = engine.Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
            self._run = self._interpreter.get_signature_runner()

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
        with reading(path, "Core ML"):
            self._model: Any = engine.models.MLModel(str(path), compute_units=unit)
        super().__init__(path, self._model.user_defined_metadata.get(KEY))

    def _answer(self, crop: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        picture = Image.fromarray(crop.transpose(1, 2, 0))
        found: dict[str, NDArray[np.float32]] = self._model.predict({INPUT: picture})
        return {name: found[name].astype(np.float32) for name in OUTPUTS}


def _torchscript(path: str | Path, accelerator: str, threads: int | None) -> Runtime:
    from convpose.runtime.pytorch import load_torchscript  # imports torch, others are open before

    return load_torchscript(path, accelerator, threads)


# by engine: (file, accelerator, threads) → runtime
OPENERS: dict[str, Callable[[str | Path, str, int | None], Runtime]] = {
    "torch": _torchscript,
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
