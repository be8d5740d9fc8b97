import hashlib
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fake_lsp import write_zip

from convpose.data.reading.download import download
from convpose.errors import DataError


class Server(ThreadingHTTPServer):
    """Serves `content` at every URL; the first part of its path says how it misbehaves."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.requests = []  # first part of the path

    def handle_error(self, request, client_address):
        pass  # the client hangs up on a slow answer, as it should

    def url(self, kind):
        return f"http://127.0.0.1:{self.server_port}/{kind}/lsp_dataset.zip"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        kind, content = self.path.split("/")[1], self.server.content
        first = kind not in self.server.requests
        self.server.requests.append(kind)
        if kind == "missing":
            self.send_error(404)
        elif kind == "busy" and self.server.requests.count(kind) < 3:
            self.send_error(503)
        elif kind == "page":
            self.answer(b"<!DOCTYPE html><html>moved</html>", type="text/html; charset=utf-8")
        elif kind == "silent":
            time.sleep(2)
        elif kind == "stalls":
            self.answer(content, send=len(content) // 2)
            time.sleep(2)
        elif kind == "always_cut" or (kind == "cut" and first):
            self.answer(content, send=len(content) // 2)
        elif kind == "truncated":
            self.answer(content[: len(content) // 2])
        elif kind == "damaged":
            self.answer(content[:100] + bytes(100) + content[200:])
        else:
            self.answer(content)

    def answer(self, body, send=None, type="application/zip"):
        self.send_response(200)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:send])


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    return write_zip(path, {"joints.mat": os.urandom(200_000)}).read_bytes()


@pytest.fixture
def server(content, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "lsp_dataset.zip"


def fetch(server, target, *kinds, **options):
    return download([server.url(kind) for kind in kinds], target, **options)


@pytest.mark.parametrize("known", [True, False])
def test_a_good_mirror_delivers(server, target, content, known):
    sha256 = hashlib.sha256(content).hexdigest().upper() if known else None
    assert fetch(server, target, "good", sha256=sha256) == target
    assert target.read_bytes() == content
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    ("kind", "waited"), [("busy", [1.0, 2.0]), ("cut", [1.0])], ids=["busy", "cut off"]
)
def test_another_attempt_follows_a_pause(server, target, content, kind, waited):
    pauses = []
    fetch(server, target, kind, sleep=pauses.append)
    assert target.read_bytes() == content
    assert pauses == waited


def test_the_next_mirror_is_tried_and_the_failure_is_told(server, target, content, capfd):
    fetch(server, target, "missing", "page", "good")
    assert target.read_bytes() == content
    assert "HTTP 404 Not Found" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("kind", "sha256", "reason"),
    [
        ("missing", None, "HTTP 404 Not Found"),
        ("page", None, "sends an HTML page, not a zip"),
        ("page", "abc", "sends an HTML page, not a zip"),
        ("truncated", None, "sends a truncated zip"),
        ("damaged", None, "sends a damaged zip"),
        ("good", "abc", r"sends another file than expected \(SHA-256 is .*, not abc\)"),
    ],
)
def test_a_wrong_file_is_named_removed_and_not_asked_for_again(
    server, target, kind, sha256, reason
):
    with pytest.raises(DataError, match=f"{kind}/lsp_dataset.zip: {reason}"):
        fetch(server, target, kind, sha256=sha256)
    assert server.requests == [kind]
    assert not target.parent.exists()  # not even the folder that it made is left


@pytest.mark.parametrize("kind", ["silent", "stalls"])
def test_a_silent_server_is_left_after_the_time_limit(server, target, kind):
    start = time.monotonic()
    with pytest.raises(DataError, match=r"nothing arrived for 0\.1 s"):
        fetch(server, target, kind, timeout_s=0.1, attempts=1)
    assert time.monotonic() - start < 1.5, "the server is silent for two seconds"


def test_one_message_lists_all_reasons_and_says_what_to_type(server, target):
    target.parent.mkdir()
    mirrors = [
        *(server.url("missing"), server.url("always_cut")),
        *("http://127.0.0.1:9/x.zip", "gopher://example.org/x.zip"),
    ]
    with pytest.raises(DataError) as caught:
        download(mirrors, target, attempts=2, sleep=lambda seconds: None)
    lines = str(caught.value).splitlines()
    assert lines[:5] == [
        f"lsp_dataset.zip is not here; put it at {target}, or type "
        "data.source=/path/to/lsp_dataset.zip",
        "It cannot be downloaded:",
        f"  {mirrors[0]}: HTTP 404 Not Found",
        f"  {mirrors[1]}: cut off",
        f"  {mirrors[2]}: no connection",
    ]
    assert lines[5].startswith(f"  {mirrors[3]}: No connection adapters")
    assert list(target.parent.iterdir()) == []  # a folder that was there stays


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"lsp_dataset.zip cannot be written .*CONVPOSE_DATA"):
        fetch(server, tmp_path / "data" / "lsp_dataset.zip", "good")
    assert server.requests == []
