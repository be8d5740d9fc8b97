"""Which key mattered: fANOVA over the trials of a search, or over the runs of any study."""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState, create_trial

from convpose.report.comparison import Comparison
from convpose.report.tables import Table

ENOUGH = 4  # different results below which importances mean nothing


def importance(study: optuna.Study, monitor: str, seed: int) -> Table | None:
    """How much of the metric's variance each key explains by itself; None of too few trials.

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
    """The same of the runs of any study, a sweep's too; see `importance`.

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
    """The range of a key's values; what is no number is a choice."""
    known = [value for value in values if value is not None]
    if any(isinstance(value, bool | str) for value in known):
        return CategoricalDistribution(list(dict.fromkeys(known)))
    low, high = float(min(known)), float(max(known))
    return FloatDistribution(low, high, log=low > 0 and high > 10 * low)
