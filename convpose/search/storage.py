"""Where a study lives: sqlite, PostgreSQL or a journal file, each with heartbeats.

A worker records a heartbeat of its running trial. A trial that has been silent for three beats is
failed by the next worker that looks, and put into the queue again with what it had reported.
"""

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
)
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import make_url
from sqlalchemy.event import listen
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from convpose.errors import ConfigError, require_extra

BEATS = 3  # that may be missed
KINDS = "sqlite:///FILE, journal:///FILE or postgresql://USER@HOST/DATABASE"
OnStale = Callable[[optuna.Study, FrozenTrial], None]


class JournalWithHeartbeat(JournalStorage, BaseHeartbeat):
    """Optuna's journal, in which a heartbeat is an attribute of the trial.

    Unlike a database a journal has no clock: those of the machines may differ by seconds.
    """

    def __init__(self, path: Path, interval_s: int, on_stale: OnStale) -> None:
        super().__init__(JournalFileBackend(str(path)))
        self._interval_s = interval_s
        self._on_stale = on_stale

    def record_heartbeat(self, trial_id: int) -> None:
        """Note the time; the last beat may come when the trial has just ended."""
        with suppress(UpdateFinishedTrialError):
            self.set_trial_system_attr(trial_id, "heartbeat", time.time())

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        oldest = time.time() - BEATS * self._interval_s
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        return [t._trial_id for t in running if t.system_attrs.get("heartbeat", oldest) < oldest]

    def get_heartbeat_interval(self) -> int:
        """Seconds between two beats."""
        return self._interval_s

    def get_heartbeat_stale_trial_callback(self) -> OnStale:
        """What happens to a trial without a worker."""
        return self._on_stale


def open_storage(url: str, heartbeat_s: int, retries: int) -> BaseStorage:
    """Open a storage, or create it.

    Args:
        url: one of `KINDS`.
        heartbeat_s: seconds between the signs of life of a trial.
        retries: how often a trial whose worker died is put into the queue again.

    Raises:
        ConfigError: of an unknown kind, or it cannot be opened.
    """
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats are, since 2021
    on_stale = retry(retries)
    kind, _, rest = url.partition("://")
    if kind == "journal" and rest[:1] == "/":
        path = Path(rest[1:])
        _make_folder(path, url)
        try:
            return JournalWithHeartbeat(path, heartbeat_s, on_stale)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"storage={url}: cannot be opened: {error}") from error
    try:
        address = make_url(url)
    except ArgumentError:
        address = None
    if address is None or address.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigError(f"storage={url}: unknown storage; type {KINDS}")
    options: dict[str, object] = {"pool_pre_ping": True}  # a server may have been restarted
    if address.get_backend_name() == "sqlite":
        if address.database in (None, "", ":memory:"):
            raise ConfigError(f"storage={url}: no file; type {KINDS}")
        _make_folder(Path(str(address.database)), url)
        options["connect_args"] = {"timeout": 60}  # seconds to wait for other workers' writes
    else:
        require_extra("search", "psycopg")
        address = address.set(drivername="postgresql+psycopg")
    try:
        storage = RDBStorage(
            address.render_as_string(hide_password=False),
            engine_kwargs=options,
            heartbeat_interval=heartbeat_s,
            grace_period=BEATS * heartbeat_s,
            heartbeat_stale_trial_callback=on_stale,
        )
    except (SQLAlchemyError, RuntimeError) as error:  # RuntimeError: another Optuna's tables
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise ConfigError(f"storage={address!r}: cannot be opened: {reason}") from error
    if storage.engine.dialect.name == "sqlite":
        # sqlite knows no lock of a row: without this two workers could claim the same trial
        listen(storage.engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


def close_storage(storage: BaseStorage) -> None:
    """Close the connections to a database."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def retry(times: int | None) -> OnStale:
    """Puts a failed trial into the queue again, at most so often; None: always."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RetryHeartbeatStaleTrialCallback(times, inherit_intermediate_values=True)


def _make_folder(path: Path, url: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"storage={url}: cannot be opened: {error}") from error
