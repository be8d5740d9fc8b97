"""Handle the requests of the page: choose a network, predict a picture or a clip.

A visitor draws a box by two clicks on opposite corners, or types its numbers.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from convpose.config.run_dirs import begun
from convpose.config.schema import Looks
from convpose.data.synthetic import SyntheticSource
from convpose.errors import DataError
from convpose.geometry import Image, invert, transform
from convpose.plot.skeletons import COLOURED
from convpose.predict import pipeline
from convpose.predict.clips import ClipSmoother, OneEuro
from convpose.predict.detectors import Detector
from convpose.predict.drawing import Drawings, draw_people
from convpose.predict.images import Limits, Picture, decode
from convpose.predict.people import Person
from convpose.predict.predictor import PosePredictor
from convpose.predict.records import frame_record
from convpose.predict.sources import Frame, Source, read_clip
from convpose.predict.writers import open_keypoints
from convpose.runtime.engines import NAMES
from convpose.runtime.packaged import load_packaged
from convpose.runtime.pytorch import load_run
from convpose.skeleton import Skeleton

Row = list[str | float]
MOST_BOXES = 50  # boxes of a picture
INK = (255, 255, 255), (31, 131, 214)
MOST_ROWS = 5000  # of a clip's table on the page
# painted people on whom network=small is at its best
EXAMPLES, EXAMPLE_PX, EXAMPLE_SEED = (52, 7, 49, 25, 65), 512, 2


class Networks:
    """Loads the networks that the page offers: packaged weights, and runs that have a checkpoint.

    Args:
        runs: folder of studies, in which runs are found.
        first: run or study folder, or name of a packaged network, to offer first.
        detector: finds several people; None without one.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        looks: at one person, see `PosePredictor`.

    Raises:
        ConfigError: `first` is not a run.
    """

    def __init__(
        self,
        runs: Path,
        first: str,
        detector: Detector | None,
        accelerator: str,
        looks: Looks = 2,
    ) -> None:
        self.runs = runs
        self.first = first
        self.detector = detector
        self.accelerator = accelerator
        self.looks = looks
        self._load = lru_cache(maxsize=4)(self._open)
        self._load(first)  # fails now, not when a visitor asks

    def names(self) -> Mapping[str, str]:
        """List the networks to choose from, the first choice first; finds runs added meanwhile.

        Returns:
            Study and run, or the name of a packaged network, to what is loaded: visitors need not
            see where runs lie.
        """
        found = [file.parents[1] for file in self.runs.glob("*/*/checkpoints/best.ckpt")]
        runs = sorted(found, key=begun, reverse=True)
        shown: dict[str, str] = {}
        for folder in (self.first, *NAMES, *map(str, runs)):
            shown.setdefault("/".join(Path(folder).parts[-2:]), folder)
        return shown

    def predictor(self, name: str, several: bool) -> PosePredictor:
        """Load the network of that name, with or without the detector.

        Raises:
            DataError: a name that is not offered; visitors may not open other folders.
            ModelError: weights that cannot be loaded.
        """
        folder = self.names().get(name)
        if folder is None:
            raise DataError(f"{name}: not one of the networks of this page; choose one from it")
        detector = self.detector if several else None
        return PosePredictor(self._load(folder).runtime, detector, looks=self.looks)

    def _open(self, name: str) -> PosePredictor:
        if name in NAMES:
            return PosePredictor(load_packaged(name, self.accelerator))
        return PosePredictor(load_run(name, accelerator=self.accelerator))


def in_words(error: Exception) -> str:
    """Say to a visitor what is wrong, without paths and words of libraries."""
    if not isinstance(error, DataError):
        return "this did not work; the terminal in which the page was started says why"
    text, cause = str(error), error.__cause__
    for reason in (str(cause), getattr(cause, "strerror", None), type(cause).__name__):
        text = text.replace(f" ({reason})", "")
    return text


def example_picture(number: int, folder: Path) -> Path:
    """Paint one of the example people, the next after the last, into a folder."""
    source = SyntheticSource(max(EXAMPLES) + 1, EXAMPLE_PX, EXAMPLE_SEED)
    file = folder / "example.png"
    PillowImage.fromarray(source.read_image(EXAMPLES[number % len(EXAMPLES)])[0]).save(file)
    return file


def predict_picture(
    path: Path, name: str, predictor: PosePredictor, limits: Limits, folder: Path, boxes: str = ""
) -> tuple[Image, list[Row], Path, str]:
    """Find the people of an uploaded picture.

    Args:
        path: of the upload.
        name: as the visitor knows it.
        predictor: finds the people.
        limits: larger pictures are refused.
        folder: for the JSON file.
        boxes: of the people, see `boxes_of`; empty to find them.

    Returns:
        The drawing (H, W, 3), a row for each joint, a JSON file, and a sentence.

    Raises:
        DataError: not a picture, too large, or a box that is none.
    """
    picture = decode(path, name, limits)
    places = [boxes_of(boxes, picture)]
    start = time.perf_counter()
    people = predictor.predict_pictures([picture], places)[0]
    ms = 1000 * (time.perf_counter() - start)
    frame = Frame(name, picture)
    rows = joint_rows(people, predictor.skeleton)
    file = folder / f"{Path(name).stem}_keypoints.json"
    file.write_text(json.dumps(frame_record(frame, people), indent=1), encoding="utf-8")
    found = {0: "nobody found", 1: "1 person"}.get(len(people), f"{len(people)} people")
    sentence = f"{found} in {ms:.0f} ms; {picture.note or ''}".rstrip("; ")
    return draw_people(frame, people, predictor.skeleton), rows, file, sentence


def joint_rows(people: Sequence[Person], skeleton: Skeleton) -> list[Row]:
    """Make a table's rows: person, joint, x and y in pixels, score."""
    return [
        [number, joint.replace("_", " "), round(float(x), 1), round(float(y), 1), round(score, 2)]
        for number, person in enumerate(people, 1)
        for joint, (x, y), score in zip(
            skeleton.keypoints, person.keypoints_px, person.scores.tolist(), strict=True
        )
    ]


