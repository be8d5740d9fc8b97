"""Find ``conf/``, write files as a whole or not at all, and explain a disk that refuses."""

import contextlib
import errno
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from convpose.errors import ConfigError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LONGEST = 255  # bytes of a file name
LEFT_S = 3600  # a temporary file that has not changed for so long is nobody's any more
LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)


def conf_folder() -> Path:
    """Find ``conf/``: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).parent
    beside = package.parent / "conf"
    return beside if (beside / "train.yaml").is_file() else package / "conf"


def shown(path: Path | str) -> str:
    """Write a path as one would type it: from the working folder, where that is shorter."""
    up, back, down = str(path).rpartition("../")  # links are followed where .. leads out of one
    full = os.path.abspath(Path(os.path.realpath(up + back), down))  # noqa: PTH100
    try:
        return min(os.path.relpath(full), full, key=len)
    except ValueError:  # on another drive of Windows
        return full


def partial(path: Path) -> Path:
    """Make the folder of a file, and name the path at which the file grows until it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = os.fsencode(path.name)
    short = len(name) + len(".part") <= LONGEST
    return path.with_name(f"{path.name if short else f'{zlib.crc32(name):08x}'}.part")


def finish(path: Path, complete: bool = True) -> None:
    """Move the file that grew at `partial` to its place, or remove it if it is not complete."""
    if complete:
        partial(path).replace(path)
    else:
        partial(path).unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path, synced: bool = False) -> Iterator[BinaryIO]:
    """Open a new file for writing that takes the place of `path` when all has gone well.

    Args:
        path: of the file.
        synced: wait until it is on the disk, so that it survives a power cut.

    Raises:
        OSError: the disk is full or not writable; what was there stays, the attempt is removed.
    """
    try:
        with partial(path).open("wb") as file:
            yield file
            if synced:
                file.flush()
                os.fsync(file.fileno())
        finish(path)
        if synced:
            sync_names(path.parent)
    except BaseException:
        finish(path, complete=False)
        raise


def write(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with replacing(path) as file:
        file.write(text.encode())


def remove_left(folder: Path, pattern: str) -> None:
    """Remove what killed processes have left: files and folders unchanged for `LEFT_S`."""
    for left in folder.glob(pattern):
        with contextlib.suppress(OSError):  # of another user, or another process removes it
            if left.stat().st_mtime < time.time() - LEFT_S:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def sync_names(folder: Path) -> None:
    """Wait until the names of a folder's files are on the disk."""
    if os.name == "nt":
        return
    names = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(names)
    finally:
        os.close(names)


def duplicate(source: Path, path: Path) -> None:
    """Copy a file; a second name for it would be lost with the first where the disk fails."""
    with source.open("rb") as old, replacing(path, synced=True) as new:
        shutil.copyfileobj(old, new, 2**20)


def keep(source: Path, path: Path) -> None:
    """Keep a file that is replaced next under another name; copy it where links are unknown."""
    finish(path, complete=False)  # a process that was killed may have left one
    try:
        os.link(source, partial(path))
        finish(path)
    except OSError:
        duplicate(source, path)


def check_output(path: Path, key: str = "output", file: bool = False) -> None:
    """Refuse an output that could not be made or written to; nothing is made.

    Args:
        path: of a folder, or of a file.
        key: that named it.
        file: whether a file is wanted.

    Raises:
        ConfigError: something else is in its way, or a folder that is not ours.
    """
    folder = path.parent if file else path
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    problem = None
    if not there.is_dir():
        problem = errno.ENOTDIR
    elif file and path.is_dir():
        problem = errno.EISDIR
    elif not os.access(there, os.W_OK | os.X_OK):
        problem = errno.EACCES
    if problem is not None:
        reason, wanted = os.strerror(problem), "FILE" if file else "FOLDER"
        raise ConfigError(f"{key}={path}: cannot be written ({reason}); type {key}={wanted}")


def disk_trouble(
    error: BaseException, folder: Path | None = None, key: str = "paths.runs=FOLDER"
) -> str | None:
    """Write the message for an error of a full or locked disk; None for every other error.

    Args:
        error: that was raised.
        folder: that the application writes to, if there is one already.
        key: to type for another one.
    """
    if not isinstance(error, OSError) or error.errno not in (*FULL, *LOCKED):
        return None
    where = error.filename or folder or "the disk"
    if error.errno == errno.EFBIG:
        message = f"{where}: a file would grow over its limit (ulimit -f); raise it, or write less"
    elif error.errno in FULL:
        message = f"{where}: no space left; free some, or type {key} on another disk"
    else:
        reason = (error.strerror or str(error)).lower()
        message = f"{where}: {reason}; type {key}, one that you can write to"
    if folder is not None and (folder / "checkpoints" / "last.ckpt").is_file():
        message += f". The same command with ckpt_path=last continues {folder} from its last epoch"
    return message
