"""Clip: what ties the frames of a video together, numbers of people and smooth keypoints."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from convpose.inference.people import Person
from convpose.inference.smoothing import OneEuro
from convpose.inference.sources import Frame
from convpose.inference.tracking import Tracker


class Clips:
    """Tracks and smooths people from frame to frame, from scratch in every clip.

    Args:
        new_tracker: makes a tracker; None leaves people without numbers.
        new_smoothing: makes a filter; None leaves keypoints as they are.
    """

    def __init__(
        self,
        new_tracker: Callable[[], Tracker] | None = None,
        new_smoothing: Callable[[], OneEuro] | None = None,
    ) -> None:
        self._new_tracker = new_tracker
        self._new_smoothing = new_smoothing
        self._name: str | None = None
        self._tracker: Tracker | None = None
        self._smoothing: OneEuro | None = None

    def __call__(self, frame: Frame, people: Sequence[Person]) -> list[Person]:
        """The people of the next frame; those of a still come back as they are.

        The one person of a whole frame is number 1, and numbers from a file of boxes stay.
        """
        if frame.time_s is None:
            return list(people)
        if frame.name != self._name:
            self._name = frame.name
            self._tracker = self._smoothing = None
            if self._new_smoothing is not None:
                self._smoothing = self._new_smoothing()
        if people and people[0].box_px is None:
            people = [replace(person, track=1) for person in people]
        elif self._new_tracker is not None and all(person.track is None for person in people):
            self._tracker = self._tracker or self._new_tracker()
            people = self._tracker(people, frame.time_s)
        if self._smoothing is not None:
            people = self._smoothing(people, frame.time_s)
        return list(people)
