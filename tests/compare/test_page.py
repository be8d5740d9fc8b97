"""The page of a comparison: charts in Plotly's schema, texts escaped, and how it behaves."""

import json
import re

import pytest
from browser import eventually, open_page
from compare.fake_runs import fake_run
from plotly.graph_objects import Figure

from convpose.compare.charts import COLOURS, GREY, colour, curves, joints, parallel
from convpose.compare.command import page
from convpose.compare.comparison import read_comparison
from convpose.compare.varied import colour_range, heat, marginals


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Twelve runs, of which run 11 is the best; one has been evaluated."""
    folder = tmp_path_factory.mktemp("study") / "rates"
    for i in range(12):
        keys = (f"optimizer.lr={10 ** (i % 3 - 3)}", f"data.batch_size={8 * 2 ** (i // 3)}")
        fake_run(folder / f"r_{i:03d}_x", *keys, pck=0.3 + 0.05 * i, epochs=3 + i % 2)
    (folder / "r_003_x" / "evaluate_test").mkdir()
    measures = {"per_joint": {"neck": {"pck@0.2": 0.815}}}
    (folder / "r_003_x" / "evaluate_test" / "metrics.json").write_text(json.dumps(measures))
    return folder


@pytest.fixture(scope="module")
def comparison(study):
    return read_comparison([study], study)


def test_plotly_knows_all_that_the_charts_say(comparison):
    losses, scores = curves(comparison)
    drawn = (*losses, scores, *joints(comparison).values(), parallel(comparison))
    for chart in (*drawn, heat(comparison), *marginals(comparison)):
        Figure(chart)  # raises at a name or value that is not in its schema
        json.dumps(chart, allow_nan=False)


def test_curves_have_a_trace_a_run_in_the_order_of_the_table(comparison):
    losses, scores = curves(comparison)
    for chart in (*losses, scores):
        assert [trace["meta"]["run"] for trace in chart["data"]] == [*range(12), None]
    best = scores["data"][0]
    assert best["x"] == [1, 2, 3, 4], "epochs are counted from 1"
    assert best["y"][-1] == pytest.approx(85)
    assert best["name"] == "batch_size 64 · lr 0.1"
    assert scores["layout"]["title"]["text"] == "PCK@0.2 %"


def test_the_best_runs_have_colours_the_others_step_back(comparison):
    *lines, _ = [trace["line"] for trace in curves(comparison)[1]["data"]]
    assert [line["color"] for line in lines] == [*COLOURS, *[GREY] * 4]
    assert lines[0]["width"] > lines[-1]["width"]
    assert len({colour(i) for i in range(8)}) == 8


def test_of_many_runs_the_median_is_drawn(comparison):
    """Twelve runs reach 0.30, 0.35 … 0.85; the even ones have three epochs, the others four."""
    median = curves(comparison)[1]["data"][-1]
    assert median["name"] == "median of 12 runs"
    assert median["x"] == [1, 2, 3, 4]
    assert median["y"][-1] == 60.0, "of the six that have a fourth: 0.35, 0.45 … 0.85"


def test_a_run_that_did_not_finish_is_marked_and_no_part_of_means(tmp_path):
    for i, (lr, size, pck) in enumerate([(1, 8, 0.2), (1, 8, 0.4), (2, 8, 0.5), (2, 16, 0.6)]):
        keys = (f"optimizer.lr={lr}", f"data.batch_size={size}", f"seed={i}")
        fake_run(tmp_path / str(i), *keys, pck=pck)
    late = fake_run(tmp_path / "late", "optimizer.lr=2", "data.batch_size=16", "seed=9", pck=0.9)
    facts = json.loads((late / "run.json").read_text())
    (late / "run.json").write_text(json.dumps({k: v for k, v in facts.items() if k != "seconds"}))
    comparison = read_comparison([tmp_path], tmp_path)
    dashes = [trace["line"].get("dash") for trace in curves(comparison)[1]["data"]]
    assert dashes == ["dot", None, None, None, None]
    assert page(comparison).count('class="unfinished"') == 1
    (cells,) = heat(comparison)["data"]
    assert cells["text"] == [["30.0", "50.0"], ["", "60.0"]], "rows: batch size 8 and 16"
    rate, size = marginals(comparison)
    assert rate["layout"]["xaxis"]["title"]["text"] == "lr", "medians 30 and 55: the wider range"
    points, medians = rate["data"]
    assert points["marker"]["symbol"] == ["circle-open", *["circle"] * 4]
    assert (medians["x"], medians["y"]) == ([0, 1], [30.0, 55.0])
    assert size["data"][1]["y"] == [40.0, 60.0]


@pytest.mark.parametrize(
    ("values", "less", "ends"),
    [
        ([1.0, 5.0, 6.0], False, (3.0, 6.0)),
        ([4.0, 4.0, 8.0], False, (4.0, 8.0)),
        ([2.0, 4.0, 40.0], True, (2.0, 8.0)),
        ([1.0, 2.0, 3.0], True, (1.0, 3.0)),
    ],
)
def test_colours_end_at_the_worst_run_or_before_it(values, less, ends):
    assert colour_range(values, less) == ends


def test_keys_drawn_at_random_are_points_and_one_key_has_no_cells(tmp_path):
    for i in range(13):
        fake_run(tmp_path / str(i), f"optimizer.lr={0.01 * 1.5**i}", pck=0.3 + i / 100)
    comparison = read_comparison([tmp_path], tmp_path)
    assert heat(comparison) is None
    (chart,) = marginals(comparison)
    (points,) = chart["data"]
    assert sorted(points["x"]) == pytest.approx([0.01 * 1.5**i for i in range(13)])
    assert chart["layout"]["xaxis"]["type"] == "log"


def test_epochs_without_validation_are_bridged_and_one_epoch_is_a_point(tmp_path):
    folder = fake_run(tmp_path / "run")
    rows = "epoch,train/loss,val/loss,val/pck@0.2\n0,1,,\n1,2,3,0.5\n2,nan,,\n"
    (folder / "metrics.csv").write_text(rows)
    losses, scores = curves(read_comparison([tmp_path], tmp_path))
    assert (losses[0]["data"][0]["x"], losses[0]["data"][0]["y"]) == ([1, 2], [1.0, 2.0])
    assert (scores["data"][0]["x"], scores["data"][0]["y"]) == ([2], [50.0])
    assert (losses[0]["data"][0]["mode"], scores["data"][0]["mode"]) == ("lines", "markers")


@pytest.mark.parametrize(("last", "kind"), [(0.5, "linear"), (0.01, "log"), (0.0, "linear")])
def test_losses_that_span_decades_are_logarithmic(tmp_path, last, kind):
    folder = fake_run(tmp_path / "run")
    rows = f"epoch,train/loss,val/loss,val/pck@0.2\n0,1,1,0.1\n1,{last},{last},0.2\n"
    (folder / "metrics.csv").write_text(rows)
    losses, scores = curves(read_comparison([tmp_path], tmp_path))
    assert [chart["layout"]["yaxis"]["type"] for chart in losses] == [kind, kind]
    assert "type" not in scores["layout"]["yaxis"]


def test_joints_by_split(comparison):
    charts = joints(comparison)
    assert list(charts) == ["val", "test"]
    bars = charts["val"]["data"]
    assert [bar["meta"]["run"] for bar in bars] == list(range(len(COLOURS)))
    assert bars[0]["x"][:2] == ["right ankle", "right knee"]
    assert bars[0]["y"][0] == pytest.approx(68), "0.8 of the best 0.85"
    (evaluated,) = charts["test"]["data"]
    assert (evaluated["x"], evaluated["y"], evaluated["meta"]["run"]) == (["neck"], [81.5], 8)


def test_joints_of_older_runs_come_from_their_evaluation(tmp_path):
    folder = fake_run(tmp_path / "run")
    (folder / "metrics.csv").write_text("epoch,val/pck@0.2\n0,0.5\n")
    assert joints(read_comparison([tmp_path], tmp_path)) == {}
    (folder / "evaluate_val").mkdir()
    content = '{"per_joint": {"neck": {"pck@0.2": 0.25}}}'
    (folder / "evaluate_val" / "metrics.json").write_text(content)
    (bar,) = joints(read_comparison([tmp_path], tmp_path))["val"]["data"]
    assert bar["y"] == [25]


def axes(chart):
    notes = chart["layout"]["annotations"]
    titles = [note["text"][3:-4] for note in notes if note["text"].startswith("<b>")]
    ticks = {title: {} for title in titles}
    for note in notes:
        if not note["text"].startswith("<b>"):
            ticks[titles[note["x"]]][note["text"]] = note["y"]
    return ticks


def test_parallel_axes_by_hand(comparison):
    chart = parallel(comparison)
    ticks = axes(chart)
    assert list(ticks) == ["batch_size", "lr", "time", "val/loss", "EPE px", "AUC %", "PCK@0.2 %"]
    assert ticks["lr"] == {"0.001": 0, "0.01": pytest.approx(0.5), "0.1": 1}, "logarithmic"
    assert ticks["batch_size"] == {
        "8": 0,
        "16": pytest.approx(1 / 7),
        "32": pytest.approx(3 / 7),
        "64": 1,
    }
    assert ticks["time"] == {"8 s": 0, "6 s": 1}, "less is better and points up"
    best, worst = chart["data"][0], chart["data"][-1]
    assert best["y"][3:] == [1, 1, 1, 1]
    assert worst["y"][3:] == [0, 0, 0, 0]
    assert worst["text"][1] == "lr: <b>0.001</b>"


def test_words_and_missing_numbers_on_axes(tmp_path):
    for name, key in (("a", "model.weights=null"), ("b", "model.weights=x"), ("c", "model.more=1")):
        fake_run(tmp_path / name, key, pck=0.5 if name == "a" else 0.4)
    (tmp_path / "c" / "metrics.csv").write_text("epoch,val/pck@0.2,val/auc\n0,0.1,nan\n")
    ticks = axes(parallel(read_comparison([tmp_path], tmp_path)))
    assert ticks["weights"] == {"null": 0, "x": 1}
    assert set(ticks["more"]) == {"–", "1"}
    assert "AUC %" not in ticks, "one run has none"
    assert "PCK@0.2 %" in ticks


def test_too_little_for_axes(tmp_path):
    fake_run(tmp_path / "a")
    comparison = read_comparison([tmp_path], tmp_path)
    assert parallel(comparison) is None
    assert "<h2>Parallel" not in page(comparison)


def test_texts_of_a_folder_are_no_markup(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>&"
    fake_run(tmp_path / "a", f"model.weights='{evil}'")
    fake_run(tmp_path / "<b>bold<b>", "model.weights=$title")
    (tmp_path / "<i>").mkdir()
    text = page(read_comparison([tmp_path], tmp_path))
    assert "<img" not in text.partition("<main>")[2].partition("<script>")[0]
    charts = text.partition("const charts = ")[2].partition("\n")[0]
    assert "<" not in charts
    assert "&lt;/script&gt;" in charts
    assert "&lt;i&gt;" in text
    assert "<b>bold" not in text


def test_the_page_needs_nothing_else(comparison):
    text = page(comparison)
    own = text.partition("<script>")[0] + text.rpartition("<script>")[2]
    assert not re.findall(r"""(?:src|href)\s*=\s*["'][^"'d]""", own)
    assert "default-src 'none'" in text
    assert text.count("<!doctype html>") == 1
    assert len(text) < 6_000_000


@pytest.fixture(scope="module")
def opened(comparison, tmp_path_factory):
    """The page in a browser, with the addresses that it asked for."""
    path = tmp_path_factory.mktemp("page") / "compare.html"
    path.write_text(page(comparison), encoding="utf-8")
    with open_page() as view:
        asked, said = [], []
        view.on("request", lambda request: asked.append(request.url))
        view.on("console", lambda message: said.append(message.text))
        view.goto(path.as_uri())
        yield view, asked, said
        assert said == []
        assert asked == [path.as_uri()], "nothing but itself"


def visible(view, chart):
    return view.evaluate(
        f"document.getElementById('{chart}').data.flatMap((t, i) => t.visible === false ? [] : [i])"
    )


def first_cells(view, column):
    return view.locator(f"#runs tbody tr td:nth-child({column})").all_inner_texts()


@pytest.mark.slow
def test_in_a_browser_everything_is_drawn(opened):
    view, *_ = opened
    for chart, lines in (
        ("curve-train", 13),
        ("curve-val", 13),
        ("curve-score", 13),
        ("keys-1", 1),
        ("keys-2", 1),
        ("curve-axes", 12),
    ):
        assert view.locator(f"#{chart} .js-line").count() == lines
    assert view.locator("#joints-6 .barlayer .trace").count() == len(COLOURS)
    boxes = [view.locator(f"#curve-{name}").bounding_box() for name in ("train", "val", "score")]
    assert len({box["y"] for box in boxes}) == 1, "side by side"
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"], "not on top of each other"


@pytest.mark.slow
def test_in_a_browser_the_table_sorts(opened):
    view, *_ = opened
    assert first_cells(view, 2)[0] == "85.0"
    view.get_by_role("columnheader", name="PCK@0.2 %").click()
    assert first_cells(view, 2)[0] == "30.0"
    view.get_by_role("columnheader", name="PCK@0.2 %").click()
    assert first_cells(view, 2)[0] == "85.0"
    view.get_by_role("columnheader", name="lr", exact=True).click()
    assert first_cells(view, 4) == ["0.001"] * 4 + ["0.01"] * 4 + ["0.1"] * 4
    view.get_by_role("columnheader", name="PCK@0.2 %").click(click_count=1)
    view.get_by_role("columnheader", name="PCK@0.2 %").click(click_count=1)


@pytest.mark.slow
def test_in_a_browser_a_run_can_be_hidden(opened):
    view, *_ = opened
    box = view.locator("#runs tbody tr[data-run='1'] input")
    box.uncheck()
    for chart in ("curve-train", "curve-axes", "joints-6"):
        assert 1 not in visible(view, chart)
        assert 0 in visible(view, chart)
    box.check()
    assert visible(view, "curve-axes") == list(range(12))
    view.locator("#every").uncheck()
    assert visible(view, "curve-score") == [12], "the median stays"
    view.locator("#every").check()
    assert visible(view, "curve-score") == list(range(13))


@pytest.mark.slow
def test_in_a_browser_a_box_keeps_the_runs_in_it(opened):
    view, *_ = opened
    view.locator("#curve-axes").scroll_into_view_if_needed()
    x, top, middle = view.evaluate(
        """() => { const plot = document.getElementById("curve-axes"), f = plot._fullLayout;
        const box = plot.getBoundingClientRect(), y = at => box.top + f._size.t + f.yaxis.d2p(at);
        return [box.left + f._size.l + f.xaxis.d2p(6), y(1), y(0.7)]; }"""
    )
    view.mouse.move(x - 15, top - 6)
    view.mouse.down()
    view.mouse.move(x + 10, middle, steps=4)
    view.mouse.up()
    eventually(view.locator("#runs tr.off").count)
    assert visible(view, "curve-score") == [0, 1, 2, 3, 12], "the best third, and the median"

    def clicked() -> int:  # again, for on a busy machine two clicks may come too far apart
        view.mouse.dblclick(x - 60, middle)
        return view.locator("#runs tr.off").count()

    eventually(clicked, lambda count: count == 0)
    assert visible(view, "curve-score") == list(range(13))


@pytest.mark.slow
def test_in_a_browser_the_run_under_the_pointer_is_thick(opened):
    view, *_ = opened
    view.locator("#runs tbody tr[data-run='2'] td").first.hover()
    widths = view.locator(".lit .js-line").evaluate_all(
        "lines => lines.map(line => getComputedStyle(line).strokeWidth)"
    )
    assert widths == ["5px"] * 4
    view.locator("h1").hover()
    assert view.locator(".lit").count() == 0


@pytest.mark.slow
def test_in_a_browser_more_columns_and_logarithms(opened):
    view, *_ = opened
    assert not view.get_by_role("columnheader", name="revision").is_visible()
    view.get_by_label("all columns").check()
    assert view.get_by_role("columnheader", name="revision").is_visible()
    view.get_by_label("all columns").uncheck()
    view.get_by_label("logarithmic losses").check()
    eventually(
        lambda: view.evaluate("document.getElementById('curve-val').layout.yaxis.type === 'log'")
    )
    view.get_by_label("logarithmic losses").uncheck()


@pytest.mark.slow
def test_in_a_narrow_browser_nothing_is_wider_than_the_page(opened):
    view, *_ = opened
    view.set_viewport_size({"width": 400, "height": 800})
    eventually(
        lambda: view.evaluate("document.getElementById('curve-val')._fullLayout.width < 400")
    )
    assert view.evaluate("document.documentElement.scrollWidth") <= 400
    view.set_viewport_size({"width": 1400, "height": 1000})
