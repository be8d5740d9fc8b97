"""Numbers of people stay with them."""

import numpy as np
from some_people import person

from convpose.predict.clips import ByteTrack

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


def test_a_first_sight_that_did_not_come_again_was_nobody():
    seen, away = [person()], []
    assert follow(ByteTrack(), seen, away, seen) == [[None], [], [1]]
    assert follow(ByteTrack(), seen, away, away, seen) == [[None], [], [], [None]]


def test_a_person_is_expected_where_the_speed_leads():
    """Two frames are left out: at 12 px a frame, the last box of 40 px would overlap by nothing."""
    walk = [[person(50 + 12 * t, 60)] for t in range(30)]
    walk[10] = walk[11] = walk[12] = []
    numbers = follow(ByteTrack(), *walk)
    assert [n for n in numbers if n] == [[None], *[[1]] * 26]
    slow, twice = ByteTrack(), ByteTrack()
    for t in range(20):  # the same walk at half the frames a second
        slow([person(50 + 12 * t, 60)], t / 30)
        twice([person(50 + 24 * t, 60)], t / 15)
    assert np.allclose(slow._tracks[0].speed, [12, 0, 12, 0], atol=0.1)
    assert np.allclose(twice._tracks[0].speed, [12, 0, 12, 0], atol=0.1)
