"""Print what a search found: the best trials, what mattered, how to train the best again."""

import shlex
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console

from convpose.compare.comparison import Comparison
from convpose.files import shown
from convpose.plot.tables import Table
from convpose.search.setup import SearchSetup
from convpose.search.space import short
from convpose.search.trial_queue import repeats

BEST = 10  # trials in the table


def trial_line(setup: SearchSetup, trial: FrozenTrial) -> str:
    """Describe a finished trial in one line."""
    value = f"  {setup.cfg.monitor} {trial.value:.4f}" if trial.value is not None else ""
    values = "  ".join(f"{key}={short(value)}" for key, value in trial.params.items())
    error = trial.user_attrs.get("error") or "interrupted, or its worker died"
    why = f"  ({error})" if trial.state == TrialState.FAIL else ""
    return f"trial {trial.number}  {trial.state.name.lower()}{value}  {values}{why}"


def print_summary(setup: SearchSetup) -> None:
    """Print everything about the search as it stands."""
    complete = setup.queue.in_state(TrialState.COMPLETE)
    console = Console()
    if complete:
        console.print(best_trials(setup).to_rich())
        if importances := importance(setup.queue.study, setup.cfg.monitor, setup.cfg.seed):
            console.print(importances.to_rich())
        best = setup.queue.study.best_trial
        print(f"best run {shown(setup.folder / best.user_attrs['run'])}; to train it again")
        print(f"  {command(setup, best)}")
    print(counts(setup))


def best_trials(setup: SearchSetup) -> Table:
    """Make the table of the best completed trials."""
    sign = -1 if setup.cfg.monitor_mode == "max" else 1
    complete = setup.queue.in_state(TrialState.COMPLETE)
    best = sorted(complete, key=lambda t: (sign * float(t.value or 0), t.number))[:BEST]
    rows = [
        (str(t.number), f"{t.value:.4f}", *(short(t.params[key]) for key in setup.space))
        for t in best
    ]
    title = f"{setup.name}: the best {len(rows)} of {len(complete)} completed trials"
    return Table(title, ("trial", setup.cfg.monitor, *setup.space), rows)


def command(setup: SearchSetup, trial: FrozenTrial) -> str:
    """Write the command line that trains a trial's setting again."""
    overrides = [*setup.overrides(trial.params), f"study={setup.name}_best"]
    return f"python -m convpose.train {shlex.join(overrides)}"


def counts(setup: SearchSetup) -> str:
    """Count the trials of each kind."""
    found = {state: len(setup.queue.in_state(state)) for state in TrialState}
    histories = [t.system_attrs["retry_history"] for t in filter(repeats, setup.queue.trials())]
    taken_up = len({number for numbers in histories for number in numbers})
    found[TrialState.FAIL] -= taken_up
    words = ", ".join(f"{n} {state.name.lower()}" for state, n in found.items() if n)
    again = f"; interrupted or lost, and taken up again: {taken_up}" if taken_up else ""
    return f"study {setup.name}: {words}{again}"


ENOUGH = 4  # different results below which importances mean nothing


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
    monitor = next(c for c in comparison.columns if c.name == comparison.monitor)
    space = {key.name: _distribution(key.values) for key in keys}
    study = optuna.create_study(direction="maximize" if comparison.mode == "max" else "minimize")
    for i, value in enumerate(monitor.values):
        setting = {key.name: key.values[i] for key in keys}
        if value is not None and None not in setting.values():
            study.add_trial(create_trial(params=setting, distributions=space, value=value))
    return importance(study, comparison.monitor, seed) if keys else None


def _distribution(values: Any) -> BaseDistribution:
    """Find the range of a key's values; what is no number is a choice."""
    known = [value for value in values if value is not None]
    if any(isinstance(value, bool | str) for value in known):
        return CategoricalDistribution(list(dict.fromkeys(known)))
    low, high = float(min(known)), float(max(known))
    return FloatDistribution(low, high, log=low > 0 and high > 10 * low)