class ClipTable:
    """Keeps the first rows of a clip to look at, and writes all to JSON and CSV."""

    def __init__(self, folder: Path, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self.files = [open_keypoints(kind, folder, skeleton) for kind in ("json", "csv")]
        self.path = self.files[0].path
        self.rows: list[Row] = []

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """Write the people of a frame; those with a number keep it."""
        for file in self.files:
            file.write(frame, people)
        if len(self.rows) < MOST_ROWS:
            for place, row in enumerate(joint_rows(people, self.skeleton)):
                track = people[place // len(self.skeleton.keypoints)].track
                self.rows.append([frame.index, track or row[0], *row[1:]])

    def close(self, complete: bool = True) -> None:
        """End both files."""
        for file in self.files:
            file.close(complete)


def predict_clip(
    path: Path,
    name: str,
    predictor: PosePredictor,
    limits: Limits,
    max_frames: int,
    folder: Path,
) -> tuple[Path, list[Row], list[Path], str]:
    """Find the people of an uploaded clip.

    Returns:
        An MP4 with drawings, the first rows of the table, the table as JSON and as CSV, and a
        sentence. All files are in `folder`, which must be empty.

    Raises:
        DataError: not a clip that can be read, or over a limit.
    """

    def frames() -> Iterator[Frame]:
        try:
            yield from read_clip(path, name, limits)
        except DataError as error:
            raise DataError(in_words(error)) from error

    source = Source(name, frames, None, clip=True)
    table = ClipTable(folder, predictor.skeleton)
    outputs = pipeline.Outputs(predictor.skeleton, table, Drawings(folder))
    start = time.perf_counter()
    clips = ClipSmoother(None, OneEuro)
    summary = pipeline.run([source], predictor, outputs, clips, max_frames=max_frames)
    drawn = list(folder.glob("*.mp4"))
    if not drawn or summary.failures:
        raise DataError(summary.failures[0].message if summary.failures else f"{name}: no frame")
    seconds = time.perf_counter() - start
    sentence = f"{summary.frames} frames, {summary.frames / seconds:.0f} a second"
    if len(table.rows) >= MOST_ROWS:
        sentence += "; the table below ends early, the files have all"
    return drawn[0], table.rows, [file.path for file in table.files], sentence


def add_corner(text: str, place: Any) -> str:
    """Add a clicked place to the boxes as they are shown: a box a line, ``x0, y0, x1, y1``."""
    try:
        x, y = (round(float(value)) for value in place)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError("not a place in the picture: click into it") from error
    return f"{text}{', ' if waits(text) else chr(10)}{x}, {y}".strip()


def waits(text: str) -> bool:
    """Tell if the last box waits for its second corner."""
    return len(_numbers(text.rpartition("\n")[2])) == 2


def boxes_of(text: str, picture: Picture) -> NDArray[np.float64] | None:
    """Read the boxes of a picture (N, 4) in its pixels; None where there are none.

    Raises:
        DataError: a line without four numbers, a box without an area in the picture, or too many.
    """
    lines = [numbers for line in text.splitlines() if (numbers := _numbers(line))]
    if not lines:
        return None
    if len(lines) > MOST_BOXES:
        raise DataError(f"{len(lines)} boxes: at most {MOST_BOXES}")
    for numbers in lines:
        if len(numbers) == 2:
            raise DataError("a box has one corner: click the opposite one, or remove the boxes")
        if len(numbers) != 4:
            raise DataError("a box is four numbers, x0, y0, x1, y1: click two opposite corners")
    corners = np.array(lines).reshape(-1, 2, 2).clip(0, picture.size_px) - 0.5
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    if (boxes[:, 2:] - boxes[:, :2] < 2).any():
        raise DataError("a box without an area: click two opposite corners, inside the picture")
    return boxes


def draw_boxes(text: str, picture: Picture) -> Image:
    """Draw the boxes, and a corner that waits for its opposite, on the picture."""
    canvas = picture.image.copy()
    width = max(2, round(0.5 * COLOURED.width_px(canvas)))
    from_px = invert(picture.to_px)
    for line in text.splitlines()[: MOST_BOXES + 1]:
        corners = np.array(_numbers(line)[:4]).clip(0, picture.size_px[0] + picture.size_px[1])
        ends = np.rint(transform(from_px, corners[: len(corners) // 2 * 2].reshape(-1, 2)))
        places = [(int(x), int(y)) for x, y in ends]
        for colour, more in zip(INK, (width, 0), strict=True):
            if len(places) == 2:
                cv2.rectangle(canvas, places[0], places[1], colour, width + more)
            elif places:
                cross = cv2.MARKER_CROSS
                cv2.drawMarker(canvas, places[0], colour, cross, 12 * width, width + more)
    return canvas


def _numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d{1,9}(?:\.\d*)?", line)]
