"""Storages: opened, refused, and what happens to a trial without a worker."""

import multiprocessing
import os
import signal
import time

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from postgresql import server
from sqlalchemy import create_engine

from convpose.errors import ConfigError
from convpose.search.storage import Heartbeats, ProcessLock, close_storage, open_storage, requeue
from convpose.search.trial_queue import open_study, repeats

pytestmark = pytest.mark.slow
URLS = ["sqlite:///{}/study.db", "journal:///{}/study.journal"]


@pytest.fixture(params=URLS, ids=["sqlite", "journal"])
def heartbeats(request, tmp_path):
    storage = open_storage(request.param.format(tmp_path / "new"), heartbeat_s=1, retries=1)
    return Heartbeats(storage, interval_s=1, retries=1)


def test_a_trial_without_a_worker_is_tried_again_with_what_it_reported(heartbeats):
    storage = heartbeats.storage
    study = optuna.create_study(storage=storage)
    lost, held = (optuna.Trial(study, storage.create_new_trial(study._study_id)) for _ in range(2))
    lost.suggest_float("x", 0, 1)
    lost.report(0.5, 1)
    lost.set_user_attr("run", "000_x")
    heartbeats.record(study, lost.number)
    with heartbeats.beating(study, held.number):
        deadline = time.monotonic() + 60
        while study.trials[0].state == TrialState.RUNNING and time.monotonic() < deadline:
            heartbeats.requeue_silent(study)
            time.sleep(0.2)
    first, second, again = study.trials
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.RUNNING)
    assert again.state == TrialState.WAITING
    assert repeats(again)
    assert not repeats(first)
    assert again.params == first.params
    assert again.intermediate_values == {1: 0.5}
    assert again.user_attrs["run"] == "000_x"
    requeue(study, again, retries=1)  # it has been tried again once
    assert len(study.trials) == 3


def test_a_trial_that_ends_while_its_heart_beats(heartbeats):
    study = optuna.create_study(storage=heartbeats.storage)
    heartbeats.storage.create_new_trial(study._study_id)
    heartbeats.record(study, 0)
    study.tell(0, 1.0)
    heartbeats.record(study, 0)
    assert study.trials[0].value == 1.0


def test_two_processes_see_the_same_journal(tmp_path):
    url = f"journal:///{tmp_path}/study.journal"
    optuna.create_study(storage=open_storage(url, 1, 1), study_name="s")
    study = optuna.load_study(storage=open_storage(url, 1, 1), study_name="s")
    study.enqueue_trial({"x": 1})
    again = optuna.load_study(storage=open_storage(url, 1, 1), study_name="s")
    assert again.trials[0].state == TrialState.WAITING


def open_together(urls, workers=4):
    """Open storages in processes that begin at the same moment; what they said of each."""
    context = multiprocessing.get_context("fork")
    barrier, said = context.Barrier(workers), context.Queue()

    def worker():
        for url in urls:
            barrier.wait(60)
            try:
                storage = open_storage(url, heartbeat_s=30, retries=2)
                study = open_study(storage, "s", "max", {"a": 1})
                study.add_trial(create_trial(value=1.0))
                said.put("")
            except BaseException as error:
                said.put(repr(error))

    processes = [context.Process(target=worker) for _ in range(workers)]
    for process in processes:
        process.start()
    found = [said.get(timeout=120) for _ in range(workers * len(urls))]
    for process in processes:
        process.join(60)
    return found


def test_a_journal_whose_writer_was_killed_can_be_written(tmp_path):
    url = f"journal:///{tmp_path}/study.journal"
    study = optuna.create_study(storage=open_storage(url, 1, 1), study_name="s")
    held = ProcessLock(tmp_path / "study.journal.locked")
    killed = multiprocessing.get_context("fork").Process(
        target=lambda: held.acquire() and os.kill(os.getpid(), signal.SIGKILL)
    )
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    study.enqueue_trial({"x": 1})
    assert len(study.trials) == 1


@pytest.mark.parametrize("url", URLS, ids=["sqlite", "journal"])
def test_workers_that_begin_a_storage_at_the_same_moment(url, tmp_path):
    urls = [url.format(tmp_path / str(i)) for i in range(3)]
    assert set(open_together(urls)) == {""}
    for one in urls:
        study = optuna.load_study(storage=open_storage(one, 30, 2), study_name="s")
        assert [trial.value for trial in study.trials] == [1.0] * 4


def test_workers_that_begin_a_database_of_a_server_at_the_same_moment():
    with server() as url:
        names = [f"study{i}" for i in range(3)]
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        for name in names:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        urls = [url.replace("/postgres", f"/{name}") for name in names]
        assert set(open_together(urls)) == {""}
        for one in urls:
            storage = open_storage(one, 30, 2)
            study = optuna.load_study(storage=storage, study_name="s")
            assert [trial.value for trial in study.trials] == [1.0] * 4
            close_storage(storage)


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "mysql://host/db",
        "study.db",
        "journal://",
        "journal://study.log",
        "s3://x/y",
    ],
)
def test_unknown_storages_are_refused(url):
    with pytest.raises(ConfigError) as error:
        open_storage(url, 30, 2)
    assert str(error.value) == (
        f"storage={url}: unknown storage; type sqlite:///FILE, journal:///FILE or "
        "postgresql://USER@HOST/DATABASE"
    )


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_memory_is_shared_with_nobody(url):
    with pytest.raises(ConfigError, match=r": no file; type sqlite:///FILE"):
        open_storage(url, 30, 2)


def test_what_cannot_be_opened_says_why(tmp_path):
    (tmp_path / "file").write_text("neither of the two\n" * 99)
    for url, reason in (
        (f"sqlite:///{tmp_path}/file", "file is not a database"),
        (f"sqlite:///{tmp_path}/file/study.db", "File exists"),
        (f"journal:///{tmp_path}/file/study.log", "File exists"),
        (f"journal:///{tmp_path}/file", "Expecting value"),
    ):
        with pytest.raises(ConfigError, match="cannot be opened") as error:
            open_storage(url, 30, 2)
        assert reason in str(error.value)


def test_a_server_that_is_not_there_and_no_password_in_the_message():
    with pytest.raises(ConfigError, match="cannot be opened") as error:
        open_storage("postgresql://me:secret@127.0.0.1:1/studies", 30, 2)
    assert "refused" in str(error.value)
    assert "secret" not in str(error.value)


def test_the_driver_of_postgresql_is_an_extra(monkeypatch):
    monkeypatch.setattr("convpose.errors.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        open_storage("postgresql://me@host/studies", 30, 2)
    assert str(error.value) == "psycopg is not installed; type pip install 'convpose[search]'"
