"""Handle the requests of the page: choose a network, predict a picture or a clip."""

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image as PillowImage

from convpose.app.boxes import boxes_of
from convpose.config.run_dirs import begun
from convpose.config.schema import Looks
from convpose.data.synthetic import SyntheticSource
from convpose.errors import DataError
from convpose.files import remove_left
from convpose.geometry import Image
from convpose.predict import pipeline
from convpose.predict.clips import ClipSmoother, OneEuro
from convpose.predict.detectors import Detector
from convpose.predict.drawing import Drawings, draw_people
from convpose.predict.images import decode
from convpose.predict.limits import Limits
from convpose.predict.predictor import Person, PosePredictor
from convpose.predict.records import frame_record
from convpose.predict.sources import Frame, Source, read_clip
from convpose.predict.writers import open_keypoints
from convpose.runtime.engines import NAMES
from convpose.runtime.load import load_run
from convpose.runtime.packaged import load_packaged
from convpose.skeleton import Skeleton

Row = list[str | float]
KEEP_S = 3600  # how long a visitor can download the files of a result
SWEEP_S = 60
PREFIX = "convpose-page-"
MOST_ROWS = 5000  # of a clip's table on the page
# painted people on whom network=small is at its best
EXAMPLES, EXAMPLE_PX, EXAMPLE_SEED = (52, 29, 49, 76, 25, 65), 512, 2


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


@contextlib.contextmanager
def visitor_files() -> Iterator[Path]:
    """Keep uploads and results in one folder: a file for `KEEP_S`, all until the end.

    A page that was killed leaves its folder to the next page, which removes it by its age.
    """
    remove_left(Path(tempfile.gettempdir()), f"{PREFIX}*")
    ended, before = threading.Event(), os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()

        def sweep() -> None:
            while not ended.wait(SWEEP_S):
                remove_old(folder)

        sweeper = threading.Thread(target=sweep, daemon=True)
        sweeper.start()
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        try:
            yield folder
        finally:
            ended.set()
            sweeper.join()
            os.environ.pop("GRADIO_TEMP_DIR")
            if before is not None:
                os.environ["GRADIO_TEMP_DIR"] = before


def remove_old(folder: Path) -> None:
    """Remove the files below a folder that came more than `KEEP_S` ago, and note it is in use."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before it
        with contextlib.suppress(OSError):  # a folder that holds something
            if path.lstat().st_ctime < time.time() - KEEP_S:  # copies take their mtime along
                path.rmdir() if path.is_dir() else path.unlink()
    os.utime(folder)


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
        boxes: of the people, see `convpose.app.boxes`; empty to find them.

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
