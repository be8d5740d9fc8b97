"""OpenVINO: Intel's engine, for processors of its instruction set and for Intel's GPUs."""

import importlib
from pathlib import Path
from threading import Lock
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
        require("openvino", "openvino")
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
