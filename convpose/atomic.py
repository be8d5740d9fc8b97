"""Files that are there as a whole or not at all, whenever the process dies or the disk is full.

A power cut may still lose what the system had not put on the disk yet. Checkpoints have checksums
and a predecessor for that case; to wait for the disk would cost them seconds an epoch.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing beside `path`, that takes its place when all has gone well.

    Raises:
        OSError: the disk is full or not writable; what was there stays, the attempt is removed.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with replacing(path) as file:
        file.write(text.encode())


def duplicate(source: Path, path: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    partial = path.with_name(f"{path.name}.part")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
        partial.replace(path)
    except OSError:
        with source.open("rb") as old, replacing(path) as new:
            shutil.copyfileobj(old, new)
