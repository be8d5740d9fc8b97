"""Refuse requests of other sites and of strangers, and remove the files of visitors in time."""

import base64
import binascii
import contextlib
import hmac
import os
import socket
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convpose.files import remove_left

KEEP_S = 3600  # how long a visitor can download the files of a result
SWEEP_S = 60
PREFIX = "convpose-page-"
HERE = ("localhost", "127.0.0.1", "::1")
# what the page does without: fetching from other machines, cutting recordings
UNUSED = ("proxy=", "file=http", "file/http", "process_recording", "run-history")
WORDS = {413: "the file is larger than this page takes", 422: "not a request of this page"}


class Guard:
    """Pass on the page's own requests; answer others, and whatever fails, in our own words.

    It is the outermost layer, for Gradio answers requests of other origins by itself.

    Args:
        app: the page.
        names: of this machine in the browser's address, beside its IP address and its host name.
        password: that a browser asks for, with any user name; None asks for none.
    """

    def __init__(
        self, app: ASGIApp, names: Collection[str] = (), password: str | None = None
    ) -> None:
        self.app = app
        name = socket.gethostname().lower()
        self._names = {*HERE, name, f"{name}.local", *(own.lower() for own in names)}
        self._password = password

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif refusal := self._refusal(scope, Headers(scope=scope)):
            await refusal(scope, receive, send)
        else:
            await self._pass_on(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        name = _host_name(host)
        if name not in self._names and name != (scope.get("server") or ("",))[0]:
            return _answer(403, f"not a name of this page; start it with names=[{name}]")
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        opened = headers.get("sec-fetch-mode") == "navigate" and scope.get("method") == "GET"
        other = site not in ("same-origin", "none") and not opened
        if other or (origin is not None and origin.lower().split("://")[1:] != [host.lower()]):
            return _answer(403, "a request of another site")
        if self._password is not None and not _typed(headers, self._password):
            asks = {"WWW-Authenticate": 'Basic realm="convpose", charset="UTF-8"'}
            return _answer(401, "the password of this page, with any user name", asks)
        path = scope["path"].lower().removeprefix("/gradio_api/")
        return _answer(404) if scope["type"] != "http" or path.startswith(UNUSED) else None

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def in_our_words(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused = True
                await _answer(message["status"])(scope, receive, send)
            elif not refused:
                await send(message)

        await self.app(scope, receive, in_our_words)


def _answer(
    status: int, text: str = "", headers: Mapping[str, str] | None = None
) -> PlainTextResponse:
    words = text or WORDS.get(status) or HTTPStatus(status).phrase.lower()
    return PlainTextResponse(words, status, headers)


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _typed(headers: Headers, password: str) -> bool:
    kind, _, given = headers.get("authorization", "").partition(" ")
    try:
        typed = base64.b64decode(given).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and hmac.compare_digest(typed, password.encode())


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
