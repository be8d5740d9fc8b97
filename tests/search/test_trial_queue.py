"""A queue: a fixed number of trials, each popped by one worker only."""

import threading

import optuna
import pytest
from optuna.trial import TrialState

from convpose.errors import ConfigError
from convpose.search.storage import Heartbeats, open_storage, requeue
from convpose.search.trial_queue import TrialQueue, open_study

SETTINGS = {"trainer.max_epochs": 25, "optimizer": "SGD"}


def join(url: str, total: int = 3, **settings) -> TrialQueue:
    storage = open_storage(url, 30, 2)
    study = open_study(storage, "s", "max", settings or SETTINGS)
    return TrialQueue(study, Heartbeats(storage, 30, 2), total)


@pytest.fixture(params=["sqlite:///{}/study.db", "journal:///{}/study.journal"])
def url(request, tmp_path):
    return request.param.format(tmp_path)


def test_a_study_is_begun_once_and_joined(url):
    first, second = join(url), join(url)
    first.enqueue()
    second.enqueue()
    assert len(second.trials()) == 3
    assert second.study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert second.study.user_attrs["settings"] == SETTINGS


def test_more_trials_are_added_to_a_study_and_none_taken_away(tmp_path):
    url = f"journal:///{tmp_path}/study.journal"  # opens faster than sqlite
    for total, there in ((2, 2), (5, 5), (3, 5)):
        join(url, total).enqueue()
        assert len(join(url).trials()) == there


def test_every_trial_is_popped_once(url):
    join(url, total=6).enqueue()
    popped: list[int] = []

    def work():
        queue = join(url, total=6)
        while trial := queue.pop():
            popped.append(trial.number)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(popped) == list(range(6))
    assert {t.state for t in join(url).trials()} == {TrialState.RUNNING}


def test_trials_beyond_the_total_are_never_popped(tmp_path):
    url = f"journal:///{tmp_path}/study.journal"
    join(url, total=4).enqueue()  # as when two machines begin at the same moment
    queue = join(url, total=2)
    assert [t.number for t in (queue.pop(), queue.pop())] == [0, 1]
    assert queue.pop() is None
    assert [t.number for t in queue.in_state(TrialState.WAITING)] == []
    assert join(url, total=3).pop().number == 2
    queue.study.tell(2, 0.5)
    fewer = join(url, total=2).in_state(TrialState.COMPLETE)
    assert [t.number for t in fewer] == [2], "what is finished counts, whatever is typed later"


def test_a_repetition_comes_first_and_counts_for_no_other(tmp_path):
    queue = join(f"journal:///{tmp_path}/study.journal", total=2)
    queue.enqueue()
    lost = queue.pop()
    queue.study.tell(lost.number, state=TrialState.FAIL)
    requeue(queue.study, queue.trials()[lost.number])
    queue.enqueue()
    assert [t.number for t in (queue.pop(), queue.pop())] == [2, 1]
    assert queue.pop() is None


def test_a_kill_between_failing_a_trial_and_repeating_it(url):
    queue, other = join(url, total=2), join(url, total=2)
    queue.enqueue()
    lost, refused = queue.pop(), queue.pop()
    queue.study.tell(lost.number, state=TrialState.FAIL)  # killed here
    storage = queue.heartbeats.storage
    number = storage.get_all_trials(storage.get_all_studies()[0]._study_id)[
        refused.number
    ]._trial_id
    storage.set_trial_user_attr(number, "error", "out of memory")
    queue.study.tell(refused.number, state=TrialState.FAIL)
    requeue(other.study, other.study.get_trials()[lost.number])  # at the same moment
    requeue(queue.study, queue.study.get_trials()[lost.number])
    for _ in range(2):  # a worker that comes later adds none
        again = other.pop()
        if again is not None:
            assert again.system_attrs["retry_history"] == [lost.number]
            other.study.tell(again.number, 0.5)
    assert queue.pop() is None
    assert [t.number for t in queue.in_state(TrialState.COMPLETE)] == [2]
    assert queue.in_state(TrialState.WAITING, TrialState.RUNNING) == []


def test_a_trial_that_a_killed_worker_failed_is_repeated(url):
    queue = join(url, total=1)
    queue.enqueue()
    for numbers in ([0], [0, 1]):  # retries=2
        queue.study.tell(queue.pop().number, state=TrialState.FAIL)
        assert sorted(t.number for t in queue.in_state(TrialState.FAIL)) == numbers
    again = queue.pop()
    assert again.system_attrs["retry_history"] == [0, 1]
    queue.study.tell(again.number, state=TrialState.FAIL)
    assert queue.pop() is None, "as often as retries= says"


def test_a_study_of_other_settings_is_refused(tmp_path):
    url = f"journal:///{tmp_path}/study.journal"
    join(url)
    changed = {"trainer.max_epochs": 50, "optimizer": "AdamW", "a": 1, "b": 2}
    with pytest.raises(ConfigError) as error:
        join(url, **changed)
    assert str(error.value) == (
        "study=s was begun with trainer.max_epochs=25, not 50; optimizer=SGD, not AdamW; a=None, "
        "not 1 and 1 more; type study=ANOTHER, or the same settings to continue it (~a "
        "~b: it knows no such key)"
    )
