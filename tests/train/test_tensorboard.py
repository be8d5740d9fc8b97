"""TensorBoard in a browser, on a sweep of real runs: curves, pictures and HParams."""

import contextlib
import itertools
import json
import re
from pathlib import Path

import pytest
from browser import eventually, open_page
from tiny import TINY, start

from convpose.history import read_history

pytestmark = pytest.mark.slow
RATES, SIZES = (0.01, 0.5), (4, 8)
BEST = "main-best/val/pck@0.2"
# cells by the place where they are seen: the order of the elements is another one
CELLS = """() => {
  const seen = [];
  const walk = root => root.querySelectorAll("*").forEach(element => {
    if (element.shadowRoot) walk(element.shadowRoot);
    const text = element.tagName === "VAADIN-GRID-CELL-CONTENT" ? element.innerText.trim() : "";
    const box = element.getBoundingClientRect();
    if (text && box.width) seen.push([Math.round((box.top + box.bottom) / 2), box.left, text]);
  });
  walk(document);
  return seen;
}"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The run folders of a multirun over rates and batch sizes."""
    folder = tmp_path_factory.mktemp("sweep")
    rates, sizes = (",".join(map(str, values)) for values in (RATES, SIZES))
    more = (f"optimizer.lr={rates}", f"data.batch_size={sizes}", "callbacks.preview.every_epochs=1")
    given = [x for x in TINY if not x.startswith("data.batch_size")]
    process = start(folder, "-m", *given, *more, "study=sweep", "trainer.max_epochs=3")
    _, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err
    runs = sorted(path for path in (folder / "runs/sweep").iterdir() if path.is_dir())
    assert len(runs) == 4
    return runs


@pytest.fixture(scope="module")
def board(sweep):
    """The address of a TensorBoard that has read them."""
    logs = str(sweep[0].parent)
    options = ("--logdir", logs, "--host", "127.0.0.1", "--port", "0")
    process = start(sweep[0].parent, *options, module="tensorboard.main")
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
            break
    else:
        pytest.fail("TensorBoard said no address")
    yield found[0]
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def view(board):
    with open_page() as page:
        yield page


def test_the_scalars_of_all_runs_overlay(view, board, sweep):
    view.goto(f"{board}#timeseries")
    view.get_by_role("combobox", name="Filter tags (regex)").fill("^main/val/pck@0.2$")

    def shown():
        lines = view.locator("metrics-filtered-view card-view").first.inner_text().splitlines()
        return [line for line in lines if line.strip()]

    def complete(lines):
        return all(run.name in lines for run in sweep)

    lines = eventually(shown, complete)
    for run in sweep:
        last = read_history(run / "metrics.csv")[-1]["val/pck@0.2"]
        value, step = (lines[lines.index(run.name) + i].strip() for i in (2, 3))
        assert float(value) == pytest.approx(last, abs=1e-4)
        assert step == "2"
    assert view.locator("metrics-filtered-view card-view").count() == 1, "one chart for all"


def test_the_chart_has_a_line_for_every_run(view, board, sweep):
    view.goto("about:blank")
    view.goto(f"{board}#scalars&tagFilter=%5Emain%2Ftrain%2Floss%24")
    card = view.locator("tf-scalar-card").first

    def drawn():
        return card.locator("path.line").evaluate_all(
            "lines => lines.filter(line => (line.getAttribute('d') || '').length > 20).length"
        )

    assert eventually(drawn, lambda count: count == 8), "each smoothed and as it is"
    assert card.get_by_text("main/train/loss").count()


def test_images_step_through_the_epochs(view, board, sweep):
    view.goto(f"{board}#images")
    eventually(lambda: view.locator("tf-image-loader").count(), lambda count: count == 8)
    card = view.locator("tf-image-loader").first
    heading, picture = card.locator("tf-card-heading"), card.locator("img")
    seen = {}
    for epoch in (2, 1, 0):
        eventually(lambda: heading.inner_text().split()[1:2], [str(epoch)].__eq__)
        eventually(lambda: picture.evaluate("image => image.naturalWidth"), bool)
        seen[epoch] = picture.get_attribute("src")
        card.locator("#steps").focus()
        view.keyboard.press("ArrowLeft")
    assert len(set(seen.values())) == 3


def table(view):
    """The header and the rows of HParams, as they are seen."""
    rows: list[list[tuple[float, str]]] = []
    last = 0
    for y, x, text in sorted(view.evaluate(CELLS)):
        if y - last > 8:
            rows.append([])
        rows[-1].append((x, text))
        last = y
    return [[text for _, text in sorted(cells)] for cells in rows]


@pytest.fixture
def hparams(view, board):
    view.goto(f"{board}#hparams")
    return eventually(lambda: table(view), lambda rows: len(rows) == 5 and min(map(len, rows)) > 7)


def test_hparams_list_the_runs_with_their_values_and_metrics(hparams, sweep, view):
    header, *rows = hparams
    assert header[0] == "Trial ID"
    assert header[2:4] == ["data.batch_size", "optimizer.lr"], "first of all what was varied"
    assert header[4] == BEST, "then the result"
    column = view.locator("vaadin-grid-cell-content").get_by_text(BEST, exact=True).first
    box = column.bounding_box()
    assert box["x"] + box["width"] < 1400, "on the first screen"
    shift = header.index(BEST) - len(header)
    found = {row[0]: row for row in rows}
    assert set(found) == {run.name for run in sweep}
    for run in sweep:
        best = json.loads((run / "metrics.json").read_text())
        assert float(found[run.name][shift]) == pytest.approx(best["val/pck@0.2"], rel=1e-3)
    values = {(float(row[1]), float(row[2])) for row in rows}
    assert values == set(itertools.product(SIZES, RATES))
    names = view.locator("tf-hparams-query-pane paper-checkbox").all_inner_texts()
    assert "optimizer.momentum" not in names
    assert "hp_metric" not in names


def test_hparams_sort_the_runs_by_the_best_metric(hparams, view):
    for label, choice in (("Sort by", BEST), ("Direction", "Descending")):
        menu = view.locator(f"tf-hparams-query-pane paper-dropdown-menu[label='{label}']")
        menu.click()
        menu.locator("paper-item").get_by_text(choice, exact=True).click()
    header = hparams[0]
    shift = header.index(BEST) - len(header)

    def values():
        with contextlib.suppress(ValueError, IndexError):  # the table is being drawn
            return [float(row[shift]) for row in table(view)[1:]]
        return []

    found = eventually(values, lambda found: found and found == sorted(found, reverse=True))
    assert len(found) == 4


def test_the_runs_left_nothing_but_events(sweep):
    for run in sweep:
        assert not list(run.rglob("hparams.yaml"))
        assert len(list(Path(run).glob("events.out.tfevents.*"))) == 1
