"""Runs side by side: order, columns, and the same numbers in terminal, Markdown and CSV."""

import csv
import io
import json

import pytest
from compare.fake_runs import fake_run
from rich.console import Console

from convpose.compare.columns import RANKS, duration
from convpose.compare.comparison import read_comparison
from convpose.compare.settings import to_markdown
from convpose.errors import ConfigError
from convpose.plot.tables import METRICS


@pytest.fixture
def study(tmp_path):
    """Three runs of which the second is the best."""
    for number, (rate, size, pck) in enumerate(((0.1, 8, 0.3), (0.01, 8, 0.6), (0.1, 16, 0.45))):
        name = f"2026-11-22_10-00-00_{number:03d}_lr-{rate}"
        keys = (f"optimizer.lr={rate}", f"data.batch_size={size}")
        fake_run(tmp_path / "rates" / name, *keys, pck=pck)
    return tmp_path / "rates"


def compared(folder):
    return read_comparison([folder], folder)


def cells(comparison):
    return list(csv.DictReader(io.StringIO(comparison.to_csv())))


def test_the_best_comes_first(study):
    comparison = compared(study)
    assert comparison.table().rows[0][:4] == ["…_001", "60.0", "8", "0.01"]
    assert [row[1] for row in comparison.table().rows] == ["60.0", "45.0", "30.0"]
    assert comparison.title == "rates: 3 runs"
    assert comparison.label(0) == "batch_size 8 · lr 0.01"
    assert not comparison.problems


def test_the_least_loss_comes_first(study):
    for path in study.glob("*/config.yaml"):
        text = path.read_text().replace("val/pck@0.2", "val/loss").replace("max\n", "min\n")
        path.write_text(text)
    comparison = compared(study)
    assert (comparison.monitor, comparison.mode) == ("val/loss", "min")
    assert comparison.columns[1].name == "val/loss"
    assert list(comparison.columns[1].values) == sorted(comparison.columns[1].values)
    assert [column.name for column in comparison.of_kind("key")] == [
        "data.batch_size",
        "optimizer.lr",
    ]


def test_the_metrics_are_those_of_the_best_epoch(study):
    folder = next(study.glob("*_001_*"))
    rows = "epoch,val/loss,val/pck@0.2,seconds\n0,0.2,0.7,5\n1,0.1,0.65,5\n2,0.3,nan,5\n"
    (folder / "metrics.csv").write_text(rows)
    best = cells(compared(study))[0]
    assert (best["val/pck@0.2"], best["val/loss"]) == ("0.7", "0.2")
    assert (best["best_epoch"], best["epochs"], best["seconds"]) == ("1", "3", "15.0")
    assert best["val/auc"] == "", "it has none"


def test_the_csv_has_everything(study):
    first, *_ = cells(compared(study))
    assert first["run"] == "2026-11-22_10-00-00_001_lr-0.01"
    assert first["data.batch_size"] == "8"
    assert float(first["val/pck@0.2"]) == pytest.approx(0.6)
    assert (first["parameters"], first["revision"], first["state"]) == (
        "1234567",
        "abc",
        "finished",
    )
    assert "seed" not in first, "it does not differ"


def test_the_markdown_has_all_runs_and_what_is_missing(study):
    (study / "empty").mkdir()
    text = to_markdown(compared(study))
    assert text.count("| …_00") == 3
    assert "| …_001 |      60.0 |" in text
    assert text.endswith("- `empty`: an empty folder\n")


def test_a_narrow_terminal_gets_fewer_columns(study):
    comparison = compared(study)
    wide, narrow, least = (comparison.table(width=width) for width in (200, 60, 1))
    assert "val/loss" in wide.header
    assert "val/loss" not in narrow.header
    assert {"run", "PCK@0.2 %", "lr", "batch_size"} <= set(narrow.header)
    assert list(least.header)[:2] == ["run", "PCK@0.2 %"]
    console = Console(width=60, file=io.StringIO())
    console.print(narrow.to_rich())
    text = console.file.getvalue()
    assert "…_001" in text
    assert "batch_size" in text, "nothing is cut"


def test_a_long_table_says_what_it_leaves_out(study):
    table = compared(study).table(top=1)
    assert len(table.rows) == 1
    assert table.caption.endswith("more in compare.csv and compare.html: 2 runs")


def test_more_keys_than_a_terminal_has_room_for(tmp_path):
    names = ("seed", "optimizer.lr", "optimizer.momentum", "data.batch_size", "model.dropout")
    names += ("head.hidden", "trainer.max_epochs", "augment.shift")
    for i in range(2):
        fake_run(tmp_path / str(i), *(f"{name}={i + 1}" for name in names))
    comparison = compared(tmp_path)
    assert len(comparison.of_kind("key")) == 8
    assert len(comparison.table().header) == 2 + 6 + 6
    assert "more in compare.csv and compare.html: " in comparison.table().caption


def test_keys_that_follow_are_counted(tmp_path):
    fake_run(tmp_path / "a")
    other = ("optimizer.lr=0.123", "optimizer.momentum=0.1")
    fake_run(tmp_path / "b", *other, choices={"optimizer": "nag"}, facts={"overrides": []})
    comparison = compared(tmp_path)
    assert comparison.implied == ["optimizer.lr", "optimizer.momentum"]
    assert "optimizer" in comparison.table().header
    assert "lr" not in comparison.table().header
    assert comparison.table().caption.endswith("2 keys that follow from these")
    assert cells(comparison)[0]["optimizer.momentum"] == "0.9"


