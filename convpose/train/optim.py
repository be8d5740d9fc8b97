"""Group parameters for the optimizer, and schedule the learning rate by step."""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Protocol

from annotated_types import Gt, Le
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from convpose.config.schema import Share


class HasBackbone(Protocol):
    """Network with a backbone, such as `PoseModel`."""

    backbone: nn.Module

    def modules(self) -> Iterable[nn.Module]:
        """List all parts, in the order of their definition."""
        ...


# of optimizer.lr
Factor = Annotated[float, Gt(0), Le(1), "callbacks=[default,freeze] keeps the backbone as it is"]


class ParameterGroups:
    """Split a network's parameters into groups for the optimizer.

    A pretrained backbone knows edges and limbs already: it may learn more slowly than the new head,
    and its first layers more slowly than its last.

    Args:
        backbone_lr: rate of the backbone's last layer over ``optimizer.lr``, the head's.
        first_layer_lr: rate of the backbone's first layer over that of its last; the layers between
            follow geometrically.
        decay_norms: apply ``weight_decay`` to the scales of norm layers and to biases, too.
    """

    def __init__(
        self, backbone_lr: Factor = 1.0, first_layer_lr: Factor = 1.0, decay_norms: bool = False
    ) -> None:
        self.backbone_lr = backbone_lr
        self.first_layer_lr = first_layer_lr
        self.decay_norms = decay_norms

    def __call__(self, model: HasBackbone, loss: nn.Module) -> list[dict[str, Any]]:
        """List the groups, the head's first, each with its ``lr_factor``.

        Args:
            model: the network.
            loss: may have parameters, which learn like the head's.
        """
        layers = [m for m in model.backbone.modules() if list(m.parameters(recurse=False))]
        last = max(len(layers) - 1, 1)
        factor = {
            p: self.backbone_lr * self.first_layer_lr ** (1 - i / last)
            for i, layer in enumerate(layers)
            for p in layer.parameters(recurse=False)
        }
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for module in (*model.modules(), *loss.modules()):
            for parameter in module.parameters(recurse=False):
                key = (factor.get(parameter, 1.0), self.decay_norms or parameter.ndim > 1)
                groups.setdefault(key, []).append(parameter)
        ordered = sorted(groups.items(), key=lambda item: item[0], reverse=True)
        return [
            {"params": parameters, "lr_factor": rate} | ({} if decays else {"weight_decay": 0.0})
            for (rate, decays), parameters in ordered
        ]


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """Keep the same rate from the first to the last step, as in the paper."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(
    optimizer: Optimizer, total_steps: int, warmup: Share = 0.05, final: Share = 0.0
) -> LambdaLR:
    """Warm up linearly, then fall along half a cosine (Loshchilov and Hutter, 2017).

    Args:
        optimizer: its rate is the peak.
        total_steps: of the whole training.
        warmup: share of the steps that rise.
        final: rate at the end over the peak.
    """
    rise = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        along = min(1.0, (step - rise) / max(1, total_steps - rise))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * along))

    return LambdaLR(optimizer, factor)


def step(
    optimizer: Optimizer,
    total_steps: int,
    milestones: tuple[Share, ...] = (0.7, 0.9),
    gamma: Share = 0.1,
    warmup: Share = 0.05,
) -> LambdaLR:
    """Warm up linearly, then multiply by `gamma` at each milestone.

    Args:
        optimizer: its rate is the peak.
        total_steps: of the whole training.
        milestones: shares of the steps after which the rate falls.
        gamma: factor of each fall.
        warmup: share of the steps that rise.
    """
    rise = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return float(gamma ** sum(step >= share * total_steps for share in milestones))

    return LambdaLR(optimizer, factor)
