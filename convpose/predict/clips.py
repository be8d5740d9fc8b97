"""Follow people from frame to frame of a clip: tracking and smoothing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray

from convpose.config.schema import NotNegative, Positive, Share
from convpose.predict.people import Person
from convpose.predict.predictor import PosePredictor
from convpose.predict.sources import Frame

FRAMES_S = 30.0  # in which the noise is counted
DRIFT = 0.01  # what a frame adds to the variance of a box's corner (px²) and of its speed
NOISE = 0.1  # variance of a detector's corner (px²)


class Tracker(Protocol):
    """Give the people of one clip their numbers."""

    def __call__(self, people: Sequence[Person], time_s: float) -> list[Person]:
        """Return the people of the next frame with their `Person.track`."""
        ...


class ByteTrack:
    """Match boxes by overlap with where they should be.

    A person seen with a high box score gets a number in the second frame and keeps it. A box with
    a low score can continue a number, but not start one. Source: Zhang et al., ByteTrack, ECCV
    2022; a Kalman filter of constant speed says where boxes should be.

    Args:
        sure: box score from which a person may get a new number.
        overlap: least intersection over union with the predicted box of the person.
        lost_s: seconds for which a number is kept for a person who is not seen.
    """

    def __init__(
        self,
        sure: Share = 0.5,
        overlap: Annotated[float, Gt(0), Lt(1)] = 0.1,
        lost_s: NotNegative = 1.0,
    ) -> None:
        # here, because it costs 0.3 s that pictures need not wait for
        from scipy.optimize import linear_sum_assignment

        self._assign = linear_sum_assignment
        self.sure = sure
        self.overlap = overlap
        self.lost_s = lost_s
        self._tracks: list[_Track] = []
        self._count = 0
        self._time_s: float | None = None

    def __call__(self, people: Sequence[Person], time_s: float) -> list[Person]:
        """Number the people of the next frame; an unsure box that continues nobody is left out."""
        step = 1.0 if self._time_s is None else (time_s - self._time_s) * FRAMES_S
        self._time_s = time_s
        self._tracks = [
            track
            for track in self._tracks
            # a first sight that did not come again was nobody
            if track.missed == 0
            or (time_s - track.seen_s <= self.lost_s and (track.number or track.missed == 1))
        ]
        for track in self._tracks:
            track.predict(step)
        found, free = dict[int, _Track](), self._tracks
        for sure in (True, False):
            boxes = {
                i: person.extent_px
                for i, person in enumerate(people)
                if (person.box_score >= self.sure) == sure
            }
            for i, track in self._pairs(free, boxes):
                if track.number is None:
                    self._count += 1
                    track.number = self._count
                track.update(boxes[i], time_s)
                found[i] = track
            free = [track for track in free if track.missed]
            if sure:
                new = [_Track(box, time_s) for i, box in boxes.items() if i not in found]
        self._tracks = [*self._tracks, *new]
        return [
            replace(person, track=found[i].number if i in found else None)
            for i, person in enumerate(people)
            if i in found or person.box_score >= self.sure
        ]

    def _pairs(
        self, tracks: Sequence["_Track"], boxes: Mapping[int, NDArray[np.float64]]
    ) -> list[tuple[int, "_Track"]]:
        """Pair boxes with tracks so that the sum of the overlaps is the largest."""
        if not tracks or not boxes:
            return []
        shared = _overlaps(np.stack([t.box_px for t in tracks]), np.stack(list(boxes.values())))
        numbers = list(boxes)
        rows, columns = (found.tolist() for found in self._assign(shared, maximize=True))
        return [
            (numbers[column], tracks[row])
            for row, column in zip(rows, columns, strict=True)
            if shared[row, column] >= self.overlap
        ]


class _Track:
    """Person who is followed: a Kalman filter, the same for the four coordinates of the box."""

    def __init__(self, box_px: NDArray[np.float64], time_s: float) -> None:
        self.box_px = np.asarray(box_px, np.float64)
        self.speed = np.zeros(4)  # px a frame
        self.spread = np.eye(2)  # covariance of position and speed
        self.number: int | None = None
        self.missed = 0  # frames since it was seen
        self.seen_s = time_s

    def predict(self, step: float) -> None:
        """Go on by so many frames."""
        self.missed += 1
        move = np.array([[1.0, step], [0.0, 1.0]])
        self.box_px = self.box_px + step * self.speed
        self.spread = move @ self.spread @ move.T + step * DRIFT * np.eye(2)

    def update(self, box_px: NDArray[np.float64], time_s: float) -> None:
        """Take where it was seen."""
        self.missed, self.seen_s = 0, time_s
        gain = self.spread[0] / (self.spread[0, 0] + NOISE)
        error = box_px - self.box_px
        self.box_px, self.speed = self.box_px + gain[0] * error, self.speed + gain[1] * error
        self.spread = self.spread - np.outer(gain, self.spread[0])


def _overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of boxes, (N, 4) and (M, 4), as (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared: NDArray[np.float64] = np.clip(high - low, 0, None).prod(2)
    areas = [np.clip(x[:, 2:] - x[:, :2], 0, None).prod(1) for x in (a, b)]
    shared /= np.maximum(areas[0][:, None] + areas[1] - shared, 1e-9)
    return shared


@dataclass(slots=True)
class _State:
    """Last position (px), velocity (px/s) and time of one person."""

    points_px: NDArray[np.float64]
    velocity: NDArray[np.float64]
    time_s: float


class OneEuro:
    """Smooth keypoints by a low-pass whose cutoff rises with their speed: the One-Euro filter.

    Speeds are divided by the size of the person's box, so that the same numbers suit near and far
    people and any resolution. Source: Casiez, Roussel and Vogel, 1 € Filter, CHI 2012.

    Args:
        cutoff_hz: cutoff for a keypoint at rest; lower is smoother.
        beta: rise of the cutoff (Hz) with the speed (box sizes a second); higher is less lag.
        speed_cutoff_hz: cutoff of the low-pass on the speed itself.
        forget_s: a person who was away for longer is filtered from scratch.

    Raises:
        ConfigError: a cutoff that is not above 0, or a negative value.
    """

    def __init__(
        self,
        cutoff_hz: Positive = 1.5,
        beta: NotNegative = 8.0,
        speed_cutoff_hz: Positive = 1.0,
        forget_s: NotNegative = 0.5,
    ) -> None:
        self.cutoff_hz = cutoff_hz
        self.beta = beta
        self.speed_cutoff_hz = speed_cutoff_hz
        self.forget_s = forget_s
        self._states: dict[int, _State] = {}

    def __call__(self, people: Sequence[Person], time_s: float) -> list[Person]:
        """Smooth the people of the next frame; those without a number stay as they are."""
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
    """Return the weight of the new value in a first-order low-pass."""
    turn = 2 * math.pi * np.asarray(cutoff_hz) * step_s
    weight: NDArray[np.float64] = turn / (turn + 1)
    return weight


class Follower:
    """Find the one person of each frame, in a clip by one look where the person was before.

    A still, the first frame of a clip and a frame in which the person is lost get the looks of
    the predictor.

    Args:
        predictor: takes whole frames for one person.
    """

    def __init__(self, predictor: PosePredictor) -> None:
        self._predictor = predictor
        self._name: str | None = None
        self._box_px: NDArray[np.float64] | None = None

    def __call__(self, frames: Sequence[Frame]) -> list[list[Person]]:
        """Find the people of the next frames, one list a frame."""
        stills = [frame.picture for frame in frames if frame.time_s is None]
        found = iter(self._predictor.predict_pictures(stills, [None] * len(stills)))
        return [next(found) if f.time_s is None else [self._follow(f)] for f in frames]

    def _follow(self, frame: Frame) -> Person:
        picture = frame.picture
        box_px = self._box_px if frame.name == self._name else None
        for box in (None,) if box_px is None else (box_px[None], None):
            person = self._predictor.predict_pictures([picture], [box])[0][0]
            self._box_px = person.found_box_px(picture.size_px)
            if self._box_px is not None:
                break
        self._name = frame.name
        return replace(person, box_px=None)


class ClipSmoother:
    """Track and smooth people from frame to frame, from scratch in every clip.

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
        """Number and smooth the people of the next frame; those of a still stay as they are.

        The one person of a whole frame is number 1; numbers from a file of boxes are kept.
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
