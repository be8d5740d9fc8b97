"""What the page answers: a visitor's file in, a drawing, a table and a JSON file out."""

import contextlib
import json
import shutil
import tempfile
import time
from pathlib import Path

from PIL import Image as PillowImage

from convpose.errors import DataError
from convpose.geometry import Image
from convpose.predict import pipeline
from convpose.predict.clips import ClipSmoother, OneEuro
from convpose.predict.drawing import Drawings, draw_people
from convpose.predict.images import decode
from convpose.predict.predictor import PosePredictor
from convpose.predict.sources import Frame, Source, open_sources
from convpose.predict.writers import frame_record, open_keypoints

Row = list[str | float]
KEPT_S = 3600  # time to download an answer's files


class AnswerFolders:
    """A new folder for each answer; what is older than `KEPT_S` goes, and all with the process."""

    def __init__(self) -> None:
        self._root = tempfile.TemporaryDirectory(prefix="convpose-", ignore_cleanup_errors=True)

    def new(self) -> Path:
        """An empty folder."""
        root = Path(self._root.name)
        for old in root.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another visitor's answer was faster
                if old.stat().st_mtime < time.time() - KEPT_S:
                    shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=root))


def of_picture(
    path: Path, name: str, predictor: PosePredictor, max_megapixels: float, folder: Path
) -> tuple[Image, list[Row], Path, str]:
    """The people of an uploaded picture.

    Args:
        path: of the upload.
        name: as the visitor knows it.
        predictor: finds the people.
        max_megapixels: refused above it.
        folder: of the JSON file.

    Returns:
        The drawing (H, W, 3), a row for each joint, a JSON file, and a sentence.

    Raises:
        DataError: no picture, or too large a one.
    """
    check_size(path, name, max_megapixels)
    picture = decode(path.read_bytes(), name)
    start = time.perf_counter()
    people = predictor.predict_pictures([picture], [None])[0]
    ms = 1000 * (time.perf_counter() - start)
    frame = Frame(name, picture)
    rows: list[Row] = [
        [number, joint.replace("_", " "), round(float(x), 1), round(float(y), 1), round(score, 2)]
        for number, person in enumerate(people, 1)
        for joint, (x, y), score in zip(
            predictor.skeleton.keypoints, person.keypoints_px, person.scores.tolist(), strict=True
        )
    ]
    file = folder / f"{Path(name).stem}_keypoints.json"
    file.write_text(json.dumps(frame_record(frame, people), indent=1), encoding="utf-8")
    found = "nobody found" if not people else f"{len(people)} person{'s' * (len(people) > 1)}"
    sentence = f"{found} in {ms:.0f} ms; {picture.note or ''}".rstrip("; ")
    return draw_people(frame, people, predictor.skeleton), rows, file, sentence


def of_clip(
    path: Path, name: str, predictor: PosePredictor, max_frames: int, folder: Path
) -> tuple[Path, Path, str]:
    """The people of an uploaded clip: an MP4 with drawings, a JSON file, and a sentence.

    The two files are in ``folder``, which is empty before.

    Raises:
        DataError: no clip that can be read.
    """
    source: Source = open_sources(str(path))[0]
    if not source.clip:
        raise DataError(f"{name}: not a clip that can be read; upload an MP4, MOV or WebM")
    outputs = pipeline.Outputs(
        predictor.skeleton,
        open_keypoints("json", folder, predictor.skeleton),
        Drawings(folder),
    )
    start = time.perf_counter()
    clips = ClipSmoother(None, OneEuro)
    summary = pipeline.run([source], predictor, outputs, clips, max_frames=max_frames)
    drawn = list(folder.glob("*.mp4"))
    if not drawn or summary.failures:
        reason = summary.failures[0].message if summary.failures else "it has no frame"
        raise DataError(f"{name}: not a clip that can be read ({reason.replace(str(path), name)})")
    seconds = time.perf_counter() - start
    sentence = f"{summary.frames} frames, {summary.frames / seconds:.0f} a second"
    return drawn[0], folder / "keypoints.json", sentence


def check_size(path: Path, name: str, max_megapixels: float) -> None:
    """Refuse a picture by its header, before its pixels are decoded.

    Raises:
        DataError: more pixels than allowed. What is no picture is left to `decode`.
    """
    try:
        with PillowImage.open(path) as file:
            width, height = file.size
    except Exception:  # of any kind; `decode` names it
        return
    if width * height > max_megapixels * 1e6:
        raise DataError(
            f"{name}: {width * height / 1e6:.0f} megapixels; this page takes up to "
            f"{max_megapixels:g}, save it smaller"
        )
