"""Batch norm behind folded convolutions: statistics that it needs before it can be trained."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn

from convpose.data.annotation import PoseSample
from convpose.models.pose_model import PoseModel

BATCHES = 12


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
