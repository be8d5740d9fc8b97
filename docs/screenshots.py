"""Take the pictures of TensorBoard and of the page of compare in the docs, of a real sweep.

``python docs/screenshots.py`` trains eight small networks on synthetic people, some minutes on two
cores, and photographs three tabs of TensorBoard and the page with a headless Chromium.
``--logdir FOLDER`` takes the runs of a study that is there.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

SWEEP = (
    *("-m", "data=synthetic", "data.sources.synthetic.num_images=80", "data.input_size_px=32"),
    *("data.sources.synthetic.image_size_px=96", "data.num_workers=0", "trainer=cpu"),
    *("model.depth=11", "model.width=0.125", "trainer.max_epochs=4", "study=rates"),
    *("optimizer.lr=0.003,0.01,0.03,0.1", "data.batch_size=4,8"),
)
TABS = {  # name of the picture, what is drawn last, and how much of it
    "timeseries": ("curves", "line-chart svg path", 60),
    "images": ("images", "tf-image-loader img", 2),
    "hparams": ("hparams", "vaadin-grid-cell-content", 60),
}
WIDTH, HEIGHT = 1400, 900
PATIENCE_MS = 300_000
# without WebGL, curves are elements of the page, whose number says when all are drawn
OPTIONS = ("--no-sandbox", "--disable-3d-apis")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def board(runs: Path) -> Iterator[str]:
    """Start TensorBoard on a folder; the address where it answers."""
    options = ("--logdir", runs.name, "--host", "127.0.0.1", "--port", "0")
    command = [sys.executable, "-m", "tensorboard.main", *options]
    process = subprocess.Popen(command, cwd=runs.parent, stderr=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stderr or ())
        yield next(found[0] for line in lines if (found := re.search(r"http://[^ ]+/", line)))
    finally:
        process.kill()
        process.communicate()


def photograph(page: Page, address: str, folder: Path) -> None:
    """Take one picture of each tab, when everything in it is drawn."""
    for tab, (name, drawn, count) in TABS.items():
        page.goto("about:blank")
        page.goto(f"{address}#{tab}")
        page.locator(drawn).nth(count - 1).wait_for(state="attached")
        save(page, folder / f"tensorboard_{name}.png")


def save(page: Page, path: Path, whole: bool = False) -> None:
    """Save what a page shows in 256 colours, a third of the size."""
    page.wait_for_timeout(5_000)  # for the last animation
    page.screenshot(path=path, full_page=whole)
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def main() -> None:
    """Train if needed, then photograph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logdir", type=Path, help="a study; otherwise one is trained")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with tempfile.TemporaryDirectory() as temporary:
        runs = given.logdir or Path(temporary) / "rates"
        run = [sys.executable, "-m"]
        if given.logdir is None:
            command = [*run, "convpose.train", *SWEEP, f"paths.runs={temporary}"]
            subprocess.run(command, check=True)
        told = (f"study={runs}", f"output={temporary}")
        subprocess.run([*run, "convpose.compare", *told], check=True)
        with board(runs) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=[*OPTIONS])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.set_default_timeout(PATIENCE_MS)
            photograph(page, address, given.output)
            page.goto(f"file://{temporary}/compare.html")
            save(page, given.output / "compare.png", whole=True)
            browser.close()


if __name__ == "__main__":
    main()
