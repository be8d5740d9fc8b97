"""Which values a trial gets: Optuna's samplers, and a grid that many workers share."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig
from optuna import Study
from optuna.samplers import BaseSampler, GridSampler
from optuna.trial import FrozenTrial, TrialState

from convpose.build import build
from convpose.searching.space import Space, Value, grid
from convpose.trust import find_target


class Grid(GridSampler):
    """Every point of the space once, in random order.

    Optuna's own asks for a loop of Optuna's to end; here the tickets of the study end the search.

    Args:
        search_space: the values of every key.
        seed: of the order, the same for all workers.
    """

    def __init__(
        self, search_space: Mapping[str, Sequence[Value]], seed: int | None = None
    ) -> None:
        super().__init__(search_space, seed)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Nothing to do."""


def sampler(node: DictConfig, space: Space, seed: int, number: int) -> BaseSampler:
    """The sampler of a trial.

    What it draws depends on the seed, the trial's number and the trials before it: workers draw
    different values, and a search that was interrupted draws the same as one that was not.

    Args:
        node: of ``conf/sampler/``; a ``seed`` there is taken as it is.
        space: searched keys.
        seed: of the search.
        number: of the trial.
    """
    given: dict[str, Any] = {}
    if walks_a_grid(node):
        given = {"search_space": grid(space), "seed": seed}
    elif "seed" in _arguments(node) and "seed" not in node:
        given["seed"] = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    built: BaseSampler = build(node, "sampler", **given)
    return built


def walks_a_grid(node: DictConfig) -> bool:
    """Whether a sampler goes through given points instead of drawing."""
    return "search_space" in _arguments(node)


def _arguments(node: DictConfig) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(find_target(node["_target_"], "sampler")).parameters
