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
    """Serves `content` at every address; the address says how it misbehaves."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.requests = []  # (path, Range, If-Range)

    def handle_error(self, request, client_address):
        pass  # the client hangs up on a slow answer, as it should

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}/lsp_dataset.zip"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        kind, content = self.path.split("/")[1], self.server.content
        wanted = self.headers.get("Range")
        seen = [request for request in self.server.requests if request[0] == kind]
        self.server.requests.append((kind, wanted, self.headers.get("If-Range")))
        if kind == "missing":
            self.send_error(404)
        elif kind == "busy" and len(seen) < 2:
            self.send_error(503)
        elif kind == "html":
            self.answer(b"<html>moved</html>", type="text/html; charset=utf-8")
        elif kind == "html_as_zip":
            self.answer(b"<!DOCTYPE html><html>moved</html>")
        elif kind == "silent":
            time.sleep(1)
        elif kind == "stalls":
            self.answer(content, send=len(content) // 2)
            time.sleep(1)
        elif kind == "trickles":
            self.answer(content, send=0)
            for i in range(20):
                self.wfile.write(content[i : i + 1])
                self.wfile.flush()
                time.sleep(0.05)
        elif kind == "cut" and not seen:
            self.answer(content, send=len(content) // 2)
        elif kind == "always_cut":
            self.answer(content, send=100)
        elif kind == "truncated":
            self.answer(content[: len(content) // 2])
        elif kind == "changed" and wanted and self.headers.get("If-Range") != '"new"':
            self.answer(content, ETag='"new"')
        elif wanted and kind != "no_ranges":
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
            else:
                begin = 0 if kind == "wrong_range" and len(seen) == 0 else start
                span = f"bytes {begin}-{len(content) - 1}/{len(content)}"
                self.answer(content[begin:], status=206, **{"Content-Range": span})
        else:
            self.answer(content, ETag='"tag"')

    def answer(self, body, status=200, send=None, type="application/zip", **headers):
        self.send_response(status)
        headers = {"Content-Type": type, "Content-Length": len(body), "ETag": '"tag"'} | headers
        for name, value in headers.items():
            self.send_header(name, str(value))
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


def part_of(target):
    return target.with_name("lsp_dataset.zip.part")


def fetch(server, target, *kinds, sleep=lambda seconds: None, **options):
    return download([server.url(kind) for kind in kinds], target, sleep=sleep, **options)


def test_a_good_mirror_delivers(server, target, content):
    assert fetch(server, target, "good", sha256=hashlib.sha256(content).hexdigest()) == target
    assert target.read_bytes() == content
    assert not part_of(target).exists()


def test_the_second_mirror_helps_when_the_first_is_down(server, target, content, capfd):
    mirrors = ["http://127.0.0.1:9/lsp_dataset.zip", server.url("missing"), server.url("good")]
    download(mirrors, target, sleep=lambda seconds: None)
    assert target.read_bytes() == content
    assert "HTTP 404 Not Found" in capfd.readouterr().err


def test_busy_servers_are_asked_again_after_growing_pauses(server, target, content):
    pauses = []
    fetch(server, target, "busy", sleep=pauses.append)
    assert target.read_bytes() == content
    assert pauses == [1.0, 2.0]


def test_a_missing_file_is_not_asked_for_again(server, target):
    with pytest.raises(DataError, match="HTTP 404 Not Found"):
        fetch(server, target, "missing")
    assert len(server.requests) == 1


def test_a_cut_connection_is_resumed_where_it_broke(server, target, content):
    fetch(server, target, "cut")
    assert target.read_bytes() == content
    assert server.requests == [
        ("cut", None, None),
        ("cut", f"bytes={len(content) // 2}-", '"tag"'),
    ]


def test_a_file_that_has_changed_meanwhile_is_fetched_anew(server, target, content):
    part_of(target).parent.mkdir()
    part_of(target).write_bytes(b"old" * 100)
    fetch(server, target, "changed")
    assert target.read_bytes() == content


@pytest.mark.parametrize("kind", ["good", "no_ranges", "wrong_range"])
def test_a_partial_file_of_an_earlier_run_is_completed(server, target, content, kind):
    part_of(target).parent.mkdir()
    part_of(target).write_bytes(content[:1000])
    fetch(server, target, kind)
    assert target.read_bytes() == content
    assert server.requests[0] == (kind, "bytes=1000-", None)


@pytest.mark.parametrize("known", [True, False])
def test_a_complete_partial_file_only_needs_its_check(server, target, content, known):
    part_of(target).parent.mkdir()
    part_of(target).write_bytes(content)
    fetch(server, target, "good", sha256=hashlib.sha256(content).hexdigest() if known else None)
    assert target.read_bytes() == content
    assert len(server.requests) == 1


@pytest.mark.parametrize("known", [True, False])
def test_pieces_of_different_files_are_noticed_and_fetched_anew(server, target, content, known):
    part_of(target).parent.mkdir()
    part_of(target).write_bytes(bytes(5000))
    fetch(server, target, "good", sha256=hashlib.sha256(content).hexdigest() if known else None)
    assert target.read_bytes() == content
    assert [wanted for _, wanted, _ in server.requests] == ["bytes=5000-", None]


def test_a_wrong_hash_is_dropped(server, target):
    with pytest.raises(DataError, match=r"another file than expected \(SHA-256 is .*, not abc\)"):
        fetch(server, target, "good", sha256="abc")
    assert not target.parent.exists()  # nothing is left, not even the folder that it made


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("html", "answers with an HTML page, not a zip"),
        ("html_as_zip", "sends an HTML page, not a zip"),
        ("truncated", "sends a truncated zip"),
    ],
)
def test_what_is_no_zip_is_named_and_dropped(server, target, kind, reason):
    with pytest.raises(DataError, match=f"{kind}/lsp_dataset.zip: {reason}"):
        fetch(server, target, kind)
    assert len(server.requests) == 1
    assert not target.parent.exists()  # nothing is left, not even the folder that it made


def test_an_html_page_does_not_cost_the_partial_file(server, target, content):
    part_of(target).parent.mkdir()
    part_of(target).write_bytes(content[:1000])
    with pytest.raises(DataError, match="HTML page"):
        fetch(server, target, "html")
    assert part_of(target).read_bytes() == content[:1000]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("silent", r"nothing arrived for 0\.2 s"),
        ("stalls", r"nothing arrived for 0\.2 s"),
        ("trickles", r"stalled: \d bytes in 0\.2 s"),
    ],
)
def test_slow_servers_are_left_after_the_time_limit(server, target, kind, reason):
    start = time.monotonic()
    with pytest.raises(DataError, match=reason):
        fetch(server, target, kind, timeout_s=0.2, attempts=1)
    assert time.monotonic() - start < 0.9


def test_all_reasons_stand_in_one_message_that_says_what_to_type(server, target):
    mirrors = [server.url("missing"), server.url("always_cut"), "gopher://example.org/x.zip"]
    with pytest.raises(DataError) as caught:
        download(mirrors, target, attempts=2, sleep=lambda seconds: None)
    lines = str(caught.value).splitlines()
    assert lines[0] == "lsp_dataset.zip cannot be downloaded; every mirror failed:"
    assert lines[1] == f"  {mirrors[0]}: HTTP 404 Not Found"
    assert lines[2].startswith(f"  {mirrors[1]}: connection failed or was cut off (")
    assert lines[3].startswith(f"  {mirrors[2]}: No connection adapters")
    assert "data.source=/path/to/lsp_dataset.zip" in lines[4]
    assert str(target) in lines[4]
    assert not target.exists()
    assert part_of(target).stat().st_size > 0  # kept for the next attempt


def test_a_folder_is_not_made_for_nothing(server, tmp_path):
    with pytest.raises(DataError, match="every mirror failed"):
        fetch(server, tmp_path / "dtaa" / "lsp_dataset.zip", "missing")
    assert not (tmp_path / "dtaa").exists()


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"lsp_dataset.zip.part cannot be written .*CONVPOSE_DATA"):
        fetch(server, tmp_path / "data" / "lsp_dataset.zip", "good")
    assert server.requests == []
