"""Exported files in ONNX Runtime, OpenVINO and TorchScript."""

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convpose.errors import require_extra
from convpose.hardware import want_gpu
from convpose.runtime.exported import (
    INPUT,
    KEY,
    OUTPUTS,
    ExportedRuntime,
    broken,
    check_file,
    read_spec,
)
from convpose.runtime.runtime import TorchRuntime

ERROR = 3  # of ONNX Runtime's log levels; what fails is raised as well


class OnnxRuntime(ExportedRuntime):
    """A network in an ``.onnx`` file.

    Args:
        path: a file of `convpose.export`.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where onnxruntime-gpu finds one.
        threads: of the processor; None for the engine's own choice.

    Raises:
        ConfigError: onnxruntime is not installed, or no such accelerator.
        ModelError: not such a file.
    """

    def __init__(
        self, path: str | Path, accelerator: str = "auto", threads: int | None = None
    ) -> None:
        require_extra("onnx", "onnxruntime")
        engine: Any = importlib.import_module("onnxruntime")  # ships no types
        path = Path(path)
        check_file(path)
        cuda = "CUDAExecutionProvider" in engine.get_available_providers()
        on_gpu = want_gpu(accelerator, cuda, "ONNX Runtime sees none (onnxruntime-gpu brings it)")
        options = engine.SessionOptions()
        options.log_severity_level = ERROR
        options.intra_op_num_threads = threads or 0
        providers = ["CUDAExecutionProvider"] * on_gpu + ["CPUExecutionProvider"]
        try:
            self._session = engine.InferenceSession(str(path), options, providers=providers)
            facts = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        except Exception as error:  # the engine's own types, which share no base
            raise broken(path, "ONNX", error) from error
        super().__init__(path, facts)

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Runtime`."""
        keypoints, scores = self._session.run(OUTPUTS, {INPUT: crops})
        return keypoints, scores


class OpenVinoRuntime(ExportedRuntime):
    """A network in an ``.xml`` file with its ``.bin``.

    What is not int8 is computed in fp32. Where the processor multiplies bf16, OpenVINO would choose
    that by itself, and a keypoint in a hundred then lands pixels away.

    Args:
        path: the ``.xml`` file of `convpose.export`.
        accelerator: ``cpu``, ``gpu`` for one of Intel's, or ``auto`` for it where there is one.
        threads: of the processor; None for the engine's own choice.

    Raises:
        ConfigError: openvino is not installed, or no such accelerator.
        ModelError: not such a file.
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
        try:
            model = core.read_model(path)
            facts = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None
            compiled = core.compile_model(model, "GPU" if on_gpu else "CPU", options)
        except Exception as error:  # the engine's own types
            raise broken(path, "OpenVINO", error) from error
        super().__init__(path, facts)
        self._request = compiled.create_infer_request()
        self._alone = Lock()  # a request computes one batch at a time

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Runtime`."""
        with self._alone:
            found = self._request.infer({INPUT: crops}, share_inputs=True)
        keypoints, scores = (found[name] for name in OUTPUTS)
        return keypoints, scores


def load_torchscript(
    path: str | Path, accelerator: str = "auto", threads: int | None = None
) -> TorchRuntime:
    """The network of a ``.torchscript`` file of `convpose.export`.

    Such a file holds a program: open none from people whom you would not let run one.

    Args:
        path: the file.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where there is one.
        threads: of the processor; None for PyTorch's own choice.

    Raises:
        ConfigError: no such accelerator.
        ModelError: not such a file.
    """
    path = Path(path)
    check_file(path)
    on_gpu = want_gpu(accelerator, torch.cuda.is_available(), "PyTorch sees no GPU here")
    device = "cuda" if on_gpu else "cpu"
    extra = {KEY: ""}
    try:
        with warnings.catch_warnings():  # TorchScript is deprecated, and asked for
            warnings.simplefilter("ignore", FutureWarning)
            jit: Any = torch.jit  # its functions have no types
            module = jit.load(path, map_location=device, _extra_files=extra)
    except (RuntimeError, ValueError) as error:
        raise broken(path, "TorchScript", error) from error
    spec = read_spec(path, extra[KEY])
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchRuntime(module, spec, device)


AnyRuntime = TorchRuntime | ExportedRuntime
# (file, accelerator, threads) to the network of an exported file
OPENERS: dict[str, Callable[[str | Path, str, int | None], AnyRuntime]] = {
    "torch": load_torchscript,
    "onnx": OnnxRuntime,
    "openvino": OpenVinoRuntime,
}
ENGINE_OF = {".onnx": "onnx", ".xml": "openvino", ".torchscript": "torch"}
