"""What each stage of a cascade adds, and what it costs."""

import contextlib
import statistics
import time
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from convpose.data.annotation import PoseSample
from convpose.evaluate.scoring import AUTOCAST, Truth
from convpose.geometry import transform
from convpose.models.cascade import Cascade
from convpose.models.pose_model import PoseModel
from convpose.progress import progress

WARM_UP, ROUNDS = 3, 20


def stage_measures(
    model: PoseModel,
    loader: DataLoader[PoseSample],
    truth: Truth,
    device: torch.device,
    precision: str,
) -> list[dict[str, Any]]:
    """The headline of each stage's poses, the first stage's first; empty for another network.

    Args:
        model: network; it is put into evaluation mode on `device`.
        loader: of crops in order, without augmentation.
        truth: of the same crops.
        device: where to compute.
        precision: see `convpose.evaluate.scoring.predict`.

    Returns:
        Plain numbers of `PoseMetrics.compute`, and ``ms`` from one crop to this stage's pose.
    """
    if not isinstance(model, Cascade):
        return []
    model.eval().to(device)
    half = AUTOCAST.get(precision)
    autocast = torch.autocast(device.type, half) if half else contextlib.nullcontext()
    found = []
    with torch.inference_mode(), autocast:
        for batch in progress(loader, "predicting by stage"):
            poses = model(batch["image"].to(device))["stage_keypoints"].float().cpu()
            found.append(transform(batch["unit_to_px"], poses))
        crop = batch["image"][:1].to(device)
        times_ms = [milliseconds(stage, crop) for stage in stages(model)]
    by_stage = torch.cat(found, dim=1)
    return [headline(truth.score(p)) | {"ms": ms} for p, ms in zip(by_stage, times_ms, strict=True)]


def headline(measures: dict[str, Any]) -> dict[str, Any]:
    """The totals of all measures."""
    return {key: value for key, value in measures.items() if isinstance(value, int | float)}


def stages(model: Cascade) -> list[nn.Module]:
    """The networks that end with the first, the second … stage, each for the full crop."""
    before = model.start.model
    earlier = stages(before) if isinstance(before, Cascade) else []
    return [*earlier[:-1], model.start, model]


def milliseconds(network: nn.Module, crop: torch.Tensor) -> float:
    """Median time of a crop (1, 3, S, S)."""
    times_ms = []
    for _ in range(WARM_UP + ROUNDS):
        start = time.perf_counter()
        network(crop)
        if crop.is_cuda:
            torch.cuda.synchronize()
        times_ms.append(1000 * (time.perf_counter() - start))
    return statistics.median(times_ms[WARM_UP:])
