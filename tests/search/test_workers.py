"""Workers as processes that share a study and are killed: PostgreSQL, sqlite, a journal."""

import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from attack import tries
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from postgresql import server
from tiny import TINY, history, start

from convpose.search.storage import close_storage, open_storage

SEARCH = (
    *(o for o in TINY if not o.startswith("data.batch_size")),
    *("search.parameters.data.batch_size.choices=[4,8]", "study=s", "heartbeat_s=1"),
    *("logger=none", "callbacks.preview=null", "callbacks.early_stopping=null", "pruner=none"),
)
KILLS = tries(3, 15)
pytestmark = pytest.mark.slow


def begin(folder: Path, *options: str) -> subprocess.Popen[str]:
    return start(folder, *SEARCH, *options, module="convpose.search")


@contextmanager
def looking(url: str) -> Iterator[BaseStorage]:
    """A storage as another program has it open."""
    storage = open_storage(url, 1, 0)
    yield storage
    close_storage(storage)


def wait_for(what: Callable[[], bool], search: subprocess.Popen[str]) -> None:
    """Wait until something has happened in a search that goes on."""
    deadline = time.monotonic() + 300
    while not what():
        assert time.monotonic() < deadline
        assert search.poll() is None, search.communicate()
        time.sleep(0.2)


def study(storage: BaseStorage, search: subprocess.Popen[str]) -> optuna.Study:
    """The study, as soon as the search has begun it."""
    wait_for(lambda: "s" in optuna.get_all_study_names(storage), search)
    return optuna.load_study(study_name="s", storage=storage)


def in_mid_trial(study: optuna.Study) -> list[FrozenTrial]:
    """The running trials that have reported an epoch, and have some more to go."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in trials if 1 <= len(trial.intermediate_values) <= 3]


def completed(study: optuna.Study) -> set[int]:
    return {t.number for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}


def is_retry(trial: FrozenTrial) -> bool:
    return "retry_history" in trial.system_attrs


def check_that_nothing_is_lost_or_doubled(study: optuna.Study, runs: Path, epochs: int) -> None:
    """Every completed trial is one whole run, and every run is one trial's."""
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    folders = Counter(t.user_attrs["run"] for t in complete)
    assert set(folders.values()) == {1}
    assert set(folders) == {path.name for path in runs.iterdir() if path.is_dir()}
    for trial in complete:
        rows = history(runs / trial.user_attrs["run"])
        assert [row["epoch"] for row in rows] == list(range(epochs))
        assert trial.value == max(row["val/pck@0.2"] for row in rows)
        assert sorted(trial.intermediate_values) == list(range(1, epochs + 1))
        facts = json.loads((runs / trial.user_attrs["run"] / "run.json").read_text())
        assert (facts["trial"], facts["state"]) == (trial.number, "complete")


def test_four_workers_share_postgresql_and_one_is_killed(tmp_path):
    with server() as url, looking(url) as storage:
        options = (f"storage={url}", "trials=8", "workers=4", "retries=1", "trainer.max_epochs=6")
        search = begin(tmp_path, *options)
        shared = study(storage, search)
        wait_for(lambda: bool(completed(shared) and in_mid_trial(shared)), search)
        lost = in_mid_trial(shared)[0]
        os.kill(int(lost.user_attrs["worker"].rpartition(":")[2]), signal.SIGKILL)
        out, err = search.communicate(timeout=600)
        assert search.returncode == 0, (out, err)

        once = Counter(t.state.name for t in shared.trials if not is_retry(t))
        assert once == {"COMPLETE": 7, "FAIL": 1}
        assert shared.trials[lost.number].state == TrialState.FAIL
        repeated = list(filter(is_retry, shared.trials))  # several workers may queue it; one runs
        assert all(t.system_attrs["retry_history"] == [lost.number] for t in repeated)
        again, *others = sorted(repeated, key=lambda t: t.state != TrialState.COMPLETE)
        assert again.state == TrialState.COMPLETE
        assert {t.state for t in others} <= {TrialState.WAITING}
        assert again.params == lost.params
        assert again.user_attrs["run"] == lost.user_attrs["run"]
        check_that_nothing_is_lost_or_doubled(shared, tmp_path / "runs/s", epochs=6)

        logs = "".join(path.read_text() for path in (tmp_path / "runs/s").glob("worker-*.log"))
        begun = Counter(re.findall(r"^run folder \S*/(\S+)$", logs, re.MULTILINE))
        assert begun.pop(lost.user_attrs["run"]) == 2
        assert set(begun.values()) == {1}
        assert len({t.user_attrs["worker"] for t in shared.trials}) >= 4
        assert re.search(r"worker \d was killed by SIGKILL, see \S+; started again", out)
        assert "study s: 8 complete; interrupted or lost, and taken up again: 1" in out
        assert "Traceback" not in out + err + logs


