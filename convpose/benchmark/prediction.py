"""Time the prediction of a picture, part by part, and of a clip, with each engine."""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from omegaconf import DictConfig

from convpose.benchmark.measure import Speed, repeat
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConfigError
from convpose.geometry import Image, warp
from convpose.hardware import available_cores
from convpose.predict import pipeline
from convpose.predict.clips import ClipSmoother, OneEuro
from convpose.predict.drawing import Drawings, ScreenWindow, VideoFile, draw_people
from convpose.predict.images import decode
from convpose.predict.predictor import PosePredictor, open_network
from convpose.predict.sources import Frame, open_sources
from convpose.predict.writers import open_keypoints
from convpose.runtime import Runtime
from convpose.runtime.pytorch import TorchRuntime

PACKAGE_OF_ENGINE = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
SIZE_PX = 640, 480
PERSON_PX = np.array([[200.0, 80.0, 440.0, 400.0]])  # box of a second look
CLIP_FRAMES = 120


def latency_speed(cfg: DictConfig) -> list[Speed]:
    """Time one picture of 640 × 480 px, whose whole frame is the crop, in milliseconds.

    A network's row includes normalisation and the decoding of its head, which are part of exported
    graphs. From end to end is from the bytes of the JPEG to keypoints in its pixels.
    """
    content = jpeg(picture())
    opened = decode(content)
    speeds: list[Speed] = []
    for name, opener in networks(cfg):
        for threads in usable_threads(cfg):
            predictor = PosePredictor(opener(threads), looks=1)
            spec = predictor.spec
            if not speeds:  # these are the same for all networks
                to_px = spec.unit_to_px(SIZE_PX, None)
                people = predictor.predict_pictures([opened], [None])[0]
                cut = partial(warp, opened.image, to_px, spec.input_size_px)
                draw = partial(draw_people, Frame("", opened), people, spec.skeleton)
                speeds = [
                    milliseconds(cfg, "JPEG 640 × 480 to pixels", partial(decode, content)),
                    milliseconds(cfg, f"crop of {spec.input_size_px} px", cut),
                    milliseconds(cfg, "drawing on 640 × 480", draw),
                ]
                crop = cut().transpose(2, 0, 1)[None]

            def whole(predictor: PosePredictor = predictor) -> None:
                predictor.predict_pictures([decode(content)], [None])

            def twice(predictor: PosePredictor = predictor) -> None:
                opened = decode(content)
                predictor.predict_pictures([opened], [None])
                predictor.predict_pictures([opened], [PERSON_PX])

            how = f"{name}, {threads} thread{'s' * (threads > 1)}"
            network = partial(predictor.runtime, crop)
            speeds += [
                milliseconds(cfg, f"network, {how}", network),
                *decoding(cfg, predictor.runtime, crop, how),
                milliseconds(cfg, f"end to end, {how}", whole),
                milliseconds(cfg, f"end to end, two looks, {how}", twice),
            ]
    return speeds


def decoding(cfg: DictConfig, runtime: Runtime, crop: Image, how: str) -> list[Speed]:
    """Time the decoding of a heatmap, which is part of a network's row; PyTorch only."""
    if not isinstance(runtime, TorchRuntime) or not hasattr(runtime.model, "head"):
        return []
    if not hasattr(runtime.model.head, "decode"):
        return []
    with torch.inference_mode():
        logits = runtime.model(torch.from_numpy(crop))["heatmap_logits"]
        work = partial(runtime.model.head.decode, logits)
        return [milliseconds(cfg, f"… of it the head's decoding, {how}", work)]


def networks(cfg: DictConfig) -> Iterator[tuple[str, Callable[[int | None], Runtime]]]:
    """Name the networks to measure, each with a function that opens it for a number of threads.

    Raises:
        ConfigError: an unknown engine.
    """
    chosen = cfg.latency
    for engine in chosen.engines:
        if engine not in PACKAGE_OF_ENGINE:
            raise ConfigError(f"latency.engines: {engine}: type {', '.join(PACKAGE_OF_ENGINE)}")
        if find_spec(PACKAGE_OF_ENGINE[engine]) is None:
            print(f"{engine} is left out: {PACKAGE_OF_ENGINE[engine]} is not installed")
            continue
        yield engine, partial(_open, run=chosen.run, weights=chosen.weights, engine=engine)
    for file in chosen.files:
        yield Path(file).name, partial(_open, weights=file)


def usable_threads(cfg: DictConfig) -> list[int]:
    """Drop the numbers of ``cfg.latency.threads`` for which this process has too few cores."""
    return [n for n in cfg.latency.threads if n <= available_cores()] or [1]


def _open(threads: int | None, **network: Any) -> Runtime:
    return open_network(**network, accelerator="cpu", threads=threads)


def milliseconds(cfg: DictConfig, what: str, work: Callable[[], object]) -> Speed:
    """Time some work, repeated."""
    return Speed(what, repeat(cfg, work), "ms", single=True)


def picture() -> Image:
    """Paint a synthetic person on a frame of 640 × 480 px, (480, 640, 3) uint8 RGB."""
    person, _ = SyntheticSource(1, image_size_px=480).read_image(0)
    frame = cv2.copyMakeBorder(person, 0, 0, 80, 80, cv2.BORDER_REFLECT_101)
    return frame.astype("uint8")


def jpeg(image: Image) -> bytes:
    """Encode the image as JPEG, quality 90."""
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def clip_speed(cfg: DictConfig) -> list[Speed]:
    """Measure frames a second of an H.264 clip of 640 × 480 px, as `convpose.predict` does it.

    Whole frames are decoded, predicted, smoothed and drawn; then also encoded again. Engines and
    decoder choose their threads.
    """
    speeds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_clip(folder / "clip.mp4")
        for engine, opener in networks(cfg):
            predictor = PosePredictor(opener(None))
            for written in (False, True):
                rates = [
                    _frames_a_second(path, predictor, folder, written)
                    for _ in range(cfg.rounds + 1)
                ]
                what = f"clip of 640 × 480 px, drawn{' and written' * written}, {engine}"
                speeds.append(Speed(what, rates[1:], "frames/s"))  # the first one warms up
    return speeds


def write_clip(path: Path) -> Path:
    """Write a clip in which a synthetic person moves from side to side."""
    image = picture()
    video = VideoFile(path, image.shape[1], image.shape[0])
    for i in range(CLIP_FRAMES):
        video.write(np.roll(image, round(60 * np.sin(i / 10)), axis=1), i / 30)
    video.close()
    return path


class _NoWindow(ScreenWindow):
    """Takes frames to show and shows none."""

    def __init__(self) -> None:
        """Open no window."""

    def show(self, image: Image, still: bool) -> bool:
        return True

    def close(self) -> None:
        pass


def _frames_a_second(path: Path, predictor: PosePredictor, folder: Path, written: bool) -> float:
    """Time one pass through a clip."""
    skeleton = predictor.skeleton
    keypoints = open_keypoints("json", folder / "out", skeleton)
    drawings = Drawings(folder / "out") if written else None
    outputs = pipeline.Outputs(skeleton, keypoints, drawings, None if written else _NoWindow())
    start = time.perf_counter()
    summary = pipeline.run(open_sources(str(path)), predictor, outputs, ClipSmoother(None, OneEuro))
    return summary.frames / (time.perf_counter() - start)
