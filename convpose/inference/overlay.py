"""Overlays: what was drawn on stills and clips, as files ``NAME_pose.EXT``."""

from itertools import count
from pathlib import Path

from PIL import Image as PillowImage

from convpose.geometry import Image
from convpose.inference.output import finish, partial
from convpose.inference.sources import Frame, base_name
from convpose.inference.video import VideoFile

WRITTEN = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}  # others become PNG


class Overlays:
    """Writes into a folder: a picture for a still, an MP4 for a clip.

    Files of an earlier call are replaced; two inputs of one call that share a name get a number.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: set[str] = set()
        self._clip: tuple[str, VideoFile] | None = None

    def write(self, frame: Frame, image: Image) -> None:
        """Add what was drawn on a frame."""
        if self._clip is not None and self._clip[0] != frame.name:
            self.close()
        if frame.time_s is None:
            suffix = Path(base_name(frame.name)).suffix.lower()
            path = self._path(frame.name, suffix if suffix in WRITTEN else ".png")
            PillowImage.fromarray(image).save(partial(path), WRITTEN[path.suffix], quality=92)
            finish(path)
            return
        if self._clip is None:
            height, width = image.shape[:2]
            self._clip = frame.name, VideoFile(self._path(frame.name, ".mp4"), width, height)
        self._clip[1].write(image, frame.time_s)

    def close(self, complete: bool = True) -> None:
        """End the clip that is being written, if one is; it is removed if it is not complete."""
        if self._clip is not None:
            self._clip[1].close(complete)
            self._clip = None

    def _path(self, name: str, suffix: str) -> Path:
        stem = f"{Path(base_name(name)).stem}_pose"
        names = (f"{stem}{'' if n == 1 else f'_{n}'}{suffix}" for n in count(1))
        file = next(name for name in names if name not in self._taken)
        self._taken.add(file)
        return self.folder / file
