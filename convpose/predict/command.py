"""Predict as the configuration of ``convpose.predict`` says."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from convpose.config.application import sigterm_exits
from convpose.config.instantiate import build, check
from convpose.config.schema import Count, Looks, Packaged, Positive, check_table
from convpose.errors import ConfigError
from convpose.files import check_output
from convpose.predict import images, pipeline
from convpose.predict.clips import ClipSmoother
from convpose.predict.drawing import Drawings, ScreenWindow
from convpose.predict.people import BoxFile
from convpose.predict.predictor import PosePredictor, open_network
from convpose.predict.sources import open_sources
from convpose.predict.writers import Format, open_keypoints
from convpose.run import Run
from convpose.runtime.engines import onnx_file

KEYS = {
    "network": Packaged | None,
    "batch_size": Count,
    "max_frames": Count | None,
    "box_scale": Positive | None,
    "looks": Looks,
    "format": Format | None,
    "draw": bool | None,
    "show": bool,
    "threads": Count | None,
    "mirror_test": bool,
    "quarter_turns": bool,
    **images.KEYS,
}
NOT_ON_RAY = {
    "format": (None, "parquet"),
    "draw": (None, False),
    "show": (False,),
    "max_frames": (None,),
}


@sigterm_exits()
def predict(cfg: DictConfig) -> pipeline.Summary:
    """Find the people of ``cfg.source`` and write them to the folder ``cfg.output``.

    Args:
        cfg: ``conf/predict.yaml``, composed.

    Returns:
        Counts, and the inputs that could not be read.

    Raises:
        ConfigError, DataError, ModelError: the prediction cannot start; nothing is written.
        SystemExit: SIGTERM; what is done is kept.
    """
    check_keys(cfg)
    texts = cfg.source if isinstance(cfg.source, ListConfig) else [cfg.source]
    sources = [source for text in texts for source in open_sources(text, limits_of(cfg))]
    window = ScreenWindow() if cfg.show else None
    boxes = None if cfg.boxes is None else BoxFile(cfg.boxes)
    if boxes is not None:
        boxes.check(source.name for source in sources)
    clips = build_clip_smoother(cfg)
    several = bool(cfg.get("detector")) or (boxes is not None and not boxes.numbered)
    if cfg.tracker is not None and several and any(source.clip for source in sources):
        build(cfg.tracker, "tracker")  # its numbers are checked now, not in mid-clip
    if cfg.engine == "ray":
        found: pipeline.Summary = build(cfg.cluster, "cluster").predict(cfg, sources)
        found.notes[:0] = [source.note for source in sources if source.note]
        return found
    predictor = build_predictor(cfg)
    folder = Path(cfg.output)
    outputs = pipeline.Outputs(
        predictor.skeleton,
        open_keypoints(
            cfg.format or "json", folder, predictor.skeleton, [source.name for source in sources]
        ),
        Drawings(folder) if cfg.draw is not False else None,
        window,
    )
    try:
        return pipeline.run(sources, predictor, outputs, clips, boxes, cfg.max_frames)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # if nothing came of it


def limits_of(cfg: DictConfig) -> images.Limits:
    """Collect the limits of each input."""
    return images.Limits(cfg.max_megapixels, cfg.max_seconds, cfg.max_file_mb)


def build_predictor(cfg: DictConfig) -> PosePredictor:
    """Build the predictor: the network of ``run``, ``weights`` or the package, and the detector."""
    engine = cfg.engine
    several = cfg.mirror_test or cfg.quarter_turns
    if several and engine == "auto" and cfg.run is None and onnx_file(cfg.weights):
        engine = "torch"  # which averages heatmaps; the other engines know keypoints only
    runtime = open_network(
        *(cfg.run, cfg.weights, cfg.checkpoint),
        *(engine, cfg.accelerator, cfg.precision, cfg.threads),
    )
    if several:
        from convpose.runtime.pytorch import with_tta  # imports torch, which ONNX goes without

        runtime = with_tta(runtime, cfg.mirror_test, cfg.quarter_turns)
    detector = build(cfg.detector, "detector") if cfg.get("detector") else None
    return PosePredictor(runtime, detector, cfg.batch_size, cfg.box_scale, cfg.looks)


def build_clip_smoother(cfg: DictConfig) -> ClipSmoother:
    """Build what tracks and smooths people in clips."""
    if cfg.smoothing is not None:
        build(cfg.smoothing, "smoothing")  # its numbers are checked now, not in mid-clip
    return ClipSmoother(_maker(cfg, "tracker"), _maker(cfg, "smoothing"))


def check_keys(cfg: DictConfig) -> None:
    """Check the keys that belong to no constructor.

    Raises:
        ConfigError: no source, a value of another type or out of its range, or two ways to boxes.
    """
    if cfg.source in (None, ""):  # also of source=$FORGOTTEN, which would be this folder
        raise ConfigError("what to look at? type source=FILE, a folder, a webcam's number (0), …")
    check_table(cfg, KEYS)
    if cfg.run is not None and cfg.weights is None:
        Run.find(Path(cfg.run))  # before torch is imported
    if cfg.engine != "ray":  # its workers may write where this machine cannot
        check_output(Path(cfg.output))
    for key, possible in NOT_ON_RAY.items() if cfg.engine == "ray" else ():
        if cfg[key] not in possible:
            raise ConfigError(
                f"{key}={cfg[key]} engine=ray: a cluster writes Parquet and nothing else; leave "
                f"{key} out"
            )
    if cfg.boxes is not None and cfg.get("detector"):
        raise ConfigError(
            f"boxes={cfg.boxes} and a detector: people are looked for or given; type detector=none"
        )


def _maker(cfg: DictConfig, key: str) -> Callable[[], Any] | None:
    if cfg[key] is None:
        return None
    check(cfg[key], key)
    return partial(build, cfg[key], key)
