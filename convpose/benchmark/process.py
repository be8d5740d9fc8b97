"""What a whole training costs besides its steps: seconds to start, memory at its peak."""

import resource
import subprocess
import sys
import tempfile
import time

import torch
from omegaconf import DictConfig

from convpose.benchmark.measure import Speed
from convpose.errors import ConvposeError

START = (
    *("data=synthetic", "data.sources.synthetic.num_images=64", "data.batch_size=4"),
    *("data.input_size_px=64", "data.num_workers=0", "model.width=0.125"),
    *("debug=fast", "logger=none", "callbacks.preview=null", "study=start"),
)


def start_speed(cfg: DictConfig) -> list[Speed]:
    """Seconds from the command to its answer, and to a first trained batch.

    Raises:
        ConvposeError: the command fails; its message says why.
    """
    seconds: dict[str, list[float]] = {"--cfg job": [], "one batch": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(cfg.rounds):
            for what, arguments in (("--cfg job", ("--cfg", "job")), ("one batch", START)):
                command = [sys.executable, "-m", "convpose.train", *arguments]
                start = time.perf_counter()
                done = subprocess.run(command, capture_output=True, cwd=folder, check=False)
                if done.returncode != 0:
                    raise ConvposeError(f"{' '.join(command)}: {done.stderr.decode()}")
                seconds[what].append(time.perf_counter() - start)
    return [Speed(f"convpose.train, {what}", rounds, "s") for what, rounds in seconds.items()]


def memory() -> list[Speed]:
    """Peak memory of this process and of the GPU, after what was measured before."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peaks = [Speed("peak memory of this process", [peak], "MiB")]
    if torch.cuda.is_available():
        used = torch.cuda.max_memory_allocated() / 2**20
        total = torch.cuda.get_device_properties(0).total_memory / 2**20
        peaks.append(Speed("peak memory of the GPU", [used], "MiB", total, "what it has"))
    return peaks
