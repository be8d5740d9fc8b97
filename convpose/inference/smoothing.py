"""Smoothing: the keypoints of a clip without jitter, and without lag where a limb moves fast."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convpose.errors import ConfigError
from convpose.inference.people import Person


@dataclass(slots=True)
class _State:
    """Of one person: last position, velocity and time."""

    points_px: NDArray[np.float64]
    velocity: NDArray[np.float64]
    time_s: float


class OneEuro:
    """One-Euro filter: a low-pass whose cutoff rises with the speed of each keypoint.

    Speeds are in lengths of the person a second, so that the same numbers serve near and far people
    and any resolution. Source: Casiez, Roussel and Vogel, 1 € Filter, CHI 2012.

    Args:
        cutoff_hz: of a keypoint at rest; lower is smoother.
        beta: how much the cutoff (Hz) rises with the speed; higher is less lag.
        speed_cutoff_hz: of the low-pass on the speed itself.
        forget_s: a person who was away longer starts anew.

    Raises:
        ConfigError: a cutoff that is not above 0, or a negative value.
    """

    def __init__(
        self,
        cutoff_hz: float = 1.5,
        beta: float = 8.0,
        speed_cutoff_hz: float = 1.0,
        forget_s: float = 0.5,
    ) -> None:
        if not (cutoff_hz > 0 and speed_cutoff_hz > 0 and beta >= 0 and forget_s >= 0):
            raise ConfigError(
                f"smoothing.cutoff_hz={cutoff_hz} smoothing.beta={beta} smoothing.speed_cutoff_hz="
                f"{speed_cutoff_hz} smoothing.forget_s={forget_s}: expected cutoffs above 0 and "
                "nothing negative"
            )
        self.cutoff_hz = cutoff_hz
        self.beta = beta
        self.speed_cutoff_hz = speed_cutoff_hz
        self.forget_s = forget_s
        self._states: dict[int, _State] = {}

    def __call__(self, people: Sequence[Person], time_s: float) -> list[Person]:
        """The people of the next frame, smoothed; those without a number stay as they are."""
        self._states = {
            track: state
            for track, state in self._states.items()
            if time_s - state.time_s <= self.forget_s
        }
        return [self._smooth(person, time_s) for person in people]

    def _smooth(self, person: Person, time_s: float) -> Person:
        if person.track is None:
            return person
        points = person.keypoints_px.astype(np.float64)
        before = self._states.get(person.track)
        if before is None:
            self._states[person.track] = _State(points, np.zeros_like(points), time_s)
            return person
        step_s = max(time_s - before.time_s, 1e-3)
        velocity = (points - before.points_px) / step_s
        share = _share(self.speed_cutoff_hz, step_s)
        velocity = before.velocity + share * (velocity - before.velocity)
        box = person.extent_px
        length = max(float((box[2:] - box[:2]).max()), 1.0)
        speed = np.linalg.norm(velocity, axis=1, keepdims=True) / length
        cutoff = self.cutoff_hz + self.beta * speed
        smooth = before.points_px + _share(cutoff, step_s) * (points - before.points_px)
        self._states[person.track] = _State(smooth, velocity, time_s)
        return replace(person, keypoints_px=smooth.astype(np.float32))


def _share(cutoff_hz: float | NDArray[np.float64], step_s: float) -> NDArray[np.float64]:
    """Weight of the new value in a first-order low-pass."""
    turn = 2 * math.pi * np.asarray(cutoff_hz) * step_s
    weight: NDArray[np.float64] = turn / (turn + 1)
    return weight
