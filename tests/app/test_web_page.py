"""The web page: what visitors may do, and what they may not."""

import asyncio
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import threading
import time

import numpy as np
import pytest
import requests
from browser import open_page
from PIL import Image
from tiny import QUIET, composed, start, tiny_run

from convpose.app.handlers import (
    EXAMPLES,
    Networks,
    add_corner,
    draw_boxes,
    example_picture,
    predict_clip,
    predict_picture,
)
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConfigError, DataError
from convpose.predict.drawing import VideoFile
from convpose.predict.images import Limits, decode
from convpose.skeleton import LSP14

pytest.importorskip("starlette", reason="convpose[app] is not installed")
pytestmark = [  # Gradio's own: old idioms of what it stands on, and event loops it leaves open
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

from convpose.app import guard  # noqa: E402
from convpose.app.guard import KEEP_S, remove_old, visitor_files  # noqa: E402

OFFERED = "study/one"


def app():
    """The page's own module: Gradio takes seconds, which the process of another file saves."""
    pytest.importorskip("gradio", reason="convpose[app] is not installed")
    return importlib.import_module("convpose.app.command")


@pytest.fixture(scope="module", autouse=True)
def no_loop_left_open():
    """Close the event loops that Gradio makes for its locks and leaves to the collector."""
    yield
    for loop in gc.get_objects():
        if issubclass(type(loop), asyncio.AbstractEventLoop) and not loop.is_running():
            loop.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "study" / "one"
    tiny_run(folder, "trainer.max_epochs=1", *QUIET)
    return folder


@pytest.fixture(scope="module")
def networks(run):
    return Networks(run.parent.parent, str(run), None, "cpu")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "person.png"
    Image.fromarray(SyntheticSource(1, 96).read_image(0)[0]).save(path)
    return path


def app_config(*overrides):
    return composed("app", *overrides)


def test_a_picture_gets_a_drawing_a_table_and_a_file(networks, run, photo, tmp_path):
    predictor = networks.predictor(OFFERED, several=False)
    image, rows, file, sentence = predict_picture(
        photo, "person.png", predictor, Limits(), tmp_path
    )
    before = np.asarray(Image.open(photo))
    assert image.shape == before.shape
    assert (image != before).any()
    assert [row[1] for row in rows] == [name.replace("_", " ") for name in LSP14.keypoints]
    person = json.loads(file.read_text())["people"][0]
    assert [row[2] for row in rows] == [round(x, 1) for x, _ in person["keypoints_px"]]
    assert file.name == "person_keypoints.json"
    assert sentence.startswith("1 person in ")


def test_a_picture_is_looked_at_in_the_boxes_that_were_drawn(networks, photo, tmp_path):
    predictor = networks.predictor(OFFERED, several=False)
    boxes = add_corner(add_corner("", [90, 80]), (10.4, "5"))
    assert boxes == "90, 80, 10, 5"
    _, rows, file, sentence = predict_picture(
        photo, "p.png", predictor, Limits(), tmp_path, f"{boxes}\n\n-7; 20; 50; 999"
    )
    found = [person["box_px"] for person in json.loads(file.read_text())["people"]]
    assert found == [[9.5, 4.5, 89.5, 79.5], [-0.5, 19.5, 49.5, 95.5]], "the picture is 96 × 96"
    assert sentence.startswith("2 people in ")
    assert [row[0] for row in rows] == [1] * 14 + [2] * 14


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        ("1, 2, 30, 40\n7, 8", "a box has one corner: click the opposite one"),
        ("1, 2, 3", "a box is four numbers, x0, y0, x1, y1"),
        ("1, 2, 3, 4, 5", "a box is four numbers"),
        ("10, 10, 10, 90", "a box without an area"),
        ("500, 500, 900, 900", "a box without an area: click two opposite corners, inside"),
        ("1, 2, 30, 40\n" * 51, "51 boxes: at most 50"),
    ],
)
def test_boxes_that_are_none(photo, tmp_path, boxes, said):
    with pytest.raises(DataError, match=said):
        predict_picture(photo, "p.png", None, Limits(), tmp_path, boxes)


@pytest.mark.parametrize("place", [None, [1], ["a", 2], [float("nan"), 1], [1e999, 2]])
def test_a_click_beside_the_picture(place):
    with pytest.raises(DataError, match="not a place in the picture"):
        add_corner("", place)


