"""Share a fixed number of trials between many workers: a study as a queue.

Whoever begins a study enqueues all its trials, waiting. A worker pops one in one atomic step of the
storage, so that no trial runs twice. Trials beyond the total, which two machines that begin at the
same moment may enqueue, are never popped.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from convpose.errors import ConfigError
from convpose.run import changed_keys
from convpose.search.storage import Heartbeats, find_trial_id, requeue

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class TrialQueue:
    """Queue of the trials of a study.

    Attributes:
        study: of Optuna.
        heartbeats: of the running trials.
        total: trials of the study, without repetitions.
    """

    study: optuna.Study
    heartbeats: Heartbeats
    total: int

    def enqueue(self) -> None:
        """Put the missing trials into the study, which may be continued with a larger total."""
        for _ in range(self.total - sum(not repeats(t) for t in self.trials())):
            self.study.add_trial(create_trial(state=TrialState.WAITING))

    def pop(self) -> FrozenTrial | None:
        """Take a waiting trial, which belongs to this worker from now on; None if none is left.

        Trials whose worker died are put into the queue again first.
        """
        self.heartbeats.requeue_silent(self.study)
        self._requeue_lost()
        storage = self.heartbeats.storage
        for trial in self.in_state(TrialState.WAITING):
            # the beat before the claim: a worker killed between the two would never be missed
            self.heartbeats.record(self.study, trial.number)
            trial_id = find_trial_id(storage, self.study, trial.number)
            try:
                taken = storage.set_trial_state_values(trial_id, TrialState.RUNNING)
            except UpdateFinishedTrialError:  # taken and finished by others meanwhile
                continue
            if taken:
                return trial
        return None

    def _requeue_lost(self) -> None:
        """Repeat trials whose worker was killed after it had failed them and before it did this."""
        trials = self.trials()
        repeated = {number for t in trials for number in repeats(t)}
        for t in trials:
            of_itself = "error" in t.user_attrs
            if t.state == TrialState.FAIL and not of_itself and t.number not in repeated:
                requeue(self.study, copy.deepcopy(t), self.heartbeats.retries)

    def in_state(self, *states: TrialState) -> list[FrozenTrial]:
        """List the trials in one of these states, repetitions first.

        Beyond `total` only what is finished counts: a study may have had more trials before. Of
        repetitions of one trial, which two workers may add, the first counts.
        """
        trials = self.trials()
        again: dict[int, FrozenTrial] = {}
        for trial in filter(repeats, trials):
            again.setdefault(repeats(trial)[-1], trial)
        first = [t for t in trials if not repeats(t)]
        first = [t for i, t in enumerate(first) if i < self.total or t.state.is_finished()]
        return [t for t in [*again.values(), *first] if t.state in states]

    def trials(self) -> list[FrozenTrial]:
        """List all trials of the study."""
        return self.study.get_trials(deepcopy=False)


def repeats(trial: FrozenTrial) -> list[int]:
    """List the numbers of the trials that a trial repeats because their workers died."""
    history: list[int] = trial.system_attrs.get("retry_history", [])
    return history


def open_study(storage: BaseStorage, name: str, mode: str, settings: Settings) -> optuna.Study:
    """Begin a study or join it.

    Args:
        storage: of the study.
        name: of the study.
        mode: ``max`` or ``min`` of the monitored metric.
        settings: what all trials have in common, and the space.

    Raises:
        ConfigError: the study was begun with other settings: its trials cannot be compared.
    """
    direction = StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction=direction)
        study.set_user_attr("settings", dict(settings))
        return study
    except DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name)
    begun: Settings = study.user_attrs.get("settings", settings)
    if differences := changed_keys(begun, settings):
        unknown = " ".join(f"~{key}" for key in settings if key not in begun)
        raise ConfigError(
            f"study={name} was begun with {'; '.join(differences[:3])}"
            + (f" and {len(differences) - 3} more" if len(differences) > 3 else "")
            + "; type study=ANOTHER, or the same settings to continue it"
            + (f" ({unknown}: it knows no such key)" if unknown else "")
        )
    return study
