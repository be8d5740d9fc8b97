"""How long one picture takes from JPEG to drawing, part by part and engine by engine."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import torch
from omegaconf import DictConfig

from convpose.benchmark.measure import Speed, repeat
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConfigError
from convpose.geometry import Image, warp
from convpose.predict.drawing import draw_people
from convpose.predict.engines import open_network
from convpose.predict.images import decode
from convpose.predict.predictor import PosePredictor
from convpose.predict.sources import Frame
from convpose.runtime.formats import AnyRuntime
from convpose.runtime.runtime import Runtime, TorchRuntime

PACKAGE = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}
SIZE_PX = 640, 480


def latency_speed(cfg: DictConfig) -> list[Speed]:
    """Milliseconds of one picture of 640 × 480 px, whose whole frame is the crop.

    A network's row includes normalisation and the decoding of its head, which are part of exported
    graphs. From end to end is from the bytes of the JPEG to keypoints in its pixels.
    """
    content = jpeg(picture())
    opened = decode(content)
    speeds: list[Speed] = []
    for name, opener in networks(cfg):
        for threads in usable_threads(cfg):
            predictor = PosePredictor(opener(threads))
            spec = predictor.spec
            if not speeds:  # what is the same for all networks
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

            how = f"{name}, {threads} thread{'s' * (threads > 1)}"
            network = partial(predictor.runtime, crop)
            speeds += [
                milliseconds(cfg, f"network, {how}", network),
                *decoding(cfg, predictor.runtime, crop, how),
                milliseconds(cfg, f"end to end, {how}", whole),
            ]
    return speeds


def decoding(cfg: DictConfig, runtime: Runtime, crop: Image, how: str) -> list[Speed]:
    """The part of a network's row that decodes a heatmap, where it can be told apart."""
    if not isinstance(runtime, TorchRuntime) or not hasattr(runtime.model, "head"):
        return []
    if not hasattr(runtime.model.head, "decode"):
        return []
    with torch.inference_mode():
        logits = runtime.model(torch.from_numpy(crop))["heatmap_logits"]
        work = partial(runtime.model.head.decode, logits)
        return [milliseconds(cfg, f"… of it the head's decoding, {how}", work)]


def networks(cfg: DictConfig) -> Iterator[tuple[str, Callable[[int | None], AnyRuntime]]]:
    """Names and openers, by threads, of what is to be measured.

    Raises:
        ConfigError: an unknown engine.
    """
    chosen = cfg.latency
    for engine in chosen.engines:
        if engine not in PACKAGE:
            raise ConfigError(f"latency.engines: {engine}: type {', '.join(PACKAGE)}")
        if find_spec(PACKAGE[engine]) is None:
            print(f"{engine} is left out: {PACKAGE[engine]} is not installed")
            continue
        yield engine, partial(_open, run=chosen.run, weights=chosen.weights, engine=engine)
    for file in chosen.files:
        yield Path(file).name, partial(_open, weights=file)


def usable_threads(cfg: DictConfig) -> list[int]:
    """``cfg.latency.threads`` without those for which this process has no core, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [n for n in cfg.latency.threads if n <= (cores or 1)] or [1]


def _open(threads: int | None, **network: Any) -> AnyRuntime:
    return open_network(**network, accelerator="cpu", threads=threads)


def milliseconds(cfg: DictConfig, what: str, work: Callable[[], object]) -> Speed:
    """The time of some work, repeated."""
    return Speed(what, repeat(cfg, work), "ms", single=True)


def picture() -> Image:
    """A synthetic person on a frame of 640 × 480 px, (480, 640, 3) uint8 RGB."""
    person, _ = SyntheticSource(1, image_size_px=480).read_image(0)
    frame = cv2.copyMakeBorder(person, 0, 0, 80, 80, cv2.BORDER_REFLECT_101)
    return frame.astype("uint8")


def jpeg(image: Image) -> bytes:
    """It as a photograph would come."""
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
