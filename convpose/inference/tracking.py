"""Tracking: the same number for the same person from frame to frame."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from convpose.errors import ConfigError
from convpose.extras import require
from convpose.inference.people import Person


class Tracker(Protocol):
    """Numbers the people of one clip."""

    def __call__(self, people: Sequence[Person], time_s: float) -> list[Person]:
        """The people of the next frame with their `Person.track`."""
        ...


class ByteTrack:
    """ByteTrack of the package ``trackers``: boxes matched by overlap with where they should be.

    People who were seen with certainty get a number from their second frame on and keep it; unsure
    boxes only carry a number on. Source: Zhang et al., ByteTrack, ECCV 2022.

    Args:
        sure: box score from which a person is new and not a doubt.
        overlap: least intersection over union of a box with where its person should be.
        lost_s: how long a number waits for its person to come back.

    Raises:
        ConfigError: a value out of its range, or the package is not installed.
    """

    def __init__(self, sure: float = 0.5, overlap: float = 0.1, lost_s: float = 1.0) -> None:
        if not (0 <= sure <= 1 and 0 < overlap < 1 and lost_s >= 0):
            raise ConfigError(
                f"tracker.sure={sure} tracker.overlap={overlap} tracker.lost_s={lost_s}: expected "
                "0 to 1, between 0 and 1, and at least 0"
            )
        require("track", "trackers", "supervision")
        import supervision
        from trackers import ByteTrackTracker

        self._to_detections: Any = supervision.Detections
        self._tracker: Any = ByteTrackTracker(
            lost_track_buffer=round(30 * lost_s),  # in frames of 30 a second, whatever the clip has
            track_activation_threshold=sure,
            high_conf_det_threshold=sure,
            minimum_iou_threshold=overlap,
            minimum_consecutive_frames=1,
        )
        self.sure = sure

    def __call__(self, people: Sequence[Person], time_s: float) -> list[Person]:
        """See `Tracker`; an unsure box that continues nobody is left out."""
        found = self._to_detections(
            xyxy=np.array([person.extent_px for person in people]).reshape(-1, 4),
            confidence=np.array([person.box_score for person in people], dtype=np.float64),
            data={"person": np.arange(len(people))},
        )
        tracked = self._tracker.update(found, timestamp=time_s)
        numbers = dict(zip(tracked.data.get("person", ()), tracked.tracker_id, strict=True))
        return [
            replace(person, track=int(numbers[i]) + 1 if numbers.get(i, -1) >= 0 else None)
            for i, person in enumerate(people)
            if numbers.get(i, -1) >= 0 or person.box_score >= self.sure
        ]
