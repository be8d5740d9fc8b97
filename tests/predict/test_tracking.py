"""Numbers of people stay with them."""

import numpy as np
import pytest
from some_people import person

from convpose.errors import ConfigError
from convpose.predict.clips import ByteTrack

pytest.importorskip("trackers")
STEP_S = 1 / 30


def follow(tracker, *frames):
    """The numbers in every frame, a list of people each."""
    return [
        [found.track for found in tracker(people, i * STEP_S)] for i, people in enumerate(frames)
    ]


def test_two_people_who_pass_keep_their_numbers():
    def at(t):
        a, b = person(20 + 4 * t, 40), person(260 - 4 * t, 75)
        return [a, b] if t % 2 else [b, a]  # a detector's order means nothing

    numbers = follow(ByteTrack(), *(at(t) for t in range(60)))
    assert numbers[0] == [None, None], "seen once is not yet a person"
    first = dict(zip("ab", numbers[1], strict=True))
    assert set(first.values()) == {1, 2}
    assert all(n == list(first.values())[:: 1 if t % 2 else -1] for t, n in enumerate(numbers) if t)


def test_who_comes_back_soon_keeps_the_number_and_later_gets_a_new_one():
    seen, away = [person()], []
    soon = follow(ByteTrack(lost_s=0.5), *[seen] * 5, *[away] * 8, *[seen] * 3)
    assert soon[-1] == [1]
    late = follow(ByteTrack(lost_s=0.1), *[seen] * 5, *[away] * 20, *[seen] * 3)
    assert late[-1] == [2]


def test_a_doubt_carries_a_number_on_but_gets_none():
    sure, doubt = person(box_score=0.9), person(box_score=0.35)
    other = person(200, 60, box_score=0.35)
    numbers = follow(ByteTrack(sure=0.5), [sure], [sure], [doubt, other], [doubt, other], [sure])
    assert numbers == [[None], [1], [1], [1], [1]]


def test_the_people_are_the_same_but_for_the_number():
    tracker, found = ByteTrack(), [person(50), person(150)]
    tracker(found, 0.0)
    for before, after in zip(found, tracker(found, STEP_S), strict=True):
        assert np.array_equal(before.keypoints_px, after.keypoints_px)
        assert np.array_equal(before.box_px, after.box_px)


def test_empty_frames():
    assert follow(ByteTrack(), [], [], []) == [[], [], []]


def test_a_second_clip_begins_with_one():
    follow(ByteTrack(), *[[person()]] * 3)
    assert follow(ByteTrack(), *[[person()]] * 2)[1] == [1]


def test_without_the_package(monkeypatch):
    monkeypatch.setattr("convpose.errors.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"trackers is not installed; .*'convpose\[track\]'"):
        ByteTrack()
