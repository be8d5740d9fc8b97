"""How many frames of a clip a second are read, looked at and drawn."""

import tempfile
import time
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from convpose.benchmark.latency import networks, picture
from convpose.benchmark.measure import Speed
from convpose.geometry import Image
from convpose.predict import pipeline
from convpose.predict.clips import ClipSmoother, OneEuro
from convpose.predict.drawing import Drawings, ScreenWindow, VideoFile
from convpose.predict.predictor import PosePredictor
from convpose.predict.sources import open_sources
from convpose.predict.writers import open_keypoints

FRAMES = 120


def clip_speed(cfg: DictConfig) -> list[Speed]:
    """Frames a second of an H.264 clip of 640 × 480 px, as `convpose.predict` does it.

    Decoded, looked at as whole frames, smoothed, drawn; then also encoded again. The engines
    choose their threads, and so does the decoder.
    """
    speeds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_clip(folder / "clip.mp4")
        for engine, opener in networks(cfg):
            predictor = PosePredictor(opener(None))
            for written in (False, True):
                rates = [_pass(path, predictor, folder, written) for _ in range(cfg.rounds + 1)]
                what = f"clip of 640 × 480 px, drawn{' and written' * written}, {engine}"
                speeds.append(Speed(what, rates[1:], "frames/s"))  # the first one warms up
    return speeds


def write_clip(path: Path) -> Path:
    """A clip in which a synthetic person moves from side to side."""
    image = picture()
    video = VideoFile(path, image.shape[1], image.shape[0])
    for i in range(FRAMES):
        video.write(np.roll(image, round(60 * np.sin(i / 10)), axis=1), i / 30)
    video.close()
    return path


class _Unseen(ScreenWindow):
    """A window that nobody looks at."""

    def __init__(self) -> None:
        """Open none."""

    def show(self, image: Image, still: bool) -> bool:
        return True

    def close(self) -> None:
        pass


def _pass(path: Path, predictor: PosePredictor, folder: Path, written: bool) -> float:
    """Frames a second of one pass through a clip."""
    skeleton = predictor.skeleton
    keypoints = open_keypoints("json", folder / "out", skeleton)
    drawings = Drawings(folder / "out") if written else None
    outputs = pipeline.Outputs(skeleton, keypoints, drawings, None if written else _Unseen())
    start = time.perf_counter()
    summary = pipeline.run(open_sources(str(path)), predictor, outputs, ClipSmoother(None, OneEuro))
    return summary.frames / (time.perf_counter() - start)
