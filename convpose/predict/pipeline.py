"""Predict from sources to files and the screen, batch by batch, in bounded memory."""

import contextlib
import filecmp
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from convpose.files import keep
from convpose.predict.clips import ClipSmoother, Follower
from convpose.predict.drawing import Drawings, ScreenWindow, draw_people
from convpose.predict.images import Picture
from convpose.predict.people import BoxFile, Person
from convpose.predict.predictor import PosePredictor
from convpose.predict.sources import Failure, Frame, Source, read_frames
from convpose.predict.writers import KeypointFile
from convpose.progress import progress
from convpose.skeleton import Skeleton

HELD_PX = 50_000_000  # a batch ends when its frames hold so many pixels: 150 MB
# Chosen on LSP's validation photographs: of 200 none was taken for several people, of 100 pairs of
# them side by side 88 were. A person who is one of several gets a mean score below `UNSURE` where
# the skeleton is stretched over both.
SURE = 0.65
UNSURE = 0.85
WITHIN = 0.7  # share of the keypoints that lie in the part of the frame that was looked at
NARROWEST = 0.2  # width of a part that is looked at, over the height of the frame


@dataclass(slots=True)
class Summary:
    """Counts and failures of a prediction.

    Attributes:
        inputs: number of files, clips and cameras that were asked for.
        frames: number of stills and of frames of clips that were read.
        people: number of people in all frames.
        failures: inputs that could not be read, or not to their end.
        notes: messages about other inputs.
        crowded: pictures taken for one person that seem to hold several.
    """

    inputs: int
    frames: int = 0
    people: int = 0
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    crowded: list[str] = field(default_factory=list)

    def messages(self) -> list[str]:
        """List the notes, and one about all crowded pictures."""
        if not self.crowded:
            return self.notes
        first, number = self.crowded[0], len(self.crowded)
        which = first if number == 1 else f"{number} of {self.frames} frames, the first is {first}"
        crowd = "more than one person, it seems, but one skeleton for all"
        return [*self.notes, f"{which}: {crowd}; type detector=auto, or boxes=FILE"]


@dataclass(slots=True)
class Outputs:
    """Output sinks of a prediction: keypoint file, drawings, window.

    Attributes:
        skeleton: names the keypoints.
        keypoints: file of all keypoints.
        drawings: files of the drawings, or None.
        window: window that shows the drawings, or None; closing it ends the prediction.
    """

    skeleton: Skeleton
    keypoints: KeypointFile
    drawings: Drawings | None = None
    window: ScreenWindow | None = None

    def write(self, frame: Frame, people: Sequence[Person]) -> bool:
        """Write a frame with its people; return False if the window was closed."""
        self.keypoints.write(frame, people)
        if self.drawings is None and self.window is None:
            return True
        image = draw_people(frame, people, self.skeleton)
        if self.drawings is not None:
            self.drawings.write(frame, image)
        return self.window is None or self.window.show(image, still=frame.time_s is None)

    def close(self, complete: bool) -> str | None:
        """End all files, and remove them if they are not complete.

        Returns:
            Where the other keypoints of an earlier prediction are, None if there were none.
        """
        path = self.keypoints.path
        earlier = None
        if complete and path.is_file():
            names = (path.with_stem(f"{path.stem}_{number}") for number in count(1))
            earlier = next(name for name in names if not name.exists())
            keep(path, earlier)
        with contextlib.ExitStack() as ends:  # one that fails does not keep the others open
            ends.callback(self.keypoints.close, complete)
            if self.drawings is not None:
                ends.callback(self.drawings.close, complete)
            if self.window is not None:
                ends.callback(self.window.close)
        if earlier is None:
            return None
        if path.is_file() and filecmp.cmp(path, earlier, shallow=False):
            earlier.unlink()
            return None
        return f"{earlier}: keeps the keypoints of an earlier prediction; {path.name} is new"


