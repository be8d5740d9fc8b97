"""The page that finds joints in a browser: the same keypoints as `PosePredictor`, or a sentence."""

import functools
import http.server
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from browser import eventually, open_page
from PIL import Image

from convpose.data.synthetic import SyntheticSource
from convpose.predict.images import decode
from convpose.predict.predictor import PosePredictor

PAGE = Path(__file__).parents[1] / "docs" / "browser"
INSTALL = "npm install --prefer-offline --ignore-scripts --no-audit --no-fund onnxruntime-web"
NEAR_PX = 0.5  # of pictures some 600 px wide; JPEG is decoded a level of grey otherwise
RUNTIME = "node_modules/onnxruntime-web/dist/ort.wasm.min.mjs"

pytestmark = pytest.mark.slow  # npm unpacks a hundred megabytes


@pytest.fixture(scope="module")
def folder(onnx_file, tmp_path_factory):
    """The page as somebody would put it on a server, with a network and onnxruntime-web."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which brings onnxruntime-web, is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [npm, *INSTALL.split()[1:]], cwd=folder, capture_output=True, text=True, timeout=600
    )
    if not (folder / RUNTIME).is_file():
        pytest.skip(f"npm cannot get onnxruntime-web: {done.stderr[-200:]}")
    for file in PAGE.iterdir():
        shutil.copy(file, folder)
    shutil.copy(onnx_file, folder / "pose.onnx")
    return folder


@pytest.fixture
def visit(folder):
    """Open the page of a folder with files alone, as any server gives them out."""
    handler = functools.partial(Silent, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with open_page(width=390) as page:
            asked = []
            page.on("request", lambda request: asked.append(request.url))
            address = f"http://127.0.0.1:{server.server_port}/"
            page.goto(address)
            yield page
            assert all(url.startswith((address, "data:", "blob:")) for url in asked)
        server.shutdown()


class Silent(http.server.SimpleHTTPRequestHandler):
    """A server of files that writes no log."""

    def log_message(self, *args):
        """Say nothing."""


def pictures(folder):
    """Synthetic people as files: one large, one lying on its side, one half transparent."""
    folder.mkdir()
    people = SyntheticSource(3, 640)
    large, lying, clear = (Image.fromarray(people.read_image(i)[0]) for i in range(3))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it to the right
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    large.resize((1311, 901)).save(folder / "large.png")
    lying.resize((500, 641)).save(folder / "lying.jpg", exif=exif, quality=95)
    clear.save(folder / "clear.png")
    return sorted(folder.iterdir())


CANVAS = "document.querySelector('canvas')"


def rows(page):
    return [line.split("\t") for line in page.locator("tbody").inner_text().splitlines()]


def sure(onnx_file, path):
    """The same network, but sure of what it finds, so that it is looked at twice."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(onnx_file)
    (offset,) = (t for t in graph.graph.initializer if t.name.endswith("score_offset"))
    offset.CopyFrom(onnx.numpy_helper.from_array(np.full(14, 9, np.float32), offset.name))
    onnx.save(graph, path)
    return path


def test_the_keypoints_are_those_of_the_predictor(visit, onnx_file, tmp_path):
    visit.locator("#which", has_text="pose.onnx: 14 joints, 32 × 32 px, fp32").wait_for()
    moved_px = []
    for network in (onnx_file, sure(onnx_file, tmp_path / "sure.onnx")):
        predictor = PosePredictor.from_weights(network)
        once = PosePredictor(predictor.runtime, looks=1)
        visit.locator("#network").set_input_files(network)
        visit.locator("#which", has_text=f"{network.name}: 14 joints").wait_for()
        for picture in pictures(tmp_path / network.stem):
            visit.locator("#picture").set_input_files(picture)
            visit.locator("caption", has_text=picture.name).wait_for()
            names, *values = zip(*rows(visit), strict=True)
            image = decode(picture).image
            (person,), (first,) = predictor(image), once(image)
            assert [name.replace(" ", "_") for name in names] == [*predictor.skeleton.keypoints]
            x, y, scores = np.array(values, dtype=float)
            assert np.abs(np.stack([x, y], 1) - person.keypoints_px).max() < NEAR_PX, picture.name
            assert np.abs(scores - person.scores).max() < 0.02, picture.name
            moved_px.append(np.abs(first.keypoints_px - person.keypoints_px).max())
            assert visit.evaluate(f"[{CANVAS}.height, {CANVAS}.width]") == [*image.shape[:2]]
    assert max(moved_px) > 5 * NEAR_PX, "no picture was looked at twice"


def test_what_is_wrong_is_said(visit, onnx_file, tmp_path):
    said = visit.locator("#said")
    visit.locator("#which", has_text="14 joints").wait_for()
    other = tmp_path / "other.onnx"
    other.write_bytes(onnx_file.read_bytes().replace(b'"version": 1', b'"version": 7'))
    for file, sentence in (
        (other, "other.onnx: format version 7, this page reads 1"),
        (PAGE / "pose.js", "pose.js: not a file that convpose export format=onnx wrote"),
    ):
        visit.locator("#network").set_input_files(file)
        eventually(said.inner_text, lambda text, wanted=sentence: text == wanted)
    visit.locator("#picture").set_input_files(PAGE / "pose.js")
    sentence = "pose.js: not a picture that this browser can read; save it as JPEG, PNG or WebP"
    eventually(said.inner_text, lambda text: text == sentence)


def test_without_onnxruntime_web_the_page_asks_for_it(visit, folder):
    visit.locator("#which", has_text="14 joints").wait_for()
    (folder / "elsewhere").symlink_to("node_modules")
    visit.route("**/node_modules/**", lambda route: route.abort())
    visit.reload()
    visit.get_by_text("Type npm install onnxruntime-web in the folder of this page").wait_for()
    visit.get_by_label("folder or address").fill("elsewhere/onnxruntime-web/dist")
    visit.get_by_role("button", name="Use this folder").click()
    visit.locator("#which", has_text="14 joints").wait_for()
    assert visit.locator("#said").inner_text() == ""
