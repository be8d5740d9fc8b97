"""Whether to compute on a GPU, and one GPU for each of several trainings at once on one machine.

A job of a parallel multirun and a worker of a search lease a GPU: they lock a file in the temporary
folder, and the system unlocks it however their process ends. The number of a job modulo the GPUs
would not do: as soon as one job ends early, the next number is another job's GPU.
"""

import os
import tempfile
from itertools import count
from pathlib import Path
from typing import IO

from omegaconf import DictConfig

from convpose.errors import ConfigError

_lease: list[IO[str]] = []  # open, and so locked, as long as the process lives


def want_gpu(accelerator: str, there: bool, remedy: str) -> bool:
    """Whether to compute on the GPU.

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
    places = ((gpu, _lock(gpu, lap)) for lap in count() for gpu in gpus)
    gpu, file = next((gpu, file) for gpu, file in places if file)
    _lease.append(file)
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    return gpu


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as entries of ``CUDA_VISIBLE_DEVICES``."""
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
