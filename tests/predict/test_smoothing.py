"""One-Euro: still where nothing moves, quick where something does."""

from dataclasses import replace

import numpy as np
from some_people import person

from convpose.predict.clips import OneEuro

RATE_HZ = 30


def smoothed(people, filter_=None):
    filter_ = filter_ or OneEuro()
    return [filter_([p], i / RATE_HZ)[0].keypoints_px for i, p in enumerate(people)]


def shaken(scale=1.0, count=120, noise=1.0, speed=0.0):
    """A person of 100 px with Gaussian jitter, who may move to the right."""
    rng = np.random.default_rng(0)
    still = person(200, 200, 100, track=1)
    people = []
    for i in range(count):
        points = still.keypoints_px + rng.normal(0, noise, still.keypoints_px.shape)
        points += np.array([speed * i / RATE_HZ, 0])
        box = still.box_px * scale
        people.append(replace(still, keypoints_px=(points * scale).astype(np.float32), box_px=box))
    return people


def test_who_stands_still_stands_still():
    found = smoothed([person(track=1)] * 5)
    assert all(np.array_equal(points, found[0]) for points in found)


def test_jitter_at_rest_is_more_than_halved():
    raw = np.stack([p.keypoints_px for p in shaken()])[30:]
    calm = np.stack(smoothed(shaken()))[30:]
    assert calm.std(axis=0).mean() < 0.5 * raw.std(axis=0).mean()
    assert np.abs(calm.mean(axis=0) - raw.mean(axis=0)).max() < 0.5


def test_a_fast_limb_is_followed_closely():
    people = shaken(noise=0.0, speed=500)  # five lengths of the person a second
    lag = people[-1].keypoints_px - smoothed(people)[-1]
    assert 0 <= lag[:, 0].max() < 500 / RATE_HZ, "less than a frame behind"
    slow = smoothed(people, OneEuro(beta=0.0))[-1]
    assert (people[-1].keypoints_px - slow)[:, 0].min() > 3 * lag[:, 0].max()


def test_near_and_far_people_are_smoothed_alike():
    near, far = smoothed(shaken(scale=10.0)), smoothed(shaken())
    assert np.allclose(near[-1], 10 * far[-1], rtol=1e-4)


def test_after_a_while_away_a_person_starts_anew():
    filter_, here, there = OneEuro(forget_s=0.5), person(50, track=1), person(90, track=1)
    filter_([here], 0.0)
    assert 50 < filter_([there], 0.1)[0].keypoints_px[:, 0].mean() < 89
    filter_([here], 0.2)
    filter_([], 0.3)
    assert np.array_equal(filter_([there], 0.9)[0].keypoints_px, there.keypoints_px)


def test_people_are_smoothed_each_for_itself_and_strangers_not_at_all():
    filter_ = OneEuro()
    filter_([person(50, track=1), person(150, track=2), person(250)], 0.0)
    one, two, stranger = filter_([person(54, track=1), person(150, track=2), person(290)], 0.1)
    assert 50 < one.keypoints_px[:, 0].mean() < 54
    assert np.array_equal(two.keypoints_px, person(150).keypoints_px)
    assert np.array_equal(stranger.keypoints_px, person(290).keypoints_px)


def test_two_frames_of_the_same_time():
    filter_ = OneEuro()
    filter_([person(track=1)], 0.0)
    assert np.isfinite(filter_([person(51, track=1)], 0.0)[0].keypoints_px).all()
