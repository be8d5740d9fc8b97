"""Measure a network: calibration of scores, a cascade's start errors, statistics of norms."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convpose.data.annotation import PoseSample
from convpose.data.datamodule import PoseDataModule
from convpose.evaluate.scoring import GroundTruth, on_device, predict
from convpose.metrics.functional import HIT
from convpose.models.cascade import Cascade, fit_start_errors, pose_diameter
from convpose.models.pose_model import PoseModel
from convpose.models.weights import load_checkpoint
from convpose.plot.tables import percent
from convpose.train.checkpoints import DirectFiles

STEPS = 25  # of Newton's method, which settles in about ten
BATCHES = 12  # from which the statistics of batch norms are measured


def calibrate(
    model: PoseModel,
    checkpoint: Path,
    datamodule: PoseDataModule,
    device: torch.device,
    precision: str,
) -> None:
    """Fit the scores of a checkpoint on the validation subset, and write them into it.

    Args:
        model: the network; it is left with the checkpoint's weights.
        checkpoint: of the training; it is replaced as a whole.
        datamodule: of the training.
        device: see `on_device`.
        precision: likewise.
    """
    load_checkpoint(model, checkpoint)
    model.score_slope.fill_(1)
    model.score_offset.zero_()
    predictions = predict(on_device(model, device, precision), datamodule.loader("val"))
    truth = GroundTruth.of(datamodule.datasets["val"], datamodule.skeleton)
    errors = truth.errors(torch.from_numpy(predictions.keypoints_px))
    assert predictions.scores is not None
    slope, offset = fit_scores(predictions.scores, errors <= HIT, np.isfinite(errors))
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    content["state_dict"]["model.score_slope"] = slope
    content["state_dict"]["model.score_offset"] = offset
    DirectFiles().save_checkpoint(content, checkpoint)


def fit_scores(
    scores: NDArray[np.float32], hits: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit slope and offset (K,) of each keypoint's score.

    A prior of one image's worth holds slope 1 and offset 0 where there is nothing to learn from.

    Args:
        scores: (N, K) confidences in [0, 1].
        hits: (N, K) whether the keypoint was within reach.
        counted: (N, K) whether that is known.
    """
    logit = torch.from_numpy(scores).double().logit(eps=1e-4)
    x = torch.stack([logit, torch.ones_like(logit)], dim=-1)  # (N, K, 2)
    y = torch.from_numpy(hits).double()
    weight = torch.from_numpy(counted).double()
    prior = torch.tensor([1.0, 0.0], dtype=torch.float64)
    theta = prior.repeat(logit.shape[1], 1)  # (K, 2)
    for _ in range(STEPS):
        p = torch.sigmoid((x * theta).sum(dim=-1))
        gradient = torch.einsum("nk,nki->ki", weight * (p - y), x) + theta - prior
        curvature = torch.einsum("nk,nki,nkj->kij", weight * p * (1 - p), x, x)
        step = torch.linalg.solve(curvature + torch.eye(2, dtype=torch.float64), gradient)
        theta = theta - step * (2 / step.norm(dim=-1, keepdim=True).clamp(min=2))
    return theta[:, 0].float(), theta[:, 1].float()


def measure_start_errors(
    model: PoseModel, datamodule: PoseDataModule, device: torch.device, precision: str
) -> str:
    """Fit a cascade's start errors on the validation subset; do nothing to another network.

    Those on the training subset would be too small: its start knows it by heart.

    Args:
        model: the network.
        datamodule: of the training.
        device: see `on_device`.
        precision: likewise.

    Returns:
        A line for the console, empty for another network.
    """
    if not isinstance(model, Cascade):
        return ""
    predictions = predict(on_device(model.start, device, precision), datamodule.loader("val"))
    model.start.cpu()  # where the rest of the network still is
    truth = GroundTruth.of(datamodule.datasets["val"], datamodule.skeleton)
    predicted_px = torch.from_numpy(predictions.keypoints_px)
    predicted = truth.to_unit(predicted_px)
    size = pose_diameter(predicted, datamodule.skeleton)[:, None, None]
    errors = (predicted - truth.to_unit(truth.keypoints_px)) / size
    mean, std, share = fit_start_errors(errors, model.side)
    model.set_start_errors(mean.float(), std.float())
    measures = truth.score(predicted_px)
    return (
        f"starts from PCK@0.2 {percent(measures['pck@0.2'])} %, strict PCP@0.5 "
        f"{percent(measures['pcp@0.5'])} % of the validation subset; {100 * share:.0f} % of the "
        "joints lie in their sub-images"
    )


@torch.no_grad()
def settle_norms(
    model: PoseModel, batches: Iterable[PoseSample], device: torch.device | str = "cpu"
) -> None:
    """Measure what enters each batch norm, and write that as its statistics.

    Weight and bias take it back: with mean m and variance v of the input x, and with the norm so
    far being ``s · x + t``, the new weight is ``s · √(v + ε)`` and the new bias ``t + s · m``. In
    evaluation mode the network answers as before; in training mode it now does nearly the same.
    A network whose norms were folded into its convolutions (``s = 1``, ``t`` the folded bias) would
    otherwise be normalised into another one by its first batch.

    Args:
        model: it is left in the mode that it was in, on its device.
        batches: as training sees them, of which `BATCHES` are used.
        device: that computes; the cores beside a GPU take minutes for what it does in a second.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}
    home = next(model.parameters()).device
    model.to(device)

    def measure(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        x = inputs[0].detach()
        count = torch.full((x.shape[1],), float(x.numel() // x.shape[1]))
        mean, var = x.mean(dim=(0, 2, 3)).double(), x.var(dim=(0, 2, 3), correction=0).double()
        sums[norm] += torch.stack([count, count * mean.cpu(), count * (var + mean**2).cpu()])

    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    training = model.training
    model.eval()
    for batch in islice(batches, BATCHES):
        model.forward_uncalibrated(batch["image"].to(device))
    model.train(training)
    for handle in handles:
        handle.remove()
    for norm, (count, total, squares) in sums.items():
        if count.min() == 0:  # the network does not use it
            continue
        mean = total / count
        variance = (squares / count - mean**2).clamp(min=0)
        _restate(norm, mean.to(device), variance.to(device))
    model.to(home)


def _restate(norm: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Give a norm other statistics (C,), float64, and the same function in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.data.copy_(scale * (variance + norm.eps).sqrt())
    norm.bias.data.copy_(shift + scale * mean)