def test_runs_of_before_choices_were_recorded(tmp_path):
    fake_run(tmp_path / "new", "optimizer.lr=0.2")
    fake_run(tmp_path / "old", "optimizer.lr=0.1", facts={"choices": {}, "overrides": []})
    assert [c.name for c in compared(tmp_path).of_kind("key")] == ["optimizer.lr"]


def test_null_and_nothing(tmp_path):
    fake_run(tmp_path / "a", "model.weights=null")
    fake_run(tmp_path / "b", "model.weights=best.ckpt", "model.more=true")
    comparison = compared(tmp_path)
    values = {column.name: column for column in comparison.of_kind("key")}
    assert list(values["model.weights"].texts) == ["null", "best.ckpt"]
    assert list(values["model.more"].values) == [None, True]
    assert list(values["model.more"].texts) == ["–", "True"]


class TestProblems:
    def test_nothing_stops_the_rest(self, study):
        (study / "empty").mkdir()
        (study / "refused").mkdir()
        (study / "refused" / "error.txt").write_text("data.batch_size: too large\n")
        killed = next(study.glob("*_000_*"))
        (killed / "run.json").write_text('{"choices": {}}')
        comparison = compared(study)
        assert len(comparison.runs) == 3, "also the one that was killed"
        assert comparison.problems == [
            ("empty", "an empty folder"),
            ("refused", "failed: data.batch_size: too large"),
            (killed.name, "unfinished: 4 of 10 epochs, still running or killed"),
        ]
        assert [row[-1] for row in comparison.table().rows] == [
            "finished",
            "finished",
            "unfinished",
        ]

    def test_nothing_left_to_compare(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigError) as error:
            compared(tmp_path)
        assert str(error.value) == (
            f"{tmp_path}: no run to compare; type study=FOLDER or runs=[FOLDER,FOLDER], of runs "
            "that convpose.train wrote\n  empty: an empty folder"
        )

    def test_several_monitors(self, study):
        folder = fake_run(study / "other", "monitor=val/loss", "monitor_mode=min", pck=0.5)
        comparison = compared(study)
        assert comparison.monitor == "val/pck@0.2"
        assert [row[1] for row in comparison.table().rows] == ["60.0", "50.0", "45.0", "30.0"]
        assert comparison.problems == [
            (".", "1 run has another monitor; all are judged by val/pck@0.2")
        ]
        content = "epoch,val/loss\n0,0.5\n"
        (folder / "metrics.csv").write_text(content)
        last = compared(study).table().rows[-1]
        assert last[1] == "–", "it never measured what the others are judged by"

    def test_a_single_run(self, study):
        folder = next(study.glob("*_001_*"))
        comparison = compared(folder)
        assert comparison.table().rows[0][0] == folder.name
        assert "no key of the configurations differs" in comparison.table().caption
        assert comparison.label(0) == folder.name
        narrow = comparison.table(width=40)
        assert narrow.rows[0][0].endswith("…"), "or else the name pushes out the number"
        assert narrow.rows[0][1] == comparison.table().rows[0][1]
        console = Console(width=40, file=io.StringIO())
        console.print(narrow.to_rich())
        assert narrow.rows[0][1] in console.file.getvalue()

    def test_a_note_of_a_file(self, study):
        folder = next(study.glob("*_001_*"))
        (folder / "evaluate_test").mkdir()
        (folder / "evaluate_test" / "metrics.json").write_text(json.dumps([1]))
        reason = "evaluate_test/metrics.json is broken: it holds no keys"
        assert compared(study).problems == [(folder.name, reason)]


def test_several_folders_once_each(study):
    folder = next(study.glob("*_001_*"))
    assert len(read_comparison([study, folder], study).runs) == 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (198, "3 min 18 s"), (7501, "2 h 05 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_which_end_of_a_metric_is_better():
    lower = {name for name, metric in METRICS.items() if metric.less_is_better}
    assert lower == {"val/loss", "val/epe_px", "val/mse_unit", "test/epe_px"}
    of_test = {name.replace("test/", "val/") for name in METRICS if name.startswith("test/")}
    assert of_test == {"val/pck@0.2", "val/epe_px"}
    assert {name for name in RANKS if name.startswith(("val/", "test/"))} <= set(METRICS)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["data.skeleton=coco17"], "may not be comparable, for they differ in data.skeleton"),
        (
            ["data.sources.lsp._target_=a.B"],
            "may not be comparable, for they differ in data.sources",
        ),
        (["data.source=b/mine.json"], ""),
        (["data.source=b/other.json"], "may not be comparable, for they differ in data.source"),
        (["data.split=seeded", "data.skeleton.name=bug"], "in data.skeleton and data.split"),
    ],
)
def test_runs_on_other_people_or_keypoints_are_said(keys, told, study):
    for number, more in enumerate(([], keys)):
        fake_run(study / f"{number}", "data.source=a/mine.json", *more)
    caption = read_comparison([study / "0", study / "1"], study).table().caption
    assert caption.endswith(told) if told else "comparable" not in caption
