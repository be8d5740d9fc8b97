"""Download a zip from a list of mirrors; it gets its name once it is known to be complete."""

import contextlib
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pooch
import requests
from rich.console import Console

from convpose.data.reading.archive import zip_problem
from convpose.errors import DataError
from convpose.files import replacing

CHUNK_BYTES = 2**16
TRANSIENT_STATUS = (408, 425, 429, 500, 502, 503, 504)


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
        mirrors: URLs, tried in turn.
        target: the file to write; its folder is made.
        sha256: expected hash in hexadecimal; None checks the checksum of every member instead.
        timeout_s: longest wait for a connection and for the next byte.
        attempts: per mirror, with a pause of 1, 2, 4, … seconds between them.
        sleep: makes the pause.

    Returns:
        `target`.

    Raises:
        DataError: every mirror failed (each is listed with its reason), or the target's folder
            cannot be written.
    """
    is_new_folder = not target.parent.exists()
    console = Console(stderr=True)
    reasons: list[str] = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for url in mirrors:
            said = f"{reasons[-1].strip()}; now" if reasons else "asking"
            console.print(f"{said} {url}", markup=False, highlight=False, soft_wrap=True)
            reason = _try_mirror(url, target, sha256, timeout_s, attempts, sleep)
            if reason is None:
                return target
            reasons.append(f"\n  {url}: {reason}")
    except OSError as error:
        raise DataError(
            f"{target} cannot be written ({error.strerror}); free some space, or choose another "
            "folder with the environment variable CONVPOSE_DATA"
        ) from error
    if is_new_folder:  # perhaps by a misspelt name
        with contextlib.suppress(OSError):
            target.parent.rmdir()
    raise DataError(
        f"{target.name} is not here; put it at {target}, or type "
        f"data.source=/path/to/{target.name}\nIt cannot be downloaded:{''.join(reasons)}"
    )


def _try_mirror(
    url: str,
    target: Path,
    sha256: str | None,
    timeout_s: float,
    attempts: int,
    sleep: Callable[[float], None],
) -> str | None:
    """Download from one mirror; return None on success, else the reason of the last failure."""
    fetch = pooch.HTTPDownloader(sys.stderr.isatty(), CHUNK_BYTES, timeout=timeout_s)
    reason = None
    for attempt in range(attempts):
        if attempt:
            sleep(2.0 ** (attempt - 1))
        try:
            with replacing(target) as file:
                fetch(url, file, None)
                file.flush()
                _check(Path(file.name), sha256)
            return None
        except requests.HTTPError as error:
            reason = f"HTTP {error.response.status_code} {error.response.reason}"
            if error.response.status_code not in TRANSIENT_STATUS:
                break
        except requests.exceptions.ChunkedEncodingError:
            reason = "cut off"
        except (requests.ConnectionError, requests.Timeout) as error:
            slow = "timed out" in str(error)  # while reading it is a ConnectionError, too
            reason = f"nothing arrived for {timeout_s:g} s" if slow else "no connection"
        except (DataError, requests.RequestException) as error:  # no zip; no such scheme, …
            return str(error)
    return reason


def _check(path: Path, sha256: str | None) -> None:
    """Raise DataError unless the file is a complete zip, and the expected one."""
    problem = zip_problem(path)
    if problem is None and sha256 is None:
        problem = _damage(path)
    elif problem is None:
        found = pooch.file_hash(str(path))
        if found != str(sha256).lower():
            problem = f"another file than expected (SHA-256 is {found}, not {sha256})"
    if problem:
        raise DataError(f"sends {problem}")


def _damage(path: Path) -> str | None:
    """Read all members of a zip against their checksums; return what is wrong, or None."""
    with contextlib.suppress(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        with zipfile.ZipFile(path) as file:
            name = file.testzip()
        return f"a damaged zip ({name} does not match its checksum)" if name else None
    return "a damaged zip"
