"""One interface to read a zip file or the same files unpacked in a folder.

A zip is read in place: nothing is written to disk, so nothing has to be trusted with a path or
cleaned up. All members are checked when the archive is opened, before the first one is read.
"""

import logging
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from convpose.errors import DataError

log = logging.getLogger(__name__)
MAX_FILE_BYTES = 64 * 2**20  # one photograph; the largest of LSPET has 2 MB
MAX_ANNOTATION_BYTES = 2**30  # one file of annotations; COCO's largest has 240 MB
MAX_RATIO = 200  # unpacked to packed: photographs have 1, text 10, MPII's .mat 20, a bomb 1000
HARMLESS_BYTES = 2**20  # below this size any ratio is allowed

_JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")  # what operating systems add to archives
_SIGNATURES = (
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)


class Archive:
    """Files of a zip or of a folder by their path inside it, with ``/`` between the parts.

    What begins with a dot is passed over: companions of macOS, Jupyter and git (``._a.csv``).
    If everything lies in one top folder (``lspet_dataset/images/…``), that folder is left out of
    the names. The object can be pickled, and worker processes may share it: each process opens
    the zip anew, because a file position that is shared over a fork would mix up their reads.

    Args:
        path: a zip file or a folder.

    Raises:
        DataError: no such file, not a complete zip, or a member that must not be read (path
            traversal, absolute name, link, encrypted, twice the same name). A member that is too
            large is refused when it is opened: COCO's zips have some that nobody reads.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._zip: tuple[int, zipfile.ZipFile] | None = None
        self._unpacked = self.path.is_dir()
        if self._unpacked:
            members = [p.relative_to(self.path).as_posix() for p in self.path.rglob("*")]
            files = {name: name for name in members if (self.path / name).is_file()}
        elif self.path.is_file():
            files = _check_members(self._open_zip().infolist(), self.path)
        else:
            raise DataError(
                f"{self.path}: no such file or folder; type data.source= with the path of a zip "
                "or of the folder it was unpacked into"
            )
        self._members = _without_top_folder(files)

    def names(self) -> list[str]:
        """Return the sorted names of all files."""
        return sorted(self._members)

    def open(self, name: str, limit: int = MAX_FILE_BYTES) -> IO[bytes]:
        """Open a file; DataError if there is none, or a zip's unpacks to more than `limit`."""
        if name not in self._members:
            raise DataError(f"{self.path}: {name} is missing; unpack or download the archive again")
        member = self._members[name]
        try:
            if self._unpacked:
                return (self.path / member).open("rb")
            _check_size(self._open_zip().getinfo(member), limit, self.path)
            return self._open_zip().open(member)
        except _READ_ERRORS as error:
            raise self._unreadable(name, error) from error

    def read(self, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """Read a whole file; DataError if it is missing, damaged (checksum) or too large."""
        try:
            with self.open(name, limit) as file:
                content = file.read(limit + 1)
        except _READ_ERRORS as error:
            raise self._unreadable(name, error) from error
        if len(content) > limit:
            raise DataError(
                f"{self.path}: {name} is larger than {limit // 2**20} MiB; no file of the data set "
                "is, use the official archive"
            )
        return content

    def _open_zip(self) -> zipfile.ZipFile:
        if self._zip is None or self._zip[0] != os.getpid():
            problem = zip_problem(self.path)
            if problem and not self.path.exists():
                raise DataError(f"{self.path} {_VANISHED}")
            if problem:
                raise DataError(
                    f"{self.path} is {problem}; type data.source= with the path of a complete "
                    "archive, of its unpacked folder or of an annotation file"
                )
            self._zip = os.getpid(), zipfile.ZipFile(self.path)
        return self._zip[1]

    def _unreadable(self, name: str, error: Exception) -> DataError:
        if isinstance(error, FileNotFoundError):
            return DataError(f"{self.path}: {name} {_VANISHED}")
        if isinstance(error, NotImplementedError):  # Windows packs more than 2 GB as Deflate64
            return DataError(
                f"{self.path}: {name} is packed in a way that Python cannot read; unpack the zip "
                "yourself and type data.source= with the folder"
            )
        return DataError(
            f"{self.path}: {name} cannot be read ({error}); the file is damaged, unpack or "
            "download the archive again"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_zip": None}


class ZipFolder(Archive):
    """Files of a folder, and of the zips in it, each as if it were a folder of its name.

    So COCO is read as it is published, ``train2017.zip`` beside ``annotations``. A zip beside its
    folder has been unpacked, and one that cannot be read is passed over with a warning.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._zips: dict[str, Archive] = {}
        for file in sorted(self.path.glob("*.zip")):
            if not (self.path / file.stem).is_dir():
                try:
                    self._zips[file.stem] = Archive(file)
                except DataError as error:
                    log.warning("%s; it is passed over", error)
        self.packed = {f"{stem}/{n}": n for stem, zip in self._zips.items() for n in zip.names()}
        self._members |= self.packed

    def open(self, name: str, limit: int = MAX_FILE_BYTES) -> IO[bytes]:
        """Open a file of the folder or of a zip; see `Archive.open`."""
        if name in self.packed:
            return self._zips[name.partition("/")[0]].open(self.packed[name], limit)
        return super().open(name, limit)


def open_archive(path: str | Path) -> Archive:
    """Open a zip, or a folder with the zips in it."""
    return ZipFolder(path) if Path(path).is_dir() else Archive(path)


_VANISHED = (
    "has vanished; put it back, then the same command with ckpt_path=last continues a training"
)
# raised by zipfile and the file system on damaged, truncated or unsupported content.
_READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError)


def zip_problem(path: Path) -> str | None:
    """Say what a file is ("an HTML page, not a zip"); return None if it is a complete zip.

    Only the first and last bytes are read; damage inside shows when a member is read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
        with zipfile.ZipFile(path):
            return None
    except zipfile.BadZipFile:
        size = path.stat().st_size
    except OSError as error:
        return f"not readable ({error.strerror})"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "an empty file, not a zip"
    if text.startswith((b"<!doctype html", b"<html")) or b"<html" in text:
        return "an HTML page, not a zip (a dead link or a login page was saved under this name)"
    if text.startswith((b"<?xml", b"{")):
        return "an XML or JSON text, not a zip (most likely a server's error message)"
    for signature, description in _SIGNATURES:
        if head.startswith(signature):
            return f"{description}, not a zip"
    if head[257:262] == b"ustar":
        return "a tar archive, not a zip"
    if head.startswith(b"PK"):
        return f"a truncated zip (its end is missing after {size:,} bytes)"
    return "not a zip"


def _check_members(members: list[zipfile.ZipInfo], path: Path) -> dict[str, str]:
    """Map names with ``/`` to names in the zip; DataError for a member that must not be read."""
    files: dict[str, str] = {}
    for member in members:
        name = _own_name(member).replace("\\", "/")  # as some Windows programs write it
        kind = stat.S_IFMT(member.external_attr >> 16)
        if ".." in name.split("/"):
            problem = "points outside the archive (path traversal)"
        elif name.startswith("/") or name[1:2] == ":":
            problem = "has an absolute name"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            problem = "is a link or a device, not a file"
        elif member.flag_bits & 0x1:
            problem = "is encrypted"
        elif name in files:
            problem = "is there twice"
        else:
            if not member.is_dir():
                files[name] = member.filename
            continue
        raise DataError(
            f"{path}: member {member.filename!r} {problem}, so nothing was read; use the official "
            "archive, or unpack this one yourself and type data.source= with the folder"
        )
    return files


def _check_size(member: zipfile.ZipInfo, limit: int, path: Path) -> None:
    """Refuse a member that unpacks to more than photographs and texts do."""
    size, packed = member.file_size, member.compress_size
    if size > limit or size > max(HARMLESS_BYTES, MAX_RATIO * packed):
        raise DataError(
            f"{path}: {member.filename} unpacks from {packed:,} to {size:,} bytes (allowed: "
            f"{limit:,} bytes, ratio {MAX_RATIO}), so it was not read; use the official archive, "
            "or unpack this one yourself and type data.source= with the folder"
        )


def _own_name(member: zipfile.ZipInfo) -> str:
    """Read a name in UTF-8 also where its flag is missing, as a Mac writes it."""
    if member.flag_bits & 0x800:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def _without_top_folder(files: dict[str, str]) -> dict[str, str]:
    """Drop hidden and junk files, then the one folder that holds everything, if there is one."""
    files = {
        name: member
        for name, member in files.items()
        if not any(part in _JUNK or part[:1] == "." for part in name.split("/"))
    }
    tops = {name.partition("/")[0] for name in files}
    if len(tops) == 1 and all("/" in name for name in files):
        return {name.partition("/")[2]: member for name, member in files.items()}
    return files
