"""Time MediaPipe's pose networks on one picture, and print a JSON line for each model.

Run it with an interpreter of its own that has mediapipe==0.10.21, which wants NumPy below 2:
``MEDIAPIPE_VENV/bin/python -I experiments/005-speed/mediapipe.py PICTURE REPETITIONS CORES``.
Models whose files do not come with the package are left out, for it would download them.
run.sh writes the picture and calls this script.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

MODELS = ("lite", "full", "heavy")


def main(picture: str, repetitions: int, cores: int) -> None:
    """Print the milliseconds of each repetition, from the bytes of a picture to keypoints."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    import cv2
    import numpy as np

    mediapipe: Any = importlib.import_module("mediapipe")  # ships no types

    content = np.frombuffer(Path(picture).read_bytes(), np.uint8)
    folder = Path(mediapipe.__file__).parent / "modules" / "pose_landmark"
    for complexity, name in enumerate(MODELS):
        if not (folder / f"pose_landmark_{name}.tflite").is_file():
            continue
        for still in (True, False):
            with mediapipe.solutions.pose.Pose(
                static_image_mode=still, model_complexity=complexity
            ) as pose:
                durations, found = [], True
                for _ in range(repetitions // 10 + 1 + repetitions):
                    start = time.perf_counter()
                    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR)
                    image = cv2.cvtColor(np.asarray(decoded), cv2.COLOR_BGR2RGB)
                    found = pose.process(image).pose_landmarks is not None and found
                    durations.append(1000 * (time.perf_counter() - start))
            what = f"{name}, {'each anew' if still else 'following'}"
            print(json.dumps({"what": what, "ms": durations[-repetitions:], "found": found}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
