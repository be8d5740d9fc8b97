"""The web page: what visitors may do, and what they may not."""

import asyncio
import gc
import json
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from browser import open_page
from PIL import Image
from tiny import QUIET, composed, tiny_run

from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConfigError, DataError
from convpose.predict.drawing import VideoFile
from convpose.predict.limits import Limits
from convpose.skeleton import LSP14

pytest.importorskip("gradio", reason="convpose[app] is not installed")
pytestmark = [  # Gradio's own: old idioms of what it stands on, and event loops it leaves open
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

from convpose.app.command import _file, build_page, launch_settings, serve  # noqa: E402
from convpose.app.handlers import (  # noqa: E402
    KEEP_S,
    Networks,
    ResultFolders,
    predict_clip,
    predict_picture,
)


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
    predictor = networks.predictor(str(run), several=False)
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


def test_a_clip_gets_a_clip(networks, run, tmp_path):
    path = tmp_path / "walk.mp4"
    film = VideoFile(path, 64, 64)
    for i in range(5):
        film.write(SyntheticSource(5, 64).read_image(i)[0], i / 10)
    film.close(complete=True)
    predictor, folders = networks.predictor(str(run), several=False), ResultFolders()
    drawn, file, sentence = predict_clip(path, "walk.mp4", predictor, Limits(), 3, folders.new())
    assert drawn.stat().st_size > 500
    assert len(json.loads(file.read_text())["frames"]) == 3
    assert sentence.startswith("3 frames, ")


def test_what_is_no_clip_is_refused_by_its_name(networks, run, tmp_path):
    path = tmp_path / "upload.mp4"
    path.write_text("not a film")
    predictor = networks.predictor(str(run), several=False)
    with pytest.raises(DataError, match=r"^holiday\.mp4: not a video that can be read") as error:
        predict_clip(path, "holiday.mp4", predictor, Limits(), 10, tmp_path / "answer")
    assert str(tmp_path) not in str(error.value)


def test_answers_do_not_pile_up(monkeypatch):
    folders = ResultFolders()
    old, young = folders.new(), folders.new()
    (old / "clip.mp4").touch()
    os.utime(old, (0, time.time() - KEEP_S - 60))
    new = folders.new()
    assert sorted(new.parent.iterdir()) == sorted([young, new])
    listed = [new.parent / "gone", new]
    monkeypatch.setattr(Path, "iterdir", lambda self: listed)
    assert folders.new().is_dir(), "a folder that another answer took away meanwhile"
    monkeypatch.undo()
    del folders
    gc.collect()
    assert not new.parent.exists()


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "wall.png"
    Image.new("L", (4000, 3000)).save(path)
    with pytest.raises(DataError, match=r"wall\.png: 4000 × 3000 are 12 megapixels, more"):
        predict_picture(path, "wall.png", None, Limits(megapixels=10), tmp_path)


def test_visitors_open_offered_networks_only(networks, run, tmp_path):
    assert list(networks.names()) == [str(run), "small", "large"]
    with pytest.raises(ConfigError, match="not one of the networks of this page"):
        networks.predictor(str(tmp_path), several=False)


def test_visitors_see_no_files_of_this_machine(photo):
    with pytest.raises(DataError, match="not an upload: files of this machine are not shown"):
        _file({"path": str(photo), "orig_name": "x.png"}, "a picture")
    with pytest.raises(DataError, match="no picture yet: upload a picture first"):
        _file(None, "a picture")


def test_a_host_that_is_not_this_machine(run):
    with pytest.raises(ConfigError, match="type another port, as port=7860, or host=127"):
        serve(app_config("host=nowhere.invalid", "port=7999", f"run={run}"))


def test_it_stays_on_this_machine_and_tells_nobody():
    settings = launch_settings(app_config("max_file_mb=7"))
    assert settings["server_name"] == "127.0.0.1"
    assert settings["share"] is False
    assert settings["enable_monitoring"] is False
    assert settings["max_file_size"] == "7mb"
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


def test_a_port_that_is_taken(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port={port}: cannot listen there"):
            serve(app_config(f"port={port}", f"run={run}"))


@pytest.mark.slow
def test_two_visitors_in_a_browser(run, photo, tmp_path):
    bad = tmp_path / "notes.png"
    bad.write_text("no picture at all")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = build_page(app_config(f"port={port}", f"run={run}", f"paths.runs={tmp_path}"))
    settings = launch_settings(app_config(f"port={port}"))
    page.launch(**settings, prevent_thread_lock=True, quiet=True)
    try:
        asked = []
        with open_page() as first:
            first.on("request", lambda request: asked.append(request.url))
            second = first.context.browser.new_page()
            for visitor in (first, second):
                visitor.goto(f"http://127.0.0.1:{port}")
                visitor.locator("input[type=file]").first.set_input_files(photo)
            for visitor in (first, second):
                visitor.get_by_role("button", name="Find joints").first.click()
            for visitor in (first, second):
                visitor.get_by_text("1 person in").wait_for()
                visitor.get_by_text("left wrist").first.wait_for()
            first.get_by_label("Remove").or_(first.get_by_label("Clear")).first.click()
            first.locator("input[type=file]").first.set_input_files(Path(bad))
            first.get_by_role("button", name="Find joints").first.click()
            first.get_by_text("not an image that can be read").wait_for()
        assert asked
        assert all(f"127.0.0.1:{port}" in url for url in asked if url.startswith("http"))
    finally:
        page.close()
