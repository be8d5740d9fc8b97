"""A study and its tickets: how many workers share a fixed number of trials.

Whoever begins a study puts a ticket, a waiting trial, into it for every trial. A worker claims a
ticket in one atomic step of the storage, so that no trial runs twice. Tickets beyond the number of
trials, which two machines that begin at the same moment may put there, are never claimed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, fail_stale_trials
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from convpose.errors import ConfigError

Flat = Mapping[str, Any]


@dataclass(frozen=True)
class Tickets:
    """The trials of a study that may run.

    Attributes:
        study: of Optuna.
        storage: with heartbeats.
        total: trials of the study, without repetitions.
    """

    study: optuna.Study
    storage: BaseStorage
    total: int

    def issue(self) -> None:
        """Put the missing tickets into the study; more are asked for when it is continued."""
        for _ in range(self.total - sum(not repeats(t) for t in self.trials())):
            self.study.add_trial(create_trial(state=TrialState.WAITING))

    def claim(self) -> FrozenTrial | None:
        """A ticket that belongs to this worker from now on; None if there is none left.

        Trials whose worker died are put into the queue again first.
        """
        fail_stale_trials(self.study)
        for ticket in self.of(TrialState.WAITING):
            if isinstance(self.storage, BaseHeartbeat):
                # before the claim: a worker killed between the two would never be missed
                self.storage.record_heartbeat(ticket._trial_id)
            try:
                claimed = self.storage.set_trial_state_values(ticket._trial_id, TrialState.RUNNING)
            except UpdateFinishedTrialError:  # claimed and finished by others meanwhile
                continue
            if claimed:
                return ticket
        return None

    def of(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in one of these states, repetitions first.

        Beyond `total` only what is finished counts: a study may have had more trials before.
        """
        trials = self.trials()
        first = [t for t in trials if not repeats(t)]
        first = [t for i, t in enumerate(first) if i < self.total or t.state.is_finished()]
        return [t for t in [*filter(repeats, trials), *first] if t.state in states]

    def trials(self) -> list[FrozenTrial]:
        """All trials of the study."""
        return self.study.get_trials(deepcopy=False)


def repeats(trial: FrozenTrial) -> bool:
    """Whether a trial repeats another one whose worker died."""
    return bool(trial.system_attrs.get("retry_history"))


def open_study(storage: BaseStorage, name: str, mode: str, settings: Flat) -> optuna.Study:
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
    begun: Flat = study.user_attrs.get("settings", settings)
    differences = [
        f"{key}={begun.get(key)}, not {settings.get(key)}"
        for key in {**begun, **settings}
        if begun.get(key) != settings.get(key)
    ]
    if differences:
        raise ConfigError(
            f"study={name} was begun with {'; '.join(differences[:3])}"
            + (f" and {len(differences) - 3} more" if len(differences) > 3 else "")
            + "; type study=ANOTHER, or the same settings to continue it"
        )
    return study
