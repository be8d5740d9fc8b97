"""Samplers of settings, and pruning of trials."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from optuna import Study, Trial
from optuna.samplers import BaseSampler, GridSampler
from optuna.trial import FrozenTrial, TrialState

from convpose.config.allowlist import find_target
from convpose.config.instantiate import build
from convpose.search.space import Space, grid


class Grid(GridSampler):
    """Draw every point of the space once, in random order.

    Optuna's own stops a loop of Optuna's at the last point; here the queue ends the search.

    Args:
        search_space: the values of every key.
        seed: of the order, the same for all workers.
    """

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Do nothing: there is no loop to stop."""


def sampler(node: DictConfig, space: Space, seed: int, number: int) -> BaseSampler:
    """Build the sampler of a trial.

    What it draws depends on the seed, the trial's number and the trials before it: workers draw
    different values, and a search that was interrupted draws the same as one that was not.

    Args:
        node: of ``conf/sampler/``; a ``seed`` there is taken as it is.
        space: searched keys.
        seed: of the search.
        number: of the trial.
    """
    given: dict[str, Any] = {}
    if is_grid(node):
        given = {"search_space": grid(space), "seed": seed}
    elif "seed" in _arguments(node) and "seed" not in node:
        given["seed"] = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    built: BaseSampler = build(node, "sampler", **given)
    return built


def is_grid(node: DictConfig) -> bool:
    """Tell if a sampler goes through given points instead of drawing."""
    return "search_space" in _arguments(node)


def _arguments(node: DictConfig) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(find_target(node["_target_"], "sampler")).parameters


class Pruning(Callback):
    """Report the monitored metric after every validation, and stop the training if it is pruned.

    The training then ends as after its last epoch, with checkpoints and all files.

    Args:
        trial: to report to. An epoch is step 1 and up.
        monitor: validation metric.

    Attributes:
        epoch: after which the trial was pruned, counted from 1; None if it was not.

    Raises:
        UpdateFinishedTrialError: another worker has taken the trial for dead.
    """

    def __init__(self, trial: Trial, monitor: str) -> None:
        self.trial = trial
        self.monitor = monitor
        self.epoch: int | None = None
        # a trial that is taken up again may repeat its last epoch, with the same result
        self._reported = set(trial.study.trials[trial.number].intermediate_values)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report before the epoch is written, so that a lost trial writes nothing any more."""
        step = trainer.current_epoch + 1
        if trainer.sanity_checking:
            return
        if step not in self._reported:
            self.trial.report(float(trainer.callback_metrics[self.monitor]), step)
        if step != trainer.max_epochs and self.trial.should_prune():
            self.epoch = step
            trainer.should_stop = True
