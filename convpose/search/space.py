"""Search spaces, samplers of settings, pruning of trials, and the importance of keys.

A space is config keys with the distribution of their values, see ``conf/search/``.
"""

import inspect
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from optuna import Study, Trial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.samplers import BaseSampler, GridSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from convpose.compare.comparison import Comparison
from convpose.config.allowlist import find_target
from convpose.config.arguments import override
from convpose.config.instantiate import build
from convpose.errors import ConfigError
from convpose.plot.tables import Table
from convpose.run import Value

Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
Space = Mapping[str, Distribution]
ENOUGH = 4  # different results below which importances mean nothing


def read_space(parameters: DictConfig | None) -> dict[str, Distribution]:
    """Read the searched keys and their distributions; leave out what is null.

    Args:
        parameters: ``search.parameters``, nested as the configuration is.

    Raises:
        ConfigError: nothing to search, or a range that is none.
    """
    space = dict(_leaves(parameters or {}, ""))
    if not space:
        raise ConfigError("search.parameters is empty: name at least one key and its distribution")
    return space


def _leaves(node: Mapping[Any, Any], parent: str) -> Iterator[tuple[str, Distribution]]:
    for name, child in node.items():
        key = f"{parent}{name}"
        if isinstance(child, Mapping | DictConfig) and "_target_" not in child:
            yield from _leaves(child, f"{key}.")
        elif child is not None:
            yield key, _distribution(key, child)


def _distribution(key: str, node: Any) -> Distribution:
    found = build(node, f"search.parameters.{key}") if isinstance(node, DictConfig) else node
    if not isinstance(found, Distribution):
        raise ConfigError(
            f"search.parameters.{key}={node}: expected _target_: optuna.distributions."
            "FloatDistribution, IntDistribution or CategoricalDistribution"
        )
    return found


def suggest(trial: Trial, space: Space) -> dict[str, Value]:
    """Draw the values of a trial."""
    return {key: _suggest(trial, key, distribution) for key, distribution in space.items()}


def _suggest(trial: Trial, key: str, distribution: Distribution) -> Value:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(key, distribution.choices)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(key, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(key, low, high, step=step, log=log)


def overrides(values: Mapping[str, Value]) -> list[str]:
    """Write values as overrides of Hydra, ``key=value``; a key that is a group chooses its yaml."""
    return [_override(key, value) for key, value in values.items()]


def _override(key: str, value: Value) -> str:
    if isinstance(value, str):
        return override(key, value)
    if isinstance(value, float):
        value = float(f"{value:.12g}")  # 0.3, where steps add up to 0.30000000000000004
    return f"{key}={json.dumps(value)}"  # true, null, 0.1, 1e-05


def short(value: Value) -> str:
    """Shorten a value for reading: 0.0123 for 0.012345678."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def grid(space: Space) -> dict[str, list[Value]]:
    """List all values of every key.

    Raises:
        ConfigError: a range without steps.
    """
    return {key: _points(key, distribution) for key, distribution in space.items()}


def _points(key: str, distribution: Distribution) -> list[Value]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if distribution.step is None or distribution.log:
        raise ConfigError(
            f"search.parameters.{key}: a grid needs values; give the range a step, or choices with "
            "optuna.distributions.CategoricalDistribution"
        )
    steps = round((distribution.high - distribution.low) / distribution.step)
    return [distribution.low + i * distribution.step for i in range(steps + 1)]


def corners(space: Space) -> list[dict[str, Value]]:
    """List settings in which every bound and every choice of the space occurs."""
    ends = {
        key: d.choices if isinstance(d, CategoricalDistribution) else (d.low, d.high)
        for key, d in space.items()
    }
    longest = max(map(len, ends.values()))
    rows = zip(*(itertools.islice(itertools.cycle(v), longest) for v in ends.values()), strict=True)
    return [dict(zip(ends, row, strict=True)) for row in rows]


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


def importance(study: optuna.Study, monitor: str, seed: int) -> Table | None:
    """Measure how much of the metric's variance each key explains by itself.

    None if there are too few trials.

    Shares are of what all single keys explain: what two do together is not among them.

    Source: Hutter, Hoos and Leyton-Brown, An Efficient Approach for Assessing Hyperparameter
    Importance, ICML 2014 (fANOVA).
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.value for trial in complete}) < ENOUGH:
        return None
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    rows = [(key, f"{100 * share:.0f} %") for key, share in shares.items()]
    return Table("importance (fANOVA)", ("key", f"of {monitor}"), rows)


def importance_of_runs(comparison: Comparison, seed: int = 0) -> Table | None:
    """Measure `importance` from the runs of any study, such as a sweep.

    The keys are those that `Comparison.table` shows, and ``seed`` among them is the noise. A run
    that never validated, or lacks one of the keys, is left out.
    """
    keys = [key for key in comparison.of_kind("key") if key.rank is not None]
    space = {key.name: _range_of(key.values) for key in keys}
    study = optuna.create_study(direction="maximize" if comparison.mode == "max" else "minimize")
    for i, value in enumerate(comparison.judged.values):
        setting = {key.name: key.values[i] for key in keys}
        if value is not None and None not in setting.values():
            study.add_trial(create_trial(params=setting, distributions=space, value=value))
    return importance(study, comparison.monitor, seed) if keys else None


def _range_of(values: Any) -> BaseDistribution:
    """Find the range of a key's values; what is no number is a choice."""
    known = [value for value in values if value is not None]
    if any(isinstance(value, bool | str) for value in known):
        return CategoricalDistribution(list(dict.fromkeys(known)))
    low, high = float(min(known)), float(max(known))
    return FloatDistribution(low, high, log=low > 0 and high > 10 * low)