def test_drawn_boxes_and_a_corner_are_shown(photo):
    picture = decode(photo)
    changed = draw_boxes("10, 10, 60, 60\n80, 80", picture) != picture.image
    assert changed[10, 30].any(), "an edge of the box"
    assert changed[80, 80].any(), "the corner that waits"
    assert not changed[35, 35].any()


def test_an_example_is_a_person_that_is_found(tmp_path):
    """Painted people are those of one seed: the network must see these, not others."""
    predictor = Networks(tmp_path, "small", None, "cpu").predictor("small", several=False)
    for number in range(len(EXAMPLES)):
        file = example_picture(number, tmp_path)
        _, rows, _, _ = predict_picture(file, file.name, predictor, Limits(), tmp_path)
        truth = SyntheticSource(100, 512, 2).annotations[EXAMPLES[number]].keypoints_px
        errors = np.linalg.norm([row[2:4] for row in rows] - truth, axis=1)
        assert errors.max() < 0.07 * np.ptp(truth, axis=0).max()
    assert example_picture(len(EXAMPLES), tmp_path).read_bytes() == (
        example_picture(0, tmp_path).read_bytes()
    )


def test_a_clip_gets_a_clip(networks, run, tmp_path):
    path = tmp_path / "walk.mp4"
    film = VideoFile(path, 64, 64)
    for i in range(5):
        film.write(SyntheticSource(5, 64).read_image(i)[0], i / 10)
    film.close(complete=True)
    predictor = networks.predictor(OFFERED, several=False)
    answer = tmp_path / "answer"
    answer.mkdir()
    drawn, rows, files, sentence = predict_clip(path, "walk.mp4", predictor, Limits(), 3, answer)
    assert drawn.stat().st_size > 500
    frames = json.loads(files[0].read_text())["frames"]
    assert len(frames) == 3
    assert [row[:3] for row in rows[13:15]] == [[0, 1, "head top"], [1, 1, "right ankle"]]
    assert rows[14][3] == round(frames[1]["people"][0]["keypoints_px"][0][0], 1)
    assert len(files[1].read_text().splitlines()) == 4
    assert sentence.startswith("3 frames, ")


def test_what_is_no_clip_is_refused_by_its_name(networks, run, tmp_path):
    path = tmp_path / "upload.mp4"
    path.write_text("not a film")
    predictor = networks.predictor(OFFERED, several=False)
    with pytest.raises(
        DataError, match=r"^holiday\.mp4: not a video that can be read; get"
    ) as error:
        predict_clip(path, "holiday.mp4", predictor, Limits(), 10, tmp_path / "answer")
    assert str(tmp_path) not in str(error.value)


