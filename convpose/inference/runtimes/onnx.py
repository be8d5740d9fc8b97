"""ONNX Runtime: small, fast on processors of all makers, and on NVIDIA's GPUs."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convpose.devices import want_gpu
from convpose.extras import require
from convpose.inference.runtimes.exported import (
    INPUT,
    KEY,
    OUTPUTS,
    ExportedRuntime,
    broken,
    check_file,
)

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
        require("onnx", "onnxruntime")
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
