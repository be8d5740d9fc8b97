"""Storages of a study (sqlite, PostgreSQL or a journal file), and heartbeats of its trials.

A worker records a heartbeat of its running trial. A trial that has been silent for three beats is
failed by the next worker that looks, and put into the queue again with what it had reported.
"""

import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    fail_stale_trials,
)
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import make_url
from sqlalchemy.event import listen
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from convpose.errors import ConfigError, require_extra

WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6)  # for the tables that another worker makes
_MADE_TWICE = re.compile("already exists|UNIQUE constraint|unique constraint|is locked")
BEATS = 3  # that may be missed
KINDS = "sqlite:///FILE, journal:///FILE or postgresql://USER@HOST/DATABASE"


@dataclass(frozen=True)
class Heartbeats:
    """Signs of life of running trials.

    A database keeps them in a table of its own and reads its own clock. Optuna's journal knows
    none: there they are attributes of the trials, and the clocks of the machines must agree.

    Attributes:
        storage: of the study.
        interval_s: seconds between two beats.
        retries: how often a trial whose worker died is put into the queue again.
    """

    storage: BaseStorage
    interval_s: int
    retries: int

    def record(self, study: optuna.Study, number: int) -> None:
        """Record a beat of a trial; the last one may come when the trial has just ended."""
        trial_id = find_trial_id(self.storage, study, number)
        if isinstance(self.storage, RDBStorage):
            self.storage.record_heartbeat(trial_id)
        else:
            with suppress(UpdateFinishedTrialError):
                self.storage.set_trial_system_attr(trial_id, "heartbeat", time.time())

    @contextmanager
    def beating(self, study: optuna.Study, number: int) -> Iterator[None]:
        """Record beats of a trial in a thread, for as long as the context lasts."""
        ended = threading.Event()

        def beat() -> None:
            self.record(study, number)
            while not ended.wait(self.interval_s):
                self.record(study, number)

        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def requeue_silent(self, study: optuna.Study) -> None:
        """Fail the trials that are silent, and put them into the queue again."""
        if isinstance(self.storage, RDBStorage):
            fail_stale_trials(study)
            return
        oldest = time.time() - BEATS * self.interval_s
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            if trial.system_attrs.get("heartbeat", oldest) < oldest:
                trial_id = find_trial_id(self.storage, study, trial.number)
                with suppress(UpdateFinishedTrialError):  # another worker was faster
                    self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
                    requeue(study, trial, self.retries)


def find_trial_id(storage: BaseStorage, study: optuna.Study, number: int) -> int:
    """Find the id in the storage of a trial of a study."""
    study_id = storage.get_study_id_from_name(study.study_name)
    return storage.get_trial_id_from_study_id_trial_number(study_id, number)


def requeue(study: optuna.Study, trial: FrozenTrial, retries: int | None = None) -> None:
    """Put a failed trial into the queue again, at most so often; None: always."""
    retry_callback(retries)(study, trial)


def retry_callback(retries: int | None) -> RetryHeartbeatStaleTrialCallback:
    """Make Optuna's callback that puts a failed trial into the queue again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RetryHeartbeatStaleTrialCallback(retries, inherit_intermediate_values=True)


def open_storage(url: str, heartbeat_s: int, retries: int) -> BaseStorage:
    """Open a storage, or create it.

    Args:
        url: one of `KINDS`.
        heartbeat_s: seconds between two beats, for a database; see `Heartbeats`.
        retries: likewise.

    Raises:
        ConfigError: of an unknown kind, or it cannot be opened.
    """
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats are, since 2021
    kind, _, rest = url.partition("://")
    if kind == "journal" and rest[:1] == "/":
        path = Path(rest[1:])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(path), _lock(path)))
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
        options["connect_args"] = {"timeout": 60}  # seconds to wait for other workers' writes
    else:
        require_extra("search", "psycopg")
        address = address.set(drivername="postgresql+psycopg")
    try:
        if address.get_backend_name() == "sqlite":
            Path(str(address.database)).parent.mkdir(parents=True, exist_ok=True)
        storage = _with_tables(
            lambda: RDBStorage(
                address.render_as_string(hide_password=False),
                engine_kwargs=options,
                heartbeat_interval=heartbeat_s,
                grace_period=BEATS * heartbeat_s,
                heartbeat_stale_trial_callback=retry_callback(retries),
            )
        )
    except (SQLAlchemyError, OSError, RuntimeError) as error:  # the last: another Optuna's tables
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise ConfigError(f"storage={address!r}: cannot be opened: {reason}") from error
    if storage.engine.dialect.name == "sqlite":
        # sqlite knows no lock of a row: without this two workers could take the same trial
        listen(storage.engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage


class ProcessLock:
    """Lock of a journal that ends with its process, however that ends.

    Optuna's is a link that stays when its process is killed, and then nobody writes any more.

    Args:
        path: of the lock's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        """Wait until no other process and no other thread has the lock."""
        import fcntl  # not on Windows

        file = self._path.open("a")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._file = file
        return True

    def release(self) -> None:
        """Leave the lock to others."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _lock(path: Path) -> Any:
    locked = path.with_name(f"{path.name}.locked")
    return JournalFileOpenLock(str(path)) if sys.platform == "win32" else ProcessLock(locked)


def _with_tables(open_database: Callable[[], RDBStorage]) -> RDBStorage:
    """Open a database, again where another worker makes its tables at this moment."""
    for pause_s in WAITS_S:
        try:
            return open_database()
        except (IntegrityError, OperationalError, ProgrammingError, RuntimeError) as error:
            if not isinstance(error, RuntimeError) and not _MADE_TWICE.search(str(error)):
                raise
            time.sleep(pause_s)
    return open_database()


def close_storage(storage: BaseStorage) -> None:
    """Close the connections to a database."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()
