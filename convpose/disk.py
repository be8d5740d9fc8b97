"""What a disk that cannot be written to means for the user."""

import errno
import os
from pathlib import Path

from convpose.errors import ConfigError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOCKED = (errno.EROFS, errno.EACCES, errno.EPERM)


def check_output(folder: Path) -> None:
    """Refuse an ``output`` that could not be made or written to; nothing is made.

    Raises:
        ConfigError: a file is in its way, or a folder that is not ours.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = os.strerror(errno.EACCES if there.is_dir() else errno.ENOTDIR)
        raise ConfigError(f"output={folder}: cannot be written ({reason}); type output=FOLDER")


def disk_trouble(error: BaseException, folder: Path | None = None) -> str | None:
    """The message for an error of a full or locked disk; None for every other error.

    Args:
        error: that was raised.
        folder: that the application writes to, if there is one already.
    """
    if not isinstance(error, OSError) or error.errno not in (*FULL, *LOCKED):
        return None
    where = error.filename or folder or "the disk"
    if error.errno in FULL:
        message = f"{where}: no space left; free some, or type paths.runs=FOLDER on another disk"
    else:
        reason = (error.strerror or str(error)).lower()
        message = f"{where}: {reason}; type paths.runs=FOLDER, one that you can write to"
    if folder is not None and (folder / "checkpoints" / "last.ckpt").is_file():
        message += f". The same command with ckpt_path=last continues {folder} from its last epoch"
    return message