def test_answers_do_not_pile_up(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(guard, "SWEEP_S", 0.01)
    killed, alive = tmp_path / "convpose-page-a", tmp_path / "convpose-page-b"
    for folder in (killed, alive):
        (folder / "upload").mkdir(parents=True)
        (folder / "upload" / "clip.mp4").touch()
    os.utime(killed, (0, time.time() - KEEP_S - 60))
    with visitor_files() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        assert sorted(tmp_path.iterdir()) == sorted([alive, folder])
        (folder / "clip.mp4").touch()
        os.utime(folder, (0, 0))
        while folder.stat().st_mtime == 0:  # it notes that it is alive
            time.sleep(0.01)
        assert (folder / "clip.mp4").exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "before"
    assert list(tmp_path.iterdir()) == [alive]
    now = time.time()
    monkeypatch.setattr(guard.time, "time", lambda: now + KEEP_S + 60)
    remove_old(alive)
    assert list(alive.iterdir()) == []


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "wall.png"
    Image.new("L", (4000, 3000)).save(path)
    with pytest.raises(DataError, match=r"wall\.png: 4000 × 3000 are 12 megapixels, more"):
        predict_picture(path, "wall.png", None, Limits(megapixels=10), tmp_path)


def test_visitors_open_offered_networks_only(networks, run, tmp_path):
    assert networks.names() == {OFFERED: str(run), "small": "small", "large": "large"}
    with pytest.raises(DataError, match="not one of the networks of this page"):
        networks.predictor(str(tmp_path), several=False)


def test_visitors_see_no_files_of_this_machine(photo):
    with pytest.raises(DataError, match="not an upload: files of this machine are not shown"):
        app()._file({"path": str(photo), "orig_name": "x.png"}, "a picture")
    with pytest.raises(DataError, match="no picture yet: upload a picture first"):
        app()._file(None, "a picture")


def test_a_host_that_is_not_this_machine(run):
    with pytest.raises(ConfigError, match="type another port, as port=7860, or host=127"):
        app().serve(app_config("host=nowhere.invalid", "open=true", "port=7999", f"run={run}"))


def test_a_port_that_is_taken(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port={port}: cannot listen there"):
            app().serve(app_config(f"port={port}", f"run={run}"))


@contextlib.contextmanager
def serving(run, *overrides):
    """A page that answers on a port of its own, in a thread."""
    cfg = app_config(f"run={run}", f"paths.runs={run.parent.parent}", *overrides)
    with visitor_files() as folder, socket.create_server(("127.0.0.1", 0)) as listening:
        page = app().server(app().build_page(cfg), cfg)
        thread = threading.Thread(target=page.run, args=([listening],))
        thread.start()
        try:
            while not page.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", folder
        finally:
            page.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def url(run):
    with serving(run, "max_file_mb=1", "names=[Pose.Example.org]") as (url, _):
        yield url


UPLOAD = "/gradio_api/upload"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {}, 200),
        ("/", {"Host": "localhost:{port}"}, 200),
        ("/", {"Host": "LOCALHOST"}, 200),
        ("/", {"Host": "pose.example.org"}, 200),  # of names=, behind a proxy
        ("/", {"Host": "pose.example.org.evil.example"}, 403),
        ("/", {"Host": "evil.example:{port}"}, 403),
        ("/", {"Host": "10.1.2.3"}, 403),
        ("/", {"Host": "[::1"}, 403),
        ("/", {"Origin": "http://127.0.0.1:{port}"}, 200),
        ("/", {"Host": "pose.example.org", "Origin": "https://pose.example.org"}, 200),
        ("/", {"Origin": "http://127.0.0.1:1"}, 403),
        ("/", {"Origin": "null"}, 403),
        ("/", {"Origin": "http://evil.example"}, 403),
        ("/config", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # a link
        (UPLOAD, {}, 200),
        (UPLOAD, {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}, 200),
        (UPLOAD, {"Origin": "http://evil.example"}, 403),
        (UPLOAD, {"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        (UPLOAD, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ("/gradio_api/file=http://127.0.0.1:{port}/config", {}, 404),
        ("/gradio_api/proxy=http://127.0.0.1:{port}/config", {}, 404),
        ("/gradio_api/file=/etc/passwd", {}, 403),
        ("/nowhere", {}, 404),
    ],
)
def test_the_page_answers_itself_only(url, path, headers, status):
    port = url.rpartition(":")[2]
    headers = {name: value.format(port=port) for name, value in headers.items()}
    if path == UPLOAD:
        answer = requests.post(
            url + path, files={"files": b"a picture"}, headers=headers, timeout=9
        )
    else:
        answer = requests.get(url + path.format(port=port), headers=headers, timeout=9)
    assert answer.status_code == status
    strangers = {"http://evil.example", "null", "*", "http://127.0.0.1:1"}
    assert answer.headers.get("access-control-allow-origin") not in strangers
    if status >= 400:
        assert "/etc" not in answer.text
        assert len(answer.text) < 100, "a sentence of ours"


def test_a_stranger_may_not_ask_what_is_allowed(url):
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = requests.options(url + UPLOAD, headers=asked, timeout=9)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_an_upload_that_is_too_large(url):
    answer = requests.post(url + UPLOAD, files={"files": bytes(2_000_000)}, timeout=9)
    assert (answer.status_code, answer.text) == (413, "the file is larger than this page takes")


def test_a_password(run):
    with serving(run, "password='s3crét'") as (url, _):
        for typed, status in ((None, 401), ("s3crét", 200), ("secret", 401), ("", 401)):
            for path in ("/", "/assets/nothing", "/gradio_api/heartbeat/1"):
                auth = None if typed is None else ("anybody", typed.encode())
                answer = requests.get(url + path, auth=auth, timeout=9, stream=True)
                answer.close()
                assert answer.status_code == (404 if "assets" in path and status == 200 else status)
        wrong = {"Authorization": "Basic é"}
        assert requests.get(url, headers=wrong, timeout=9).status_code == 401


UPLOADS = (
    (None, "a.png", "no picture yet: upload a picture first"),
    ("/etc/passwd", "a.png", "not an upload: files of this machine are not shown"),
    ("notes", "a.png", "a.png: not an image that can be read; save it as JPEG, PNG"),
    ("half", "a.png", "a.png: a broken image; get it again"),
    ("whole", "a\0.png", "this did not work; the terminal in which the page was started says"),
    (["odd"], "a.png", '"error": null'),
)


def test_errors_show_no_path_and_no_library(run, photo):
    content = {"notes": b"text", "half": photo.read_bytes()[:999], "whole": photo.read_bytes()}
    with serving(run) as (url, folder):
        for path, name, said in UPLOADS:
            if isinstance(path, str) and path in content:
                files = {"files": ("photo.png", content[path])}
                path = requests.post(url + UPLOAD, files=files, timeout=9).json()[0]
            given = {"path": path, "orig_name": name} if path else None
            call = f"{url}/gradio_api/call/picture"
            data = {"data": [given, OFFERED, False, ""]}
            event = requests.post(call, json=data, timeout=9).json()["event_id"]
            answer = requests.get(f"{call}/{event}", timeout=60).text
            assert said in answer
            assert str(folder) not in answer
            assert "Error'" not in answer
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_uploads_are_removed_at_every_ending(tmp_path, monkeypatch, stop):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = start(tmp_path, f"port={port}", module="convpose.app")
    assert f"the page is at http://127.0.0.1:{port}" in page.stdout.readline()
    url = f"http://127.0.0.1:{port}"
    for _ in range(100):
        with contextlib.suppress(requests.ConnectionError):
            requests.post(url + UPLOAD, files={"files": b"mine"}, timeout=9)
            break
        time.sleep(0.1)
    waiting = requests.get(f"{url}/gradio_api/heartbeat/1", stream=True, timeout=9)
    assert list(tmp_path.glob("convpose-page-*/*/*"))
    page.send_signal(stop)
    _, said = page.communicate(timeout=120)
    waiting.close()
    assert page.returncode == 128 + (signal.SIGINT if stop == signal.SIGINT else signal.SIGTERM)
    assert "Traceback" not in said
    assert list(tmp_path.glob("convpose-page-*")) == []


def upload(visitor, path):
    """Put a picture into the page and wait: it moves the buttons below it, away from a click."""
    picture = visitor.get_by_test_id("image").first  # the table of joints takes files, too
    picture.locator("input[type=file]").set_input_files(path)
    picture.locator(f"img[src*='{path.name}']").wait_for(state="attached")


@pytest.mark.slow
def test_two_visitors_in_a_browser(run, photo, tmp_path):
    bad = tmp_path / "notes.png"
    bad.write_text("no picture at all")
    with serving(run) as (url, _):
        asked = []
        with open_page() as first:
            first.on("request", lambda request: asked.append(request.url))
            second = first.context.browser.new_page()
            for visitor in (first, second):
                visitor.goto(url)
                upload(visitor, photo)
            for visitor in (first, second):
                visitor.get_by_role("button", name="Find joints").first.click()
            for visitor in (first, second):
                visitor.get_by_text("1 person in").wait_for()
                visitor.get_by_text("left wrist").first.wait_for()
            boxes = first.get_by_label("Boxes round people")
            shown = first.locator("img").first.bounding_box()
            for share, said in ((0.1, "Now click the opposite corner"), (0.9, "1 person in")):
                first.mouse.click(
                    shown["x"] + share * shown["width"], shown["y"] + share * shown["height"]
                )
                first.get_by_text(said).wait_for()
            corners = [float(number) for number in boxes.input_value().split(",")]
            assert corners == pytest.approx([9.6, 9.6, 86.4, 86.4], abs=2), "of 96 pixels"
            first.get_by_label("Remove").or_(first.get_by_label("Clear")).first.click()
            upload(first, bad)
            first.get_by_role("button", name="Find joints").first.click()
            first.get_by_text("not an image that can be read").wait_for()
            assert boxes.input_value() == "", "a new picture has no boxes of the last"
            first.get_by_role("button", name="Example").click()
            first.locator("img[src*=example]").first.wait_for()
            first.get_by_role("button", name="Find joints").first.click()
            first.get_by_text("1 person in").wait_for()
            first.set_viewport_size({"width": 360, "height": 780})
            assert first.evaluate("document.documentElement.scrollWidth") <= 360, "of a phone"
        assert asked
        assert all(one.startswith(url) for one in asked if one.startswith("http"))
