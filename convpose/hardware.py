"""Ask this machine for devices, cores, precision and memory."""

import contextlib
import os
import platform
import re
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING

from omegaconf import DictConfig

from convpose.errors import ConfigError

if TYPE_CHECKING:
    import torch

AUTOCAST = {"bf16-mixed": "bfloat16", "16-mixed": "float16"}  # names: torch takes a second
_lease: list[IO[str]] = []  # open, and so locked, as long as the process lives


def want_gpu(accelerator: str, there: bool, remedy: str) -> bool:
    """Decide whether to compute on the GPU.

    Raises:
        ConfigError: an unknown accelerator, or a GPU that the engine does not have.
    """
    if accelerator not in ("auto", "cpu", "gpu"):
        raise ConfigError(f"accelerator={accelerator}: type auto, cpu or gpu")
    if accelerator == "gpu" and not there:
        raise ConfigError(f"accelerator=gpu: {remedy}; type accelerator=cpu")
    return accelerator != "cpu" and there


def share_devices(launcher: DictConfig) -> None:
    """Give a job its own GPU if its launcher runs several at once on this machine."""
    if launcher.get("n_jobs", 1) != 1:  # joblib's; SLURM hands out devices itself
        lease_gpu()


def lease_gpu() -> str | None:
    """Make the least used GPU the only one that this process sees, before CUDA looks.

    Processes of the same user that lease are counted, no others.

    Returns:
        Its entry of ``CUDA_VISIBLE_DEVICES``; None where there is no GPU.
    """
    gpus = visible_gpus()
    if not gpus or _lease:  # a process of joblib runs many jobs
        return gpus[0] if gpus else None
    # with more processes than GPUs every GPU gets a second one, and so on
    attempts = ((gpu, _lock(gpu, lap)) for lap in count() for gpu in gpus)
    gpu, file = next((gpu, file) for gpu, file in attempts if file)
    _lease.append(file)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    return gpu


def visible_gpus() -> list[str]:
    """List the GPUs that this process may use, as entries of ``CUDA_VISIBLE_DEVICES``."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [gpu.strip() for gpu in listed.split(",") if gpu.strip() not in ("", "-1")]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]  # asks the driver, starts no CUDA


def _lock(gpu: str, lap: int) -> IO[str] | None:
    import fcntl  # not on Windows, where nothing is leased

    path = Path(tempfile.gettempdir()) / f"convpose-{os.getuid()}-gpu-{gpu}-{lap}.lock"
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


_MESSAGES = re.compile(
    r"CUDA.*out of memory|CUBLAS_STATUS_ALLOC_FAILED|can't allocate memory|Insufficient memory"
    r"|Cannot allocate memory|Unable to allocate"
)
_DEAD_WORKER = re.compile(
    r"DataLoader worker \(pid.*\) (is killed by signal: (Killed|Bus error)|exited unexpectedly)"
)


def out_of_memory(error: BaseException) -> bool:
    """Recognise the error of a device, the machine or an array library that got no memory."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError | OSError) and bool(_MESSAGES.search(str(error)))
    )


def loader_killed(error: BaseException) -> bool:
    """Recognise a dead loading process: the system kills what takes the last of the memory."""
    return isinstance(error, RuntimeError) and bool(_DEAD_WORKER.search(str(error)))


def describe_hardware() -> str:
    """Name the GPU if there is one, else the processor and its cores."""
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


def nvidia_driver() -> bool:
    """Tell if there may be a GPU of NVIDIA's, without asking torch, whose import takes seconds."""
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None


def available_cores() -> int:
    """Count the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def autocast(device: "torch.device", precision: str) -> contextlib.AbstractContextManager[None]:
    """Compute in the half precision that `precision` names; in whole precision for another name."""
    import torch

    half = AUTOCAST.get(precision)
    return torch.autocast(device.type, getattr(torch, half)) if half else contextlib.nullcontext()


def multiplies_bf16(device: "torch.device") -> bool:
    """Return True if the device multiplies bf16, not merely emulates it."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def resolve_precision(cfg: DictConfig) -> str:
    """Resolve ``trainer.precision=auto``: bf16 if the hardware has it, else fp16 or 32-bit."""
    import torch

    if cfg.trainer.precision != "auto":
        return str(cfg.trainer.precision)
    if cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if multiplies_bf16(torch.device("cuda")) else "16-mixed"
    return "bf16-mixed" if multiplies_bf16(torch.device("cpu")) else "32-true"