@pytest.mark.parametrize("url", ["journal:///runs/s/study.journal", "sqlite:///runs/s/study.db"])
def test_kills_inside_of_trials(url, tmp_path, monkeypatch, forker):
    """Each kill is counted by the log: a trial has begun in that life, and has not ended."""
    monkeypatch.chdir(tmp_path)
    options = (*SEARCH, f"storage={url}", "trainer.max_epochs=10", "retries=99")
    dice, kills, lives, ended = random.Random(0), 0, 0, set()
    while kills < KILLS:
        lives += 1
        assert lives < 3 * KILLS, f"{kills} kills hit a trial"
        trials = f"trials={len(ended) + 2}"  # there is always one left
        life = forker.begin(*options, trials, module="convpose.search")
        life.wait_for("run folder" if lives > 1 else "trial 0 ")  # one has ended at least
        time.sleep(dice.uniform(0, 0.8))
        if life.alive():
            life.kill()
        life.ended()
        said = life.log.read_text()
        begun, through = (
            len(re.findall(line, said, re.MULTILINE)) for line in (r"^run folder ", r"^trial \d+ ")
        )
        kills += begun > through
        with looking(url) as storage:  # a trial may have ended without a word
            ended = completed(optuna.load_study(study_name="s", storage=storage))
    last = forker.begin(*options, f"trials={len(ended) + 2}", module="convpose.search")
    assert last.ended() == 0, last.log.read_text()
    said = last.log.read_text()
    assert 0 in ended
    assert not ended & {*map(int, re.findall(r"^trial (\d+) ", said, re.M))}, "those are skipped"
    with looking(url) as storage:
        study = optuna.load_study(study_name="s", storage=storage)
        check_that_nothing_is_lost_or_doubled(study, tmp_path / "runs/s", epochs=10)
        assert len(completed(study)) == len(ended) + 2
        lost = {t.number: t for t in study.trials if t.number not in completed(study)}
        assert {t.state for t in lost.values()} == {TrialState.FAIL}
        again = {t.system_attrs["retry_history"][-1]: t for t in study.trials if is_retry(t)}
        assert {n: t.params for n, t in again.items()} == {n: t.params for n, t in lost.items()}
    summary = f"{len(ended) + 2} complete; interrupted or lost, and taken up again: {len(lost)}"
    assert summary in said
    print(f"{kills} kills inside of trials in {lives} lives: {summary}")


def test_sigterm_stops_all_workers_and_the_trials_wait(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = "journal:///runs/s/study.journal"
    with looking(url) as storage:
        search = begin(
            tmp_path, f"storage={url}", "trials=2", "workers=2", "trainer.max_epochs=999"
        )
        begun = study(storage, search)
        wait_for(lambda: [bool(t.intermediate_values) for t in begun.trials] == [True] * 2, search)
        search.terminate()
        out, err = search.communicate(timeout=300)
        assert search.returncode == 128 + signal.SIGTERM, (out, err)
        assert Counter(t.state.name for t in begun.trials) == {"FAIL": 2, "WAITING": 2}
        for path in (tmp_path / "runs/s").glob("worker-*.log"):
            assert "stopped by SIGTERM in epoch" in path.read_text()
