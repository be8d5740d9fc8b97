"""Learning-rate schedules by step: ``(optimizer, total_steps) → LRScheduler``."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from convpose.errors import ConfigError


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """The same rate from the first to the last step, as in the paper."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(
    optimizer: Optimizer, total_steps: int, warmup: float = 0.05, final: float = 0.0
) -> LambdaLR:
    """Linear warm-up, then half a cosine down (Loshchilov and Hutter, 2017).

    Args:
        optimizer: its rate is the peak.
        total_steps: of the whole training.
        warmup: share of the steps that rise.
        final: rate at the end over the peak.

    Raises:
        ConfigError: a share out of 0 to 1.
    """
    _check(warmup=warmup, final=final)
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
    milestones: tuple[float, ...] = (0.7, 0.9),
    gamma: float = 0.1,
    warmup: float = 0.05,
) -> LambdaLR:
    """Linear warm-up, then times `gamma` at each milestone.

    Args:
        optimizer: its rate is the peak.
        total_steps: of the whole training.
        milestones: shares of the steps after which the rate falls.
        gamma: factor of each fall.
        warmup: share of the steps that rise.

    Raises:
        ConfigError: a share out of 0 to 1.
    """
    _check(gamma=gamma, warmup=warmup)
    for share in milestones:
        _check(milestones=share)
    rise = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return float(gamma ** sum(step >= share * total_steps for share in milestones))

    return LambdaLR(optimizer, factor)


def _check(**shares: float) -> None:
    for key, value in shares.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"scheduler.{key}={value}: expected a share from 0 to 1")
