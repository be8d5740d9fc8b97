"""What a search found: the best trials, what mattered, and how to train the best again."""

import shlex

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from convpose.report.tables import Table
from convpose.searching.importance import importance
from convpose.searching.plan import Plan
from convpose.searching.space import short
from convpose.searching.study import repeats

BEST = 10  # trials in the table


def trial_line(plan: Plan, trial: FrozenTrial) -> str:
    """A finished trial in one line."""
    value = f"  {plan.cfg.monitor} {trial.value:.4f}" if trial.value is not None else ""
    values = "  ".join(f"{key}={short(value)}" for key, value in trial.params.items())
    error = trial.user_attrs.get("error") or "interrupted, or its worker died"
    why = f"  ({error})" if trial.state == TrialState.FAIL else ""
    return f"trial {trial.number}  {trial.state.name.lower()}{value}  {values}{why}"


def print_summary(plan: Plan) -> None:
    """Print everything about the search as it stands."""
    complete = plan.tickets.of(TrialState.COMPLETE)
    console = Console()
    if complete:
        console.print(best_trials(plan).to_rich())
        if importances := importance(plan.tickets.study, plan.cfg.monitor, plan.cfg.seed):
            console.print(importances.to_rich())
        best = plan.tickets.study.best_trial
        print(f"best run {plan.folder / best.user_attrs['run']}; to train it again")
        print(f"  {command(plan, best)}")
    print(counts(plan))


def best_trials(plan: Plan) -> Table:
    """The best completed trials."""
    sign = -1 if plan.cfg.monitor_mode == "max" else 1
    complete = plan.tickets.of(TrialState.COMPLETE)
    best = sorted(complete, key=lambda t: (sign * float(t.value or 0), t.number))[:BEST]
    rows = [
        (str(t.number), f"{t.value:.4f}", *(short(t.params[key]) for key in plan.space))
        for t in best
    ]
    title = f"{plan.name}: the best {len(rows)} of {len(complete)} completed trials"
    return Table(title, ("trial", plan.cfg.monitor, *plan.space), rows)


def command(plan: Plan, trial: FrozenTrial) -> str:
    """The command line that trains a trial's setting again."""
    overrides = [*plan.overrides(trial.params), f"study={plan.name}_best"]
    return f"python -m convpose.train {shlex.join(overrides)}"


def counts(plan: Plan) -> str:
    """How many trials there are of each kind."""
    found = {state: len(plan.tickets.of(state)) for state in TrialState}
    histories = [t.system_attrs["retry_history"] for t in filter(repeats, plan.tickets.trials())]
    taken_up = len({number for numbers in histories for number in numbers})
    found[TrialState.FAIL] -= taken_up
    words = ", ".join(f"{n} {state.name.lower()}" for state, n in found.items() if n)
    again = f"; interrupted or lost, and taken up again: {taken_up}" if taken_up else ""
    return f"study {plan.name}: {words}{again}"
