"""Pipeline: from sources to files and the screen, batch after batch, with bounded memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from convpose.predict.boxes import Boxes
from convpose.predict.clips import ClipSmoother
from convpose.predict.drawing import Drawings, ScreenWindow, draw_people
from convpose.predict.predictor import Person, PosePredictor
from convpose.predict.sources import Failure, Frame, Source, frames
from convpose.predict.writers import KeypointFile
from convpose.progress import progress
from convpose.skeleton import Skeleton

HELD_PX = 50_000_000  # frames that wait for a full batch: 150 MB at most, or a single frame


@dataclass(slots=True)
class Summary:
    """What came of a prediction.

    Attributes:
        inputs: files, clips, cameras that were asked for.
        frames: stills and frames of clips that were looked at.
        people: found in them, a person of a clip as often as in frames.
        failures: inputs that could not be read, or not to their end.
        notes: what to know about others.
    """

    inputs: int
    frames: int = 0
    people: int = 0
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Outputs:
    """Where people go.

    Attributes:
        skeleton: of the people.
        keypoints: the file of all keypoints.
        drawings: writes drawings, or None.
        window: shows them, or None; when it is closed the prediction ends.
    """

    skeleton: Skeleton
    keypoints: KeypointFile
    drawings: Drawings | None = None
    window: ScreenWindow | None = None

    def write(self, frame: Frame, people: Sequence[Person]) -> bool:
        """Add a frame; False once nobody looks any more."""
        self.keypoints.write(frame, people)
        if self.drawings is None and self.window is None:
            return True
        image = draw_people(frame, people, self.skeleton)
        if self.drawings is not None:
            self.drawings.write(frame, image)
        return self.window is None or self.window.show(image, still=frame.time_s is None)

    def close(self, complete: bool) -> None:
        """End all files; those that are not complete are removed."""
        self.keypoints.close(complete)
        if self.drawings is not None:
            self.drawings.close(complete)
        if self.window is not None:
            self.window.close()


def run(
    sources: Sequence[Source],
    predictor: PosePredictor,
    outputs: Outputs,
    clips: ClipSmoother,
    boxes: Boxes | None = None,
    max_frames: int | None = None,
) -> Summary:
    """Look at all frames of all sources.

    Args:
        sources: what to look at; a broken one is a failure in the summary, the others go on.
        predictor: finds the people.
        outputs: get them; ended when this returns or raises.
        clips: tracks and smooths them.
        boxes: of people, instead of the predictor's detector or the whole frame.
        max_frames: end after so many frames.

    Raises:
        KeyboardInterrupt: the user did not want to wait; what is done is kept. It is how a webcam
            is ended, and not raised there.
    """
    summary, complete = Summary(len(sources)), False
    lengths = [source.length for source in sources]
    total = None if None in lengths else sum(length or 0 for length in lengths)
    if max_frames is not None:
        total = max_frames if total is None else min(total, max_frames)
    live = any(source.live for source in sources)
    try:
        found = islice(frames(sources), max_frames)
        shown = progress(found, "predicting", total)
        for batch in batches(shown, 1 if live else predictor.batch_size):
            if not _process(batch, predictor, outputs, clips, boxes, summary):
                break
        complete = True
    except KeyboardInterrupt:
        complete = True
        if not live:
            raise
    finally:
        outputs.close(complete and summary.frames > 0)
    return summary


def batches(found: Iterable[Frame | Failure], size: int) -> Iterator[list[Frame | Failure]]:
    """Lists of up to `size` frames that hold `HELD_PX` pixels, or one frame more than that."""
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
    outputs: Outputs,
    clips: ClipSmoother,
    boxes: Boxes | None,
    summary: Summary,
) -> bool:
    looked = [item for item in batch if isinstance(item, Frame)]
    summary.failures += [item for item in batch if isinstance(item, Failure)]
    given = [None if boxes is None else boxes.of(frame.name, frame.index) for frame in looked]
    pictures = [frame.picture for frame in looked]
    everybody = predictor.predict_pictures(
        pictures, [None if g is None else g.boxes_px for g in given]
    )
    for frame, people, known in zip(looked, everybody, given, strict=True):
        if known is not None:
            facts = zip(people, known.scores, known.tracks, strict=True)
            people = [replace(p, box_score=score, track=number) for p, score, number in facts]
        people = clips(frame, people)
        summary.frames += 1
        summary.people += len(people)
        if frame.picture.note:
            summary.notes.append(frame.picture.note)
        if not outputs.write(frame, people):
            return False
    return True