def run(
    sources: Sequence[Source],
    predictor: PosePredictor,
    outputs: Outputs,
    clips: ClipSmoother,
    boxes: BoxFile | None = None,
    max_frames: int | None = None,
) -> Summary:
    """Find the people of all frames of all sources, and write them.

    Args:
        sources: inputs; a broken one becomes a failure in the summary, the others go on.
        predictor: finds the people.
        outputs: sinks; they are closed when this returns or raises.
        clips: tracks and smooths people.
        boxes: boxes of people, instead of the predictor's detector or the whole frame.
        max_frames: number of frames after which to end.

    Raises:
        KeyboardInterrupt: the user interrupted. Not raised for a webcam, which is ended that way.
        ModelError, OSError: the network answers with NaN, or a disk is full. What is done is kept,
            whatever is raised.
    """
    summary = Summary(len(sources))
    summary.notes += [source.note for source in sources if source.note]
    twice = predictor.looks == 2 and predictor.detector is None and boxes is None
    follower = Follower(predictor) if twice else None
    lengths = [source.length for source in sources]
    total = None if None in lengths else sum(length or 0 for length in lengths)
    if max_frames is not None:
        total = max_frames if total is None else min(total, max_frames)
    live = any(source.live for source in sources)
    try:
        found = islice(read_frames(sources), max_frames)
        shown = progress(found, "predicting", total)
        for batch in batches(shown, 1 if live else predictor.batch_size):
            if not _process(batch, predictor, follower, outputs, clips, boxes, summary):
                break
    except KeyboardInterrupt:
        if not live:
            raise
    finally:
        if kept := outputs.close(summary.frames > 0):
            summary.notes.append(kept)
    return summary


def batches(found: Iterable[Frame | Failure], size: int) -> Iterator[list[Frame | Failure]]:
    """Group frames into lists of up to `size`, shorter once they hold `HELD_PX` pixels."""
    batch: list[Frame | Failure] = []
    held = 0
    for item in found:
        batch.append(item)
        if isinstance(item, Frame):
            held += item.picture.image.shape[0] * item.picture.image.shape[1]
        if len(batch) >= size or held >= HELD_PX:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _process(
    batch: Sequence[Frame | Failure],
    predictor: PosePredictor,
    follower: Follower | None,
    outputs: Outputs,
    clips: ClipSmoother,
    boxes: BoxFile | None,
    summary: Summary,
) -> bool:
    read = [item for item in batch if isinstance(item, Frame)]
    summary.failures += [item for item in batch if isinstance(item, Failure)]
    given = [None if boxes is None else boxes.of_frame(frame.name, frame.index) for frame in read]
    if follower is not None:
        everybody = follower(read)
    else:
        places = [None if g is None else g.boxes_px for g in given]
        everybody = predictor.predict_pictures([frame.picture for frame in read], places)
    for frame, people, known in zip(read, everybody, given, strict=True):
        if known is not None:
            facts = zip(people, known.scores, known.tracks, strict=True)
            people = [replace(p, box_score=score, track=number) for p, score, number in facts]
        alone = known is None and follower is not None and frame.time_s is None
        if alone and holds_several(predictor, frame.picture, people[0]):
            summary.crowded.append(frame.name)
        people = clips(frame, people)
        summary.frames += 1
        summary.people += len(people)
        if frame.picture.note:
            summary.notes.append(frame.picture.note)
        if not outputs.write(frame, people):
            return False
    return True


def holds_several(predictor: PosePredictor, picture: Picture, person: Person) -> bool:
    """Cut a frame beside the person, or through one that is unsure; tell if both parts hold one.

    Args:
        predictor: looks at the parts, at most six.
        picture: the frame.
        person: that was found in it.
    """
    width, height = picture.size_px
    left, _, right, _ = person.extent_px.tolist()
    cuts = [left, right] + [(left + right) / 2] * bool(person.scores.mean() < UNSURE)
    cuts = [cut for cut in cuts if min(cut, width - cut) >= NARROWEST * height]
    if not cuts:
        return False
    parts = np.array([part for cut in cuts for part in ((0, cut), (cut, width))])
    boxes = np.insert(parts, 1, 0, axis=1)
    boxes = np.insert(boxes, 3, height, axis=1) - 0.5
    (found,) = predictor.predict_pictures([picture], [boxes])
    one = [_is_within(other, box) for other, box in zip(found, boxes, strict=True)]
    return any(a and b for a, b in zip(one[::2], one[1::2], strict=True))


def _is_within(person: Person, box_px: NDArray[np.float64]) -> bool:
    x = person.keypoints_px[:, 0]
    inside = (x >= box_px[0] - 2) & (x <= box_px[2] + 2)
    return bool(person.scores.mean() >= SURE and inside.mean() >= WITHIN)
