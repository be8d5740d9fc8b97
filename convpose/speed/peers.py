"""What users would take instead: MediaPipe's pose network, on the same picture and machine."""

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from convpose.errors import ConfigError
from convpose.speed.measure import Speed

SCRIPT = Path(__file__).with_name("peers_script.py")


def mediapipe_speed(cfg: DictConfig, content: bytes, threads: list[int]) -> list[Speed]:
    """Milliseconds from the bytes of a JPEG to MediaPipe's keypoints.

    MediaPipe 0.10.21 wants NumPy below 2, so that it lives in an environment of its own:
    ``cfg.latency.mediapipe_python`` is its interpreter. It chooses its threads; it gets as many
    cores.

    Raises:
        ConfigError: an interpreter that cannot measure it.
    """
    own = sys.executable if find_spec("mediapipe") else None
    python = cfg.latency.mediapipe_python or own
    if python is None:
        return []
    speeds = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.jpg"
        file.write_bytes(content)
        for cores in threads:
            command = [
                python,
                "-I",
                str(SCRIPT),
                str(file),
                str(cfg.latency.repetitions),
                str(cores),
            ]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                reason = str(getattr(error, "stderr", None) or error).strip().splitlines()[-1]
                raise ConfigError(
                    f"latency.mediapipe_python={python}: {reason}; it needs to be a Python with "
                    "mediapipe==0.10.21"
                ) from error
            for line in done.stdout.splitlines():
                measured = json.loads(line)
                what = f"end to end, MediaPipe {measured['what']}, {cores} core{'s' * (cores > 1)}"
                what += "" if measured["found"] else " (it finds nobody)"
                speeds.append(Speed(what, measured["ms"], "ms", single=True))
    return speeds
