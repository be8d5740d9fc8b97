"""Take the pictures of TensorBoard in the docs: ``python docs/screenshots.py``, of a real sweep.

Trains eight small networks on synthetic people, some minutes on two cores, and photographs three
tabs of TensorBoard with a headless Chromium. ``--logdir FOLDER`` takes runs that are there.
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

from playwright.sync_api import Page, sync_playwright

SWEEP = (
    *("-m", "data=synthetic", "data.sources.synthetic.num_images=80", "data.input_size_px=32"),
    *("data.sources.synthetic.image_size_px=96", "data.num_workers=0", "trainer=cpu"),
    *("model.depth=11", "model.width=0.125", "trainer.max_epochs=4", "study=rates"),
    *("optimizer.lr=0.003,0.01,0.03,0.1", "data.batch_size=4,8"),
)
NAMES = {"timeseries": "curves", "images": "images", "hparams": "hparams"}  # of the tabs
WIDTH, HEIGHT = 1400, 900
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def board(runs: Path) -> Iterator[str]:
    """Start TensorBoard on a folder; the address where it answers."""
    options = ("--logdir", str(runs), "--host", "127.0.0.1", "--port", "0")
    command = [sys.executable, "-m", "tensorboard.main", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stderr or ())
        yield next(found[0] for line in lines if (found := re.search(r"http://[^ ]+/", line)))
    finally:
        process.kill()
        process.communicate()


def photograph(page: Page, address: str, folder: Path) -> None:
    """Take one picture of each tab, when everything in it is drawn."""
    for tab, name in NAMES.items():
        page.goto("about:blank")
        page.goto(f"{address}#{tab}")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(20_000)  # curves and pictures are drawn after the last answer
        page.screenshot(path=folder / f"tensorboard_{name}.png")


def main() -> None:
    """Train if needed, then photograph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logdir", type=Path, help="folder of runs; otherwise they are trained")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with tempfile.TemporaryDirectory() as temporary:
        runs = given.logdir or Path(temporary) / "runs"
        if given.logdir is None:
            command = [sys.executable, "-m", "convpose.train", *SWEEP, f"paths.runs={runs}"]
            subprocess.run(command, check=True)
        with board(runs) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            photograph(page, address, given.output)
            browser.close()


if __name__ == "__main__":
    main()
