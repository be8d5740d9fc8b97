"""Fetch a zip from a list of mirrors: resumed, retried, checked, and never half there.

Bytes go to ``<target>.part``; the target appears by one rename after the check. What is left of an
interrupted download is resumed, also from another mirror: the check at the end (SHA-256 if it is
known, else the checksum of every member) decides whether the pieces belong together.
"""

import contextlib
import hashlib
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from urllib3.exceptions import HTTPError

from convpose.data.reading.archive import zip_problem
from convpose.errors import DataError

CHUNK_BYTES = 2**18
MIN_BYTES_PER_S = 1024  # slower than this is called stalled
TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)


class _MirrorError(Exception):
    """Why a mirror did not deliver; `again` if another attempt may help."""

    def __init__(self, reason: str, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def download(
    mirrors: Sequence[str],
    target: Path,
    sha256: str | None = None,
    *,
    timeout_s: float = 30.0,
    attempts: int = 3,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Download a zip from the first mirror that delivers it.

    Args:
        mirrors: addresses, tried in turn.
        target: the file to write; its folder is made.
        sha256: expected hash in hexadecimal, if one is known.
        timeout_s: longest wait for a connection and for the next byte; over as many seconds, at
            least 1 KiB a second has to arrive.
        attempts: per mirror, with a pause of 1, 2, 4, … seconds between them.
        sleep: makes the pause.

    Returns:
        `target`.

    Raises:
        DataError: every mirror failed (each is listed with its reason), or the target's folder
            cannot be written.
    """
    part = target.with_name(target.name + ".part")
    made = not target.parent.exists()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.open("ab").close()
    except OSError as error:
        raise _unwritable(part, error) from error
    reasons = []
    console = Console(stderr=True)
    for url in mirrors:
        fetch = _Fetch(url, part, sha256, timeout_s, console)
        reason = fetch.until_complete(attempts, sleep)
        if reason is None:
            part.replace(target)
            return target
        console.print(f"{url}: {reason}", markup=False, highlight=False, soft_wrap=True)
        reasons.append(f"\n  {url}: {reason}")
    if part.stat().st_size == 0:
        part.unlink()
        if made:  # perhaps by a misspelt name
            with contextlib.suppress(OSError):
                target.parent.rmdir()
    tried = "every mirror failed:" + "".join(reasons) if reasons else "no mirror is configured"
    raise DataError(
        f"{target.name} cannot be downloaded; {tried}\nGet the file in another way, then type "
        f"data.source=/path/to/{target.name} or put it at {target}"
    )


class _Fetch:
    """One mirror and the partial file, with what is known about it between two attempts."""

    def __init__(
        self, url: str, part: Path, sha256: str | None, timeout_s: float, console: Console
    ) -> None:
        self.url, self.part, self.sha256 = url, part, sha256
        self.timeout_s, self.console = timeout_s, console
        self.validator: str | None = None  # ETag or date of what this mirror sent first

    def until_complete(self, attempts: int, sleep: Callable[[float], None]) -> str | None:
        """Try a few times; None when the partial file is complete and right, else the reason."""
        reason = "not tried (attempts is 0)"
        for attempt in range(attempts):
            if attempt:
                sleep(2.0 ** (attempt - 1))
            resumed = self.part.stat().st_size > 0
            try:
                self._transfer()
                self._check()
                return None
            except _MirrorError as error:
                reason = str(error)
                # Pieces of different files do not fit together: try once more from the start.
                if not (error.again or (resumed and self.part.stat().st_size == 0)):
                    break
        return reason

    def _transfer(self) -> None:
        start = self.part.stat().st_size
        headers = {"Accept-Encoding": "identity"}  # a compressed transfer cannot be resumed
        if start:
            headers["Range"] = f"bytes={start}-"
            if self.validator:
                headers["If-Range"] = self.validator
        try:
            with requests.get(
                self.url, headers=headers, stream=True, timeout=self.timeout_s
            ) as response:
                if response.status_code == 416:  # nothing after `start`: complete, or too long
                    return
                self._check_answer(response)
                if response.status_code == 206:
                    first = response.headers.get("Content-Range", "").partition("-")[0]
                    if first != f"bytes {start}":
                        self._drop()
                        raise _MirrorError(f"asked for bytes from {start}, sent '{first}'", True)
                else:
                    start = 0  # the server ignores ranges, or its file has changed
                self._receive(response, start)
        except requests.ConnectTimeout as error:
            raise _MirrorError(f"no connection within {self.timeout_s:g} s", True) from error
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            raise _MirrorError(self._broken(error), True) from error
        except requests.RequestException as error:  # no such scheme, too many redirects, …
            raise _MirrorError(str(error), False) from error

    def _check_answer(self, response: requests.Response) -> None:
        status = response.status_code
        if status not in (200, 206):
            reason = f"HTTP {status} {response.reason}"
            raise _MirrorError(reason, again=status in TRANSIENT_STATUS)
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _MirrorError("answers with an HTML page, not a zip (a dead link?)", again=False)
        tag = response.headers.get("ETag", "")
        strong = tag if not tag.startswith("W/") else ""  # a weak tag must not be used for ranges
        self.validator = strong or response.headers.get("Last-Modified")

    def _receive(self, response: requests.Response, start: int) -> None:
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        size, window_size, window_end = start, start, time.monotonic() + self.timeout_s
        with self._progress() as progress, self.part.open("ab") as file:
            file.truncate(start)
            task = progress.add_task(self.part.stem, total=total, completed=start)
            # read1 hands over what has arrived; read would wait for a whole chunk of a trickle
            while chunk := response.raw.read1(CHUNK_BYTES):
                try:
                    file.write(chunk)
                except OSError as error:
                    raise _unwritable(self.part, error) from error
                size += len(chunk)
                progress.update(task, completed=size)
                if time.monotonic() > window_end:
                    if size - window_size < MIN_BYTES_PER_S * self.timeout_s:
                        raise _MirrorError(
                            f"stalled: {size - window_size} bytes in {self.timeout_s:g} s", True
                        )
                    window_size, window_end = size, time.monotonic() + self.timeout_s
        if total is not None and size != total:
            raise _MirrorError(f"cut off at {size:,} of {total:,} bytes", again=True)

    def _check(self) -> None:
        problem = zip_problem(self.part)
        if problem is None and self.sha256 is None:
            problem = _damaged_member(self.part)
        elif problem is None:
            with self.part.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != str(self.sha256).lower():
                problem = f"another file than expected (SHA-256 is {found}, not {self.sha256})"
        if problem:
            self._drop()
            raise _MirrorError(f"sends {problem}", again=False)

    def _drop(self) -> None:
        self.part.write_bytes(b"")
        self.validator = None

    def _broken(self, error: Exception) -> str:
        if isinstance(error, requests.ReadTimeout) or "timed out" in str(error):
            return f"nothing arrived for {self.timeout_s:g} s"
        size = self.part.stat().st_size
        return f"connection failed or was cut off ({size:,} bytes are kept): {error}"

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        return Progress(*columns, TransferSpeedColumn(), console=self.console, transient=True)


def _damaged_member(path: Path) -> str | None:
    with contextlib.suppress(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        with zipfile.ZipFile(path) as file:
            name = file.testzip()
        return f"a damaged zip ({name} does not match its checksum)" if name else None
    return "a damaged zip"


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path} cannot be written ({error.strerror}); free some space, or choose another folder "
        "with the environment variable CONVPOSE_DATA"
    )
