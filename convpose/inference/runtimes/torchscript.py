"""TorchScript: a network for PyTorch that needs none of its Python code."""

import warnings
from pathlib import Path
from typing import Any

import torch

from convpose.devices import want_gpu
from convpose.inference.runtime import TorchRuntime
from convpose.inference.runtimes.exported import KEY, broken, check_file, read_spec


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
