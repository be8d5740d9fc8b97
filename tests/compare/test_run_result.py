"""Run folders in every state that they are found in."""

import json

import pytest
from compare.fake_runs import fake_run

from convpose.compare.run_result import read_run_result, run_folders
from convpose.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return fake_run(tmp_path / "run", "optimizer.lr=0.1", pck=0.5, epochs=4)


def test_a_finished_run(folder):
    run = read_run_result(folder)
    assert (run.state, run.complete) == ("finished", True)
    assert (run.monitor, run.mode) == ("val/pck@0.2", "max")
    assert (run.seconds, run.images_per_s, run.parameters) == (8.0, 100.0, 1_234_567)
    assert run.best("val/pck@0.2", "max")["epoch"] == 3
    assert run.best("val/nothing", "max") == {}
    assert run.overridden == {"optimizer.lr"}
    assert run.flat(by_choice=True)["optimizer"] == "sgd"
    assert run.flat(by_choice=False)["optimizer"] == "SGD"
    assert run.flat(by_choice=True)["optimizer.lr"] == 0.1
    assert run.evaluations == {}


def note(folder, **facts):
    path = folder / "run.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (known | facts).items() if v is not None}))


@pytest.mark.parametrize(
    ("facts", "error", "state"),
    [
        ({"seconds": None}, None, "unfinished: 4 of 10 epochs, still running or killed"),
        ({"seconds": None}, "loss is nan\n\nTraceback", "failed: loss is nan (4 of 10 epochs)"),
        ({}, "out of memory\n", "finished"),  # it failed once, and was continued
        ({"state": "pruned after 3 epochs"}, None, "pruned after 3 epochs"),
        ({"state": "complete"}, None, "finished"),
    ],
)
def test_states(folder, facts, error, state):
    note(folder, **facts)
    if error:
        (folder / "error.txt").write_text(error)
    run = read_run_result(folder)
    assert run.state == state
    assert run.complete is state.startswith(("finished", "pruned"))


NO_KEYS = "config.yaml is broken: it holds no keys"
NO_ROW = "metrics.csv: line 2 is no row of numbers"
BROKEN = [  # the content of one file → why there is nothing to compare
    ("config.yaml", None, "no config.yaml; the run never started"),
    ("config.yaml", b"a: [1", "config.yaml is broken: not a YAML file (while"),
    ("config.yaml", b"- a list", NO_KEYS),
    ("config.yaml", b"", NO_KEYS),
    (
        "config.yaml",
        b"!!python/object/apply:os.system [ls]",
        "config.yaml is broken: not a YAML file (could",
    ),
    ("config.yaml", b"seed: 0", "config.yaml: no monitor, monitor_mode or trainer; of another "),
    ("config.yaml", b"{monitor: a, monitor_mode: max, trainer: 3}", "config.yaml: no monitor, "),
    ("config.yaml", b"\xff\xfe\x00", "config.yaml is broken: not UTF-8 ('utf-8'"),
    ("metrics.csv", None, "no epoch yet: still in its first, or killed in it"),
    ("metrics.csv", b"epoch,val/loss\n0,low\n", NO_ROW),
    ("metrics.csv", b"epoch,val/loss\n0.0\n", NO_ROW),
    ("metrics.csv", b"epoch,val/loss\n0.0,0.1\n1.0,", "no epoch gave a finite val/pck@0.2"),
    ("metrics.csv", b"\x80\x81", "metrics.csv: not a CSV file in UTF-8"),
    ("metrics.csv", b"epoch\n0\0\n", "metrics.csv: line "),
    ("metrics.csv", b"", "metrics.csv: no column epoch"),
    ("metrics.csv", b"epoch,val/pck@0.2\n0,nan\n", "no epoch gave a finite val/pck@0.2"),
]


def reason(folder):
    with pytest.raises(DataError) as error:
        read_run_result(folder)
    return str(error.value)


@pytest.mark.parametrize(("name", "content", "expected"), BROKEN)
def test_a_broken_run_says_why(folder, name, content, expected):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    assert reason(folder).startswith(expected)


def test_a_run_without_an_epoch_says_how_it_failed(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert reason(empty) == "an empty folder"
    (empty / "error.txt").touch()
    assert reason(empty) == "failed: unknown"
    (empty / "error.txt").write_text("optimizer: Invalid learning rate: -1\n\nTraceback")
    assert reason(empty) == "failed: optimizer: Invalid learning rate: -1"
    (folder / "metrics.csv").unlink()
    (folder / "error.txt").write_text("out of memory\n")
    assert reason(folder) == "failed: out of memory"


class TestNotes:
    def test_a_broken_run_json(self, folder):
        (folder / "run.json").write_text('{"seconds": 1')
        run = read_run_result(folder)
        assert run.notes[0].startswith("run.json is broken: not a JSON file (Expecting ',' del")
        assert run.state.startswith("unfinished")

    def test_choices_that_are_none(self, folder):
        note(folder, choices=["sgd"])
        assert read_run_result(folder).notes == [
            "run.json is broken: choices are no keys with values"
        ]

    def test_evaluations(self, folder):
        for split, content in (
            ("test", '{"per_joint": {"neck": {"pck@0.2": 0.8}, "head_top": {"pck@0.2": null}}}'),
            ("val", "[]"),
            ("lsp_test", '{"per_joint": [1]}'),
        ):
            (folder / f"evaluate_{split}").mkdir()
            (folder / f"evaluate_{split}" / "metrics.json").write_text(content)
        run = read_run_result(folder)
        assert run.evaluations == {"test": {"neck": 0.8}}
        assert run.notes == [
            "evaluate_lsp_test/metrics.json is broken: no per_joint as convpose.evaluate writes it",
            "evaluate_val/metrics.json is broken: it holds no keys",
        ]

    def test_no_layer_table(self, folder):
        (folder / "layers.md").unlink()
        assert read_run_result(folder).parameters is None


class TestFolders:
    def test_a_run_is_one(self, folder):
        assert run_folders(folder) == [folder]

    def test_of_a_study_and_of_all_studies(self, tmp_path):
        runs = [fake_run(tmp_path / study / name) for study in ("a", "b") for name in ("1", "2")]
        (tmp_path / "a" / "multirun.yaml").touch()
        (tmp_path / "b" / "empty").mkdir()
        (tmp_path / "b" / ".hidden").mkdir()
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "crops.safetensors").touch()
        assert run_folders(tmp_path / "a") == runs[:2]
        assert run_folders(tmp_path) == [*runs, tmp_path / "b" / "empty"]

    def test_what_is_left_of_a_run_is_one(self, tmp_path):
        (tmp_path / "run" / "checkpoints").mkdir(parents=True)
        assert run_folders(tmp_path) == [tmp_path / "run"]

    def test_no_deeper_than_studies(self, tmp_path):
        fake_run(tmp_path / "a" / "b" / "c" / "run")
        assert run_folders(tmp_path) == []
