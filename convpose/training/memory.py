"""Errors that mean that the memory is full, of the GPU, of the machine or of a loading process."""

import re

import torch

_MESSAGES = re.compile(
    r"CUDA.*out of memory|CUBLAS_STATUS_ALLOC_FAILED|can't allocate memory|Insufficient memory"
    r"|Cannot allocate memory|Unable to allocate"
)
_DEAD_WORKER = re.compile(
    r"DataLoader worker \(pid.*\) (is killed by signal: (Killed|Bus error)|exited unexpectedly)"
)


def out_of_memory(error: BaseException) -> bool:
    """Whether a device, the machine, or an array library could not get memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError | OSError) and bool(_MESSAGES.search(str(error)))
    )


def loader_killed(error: BaseException) -> bool:
    """Whether a loading process is gone: the system kills what takes the last of the memory."""
    return isinstance(error, RuntimeError) and bool(_DEAD_WORKER.search(str(error)))
