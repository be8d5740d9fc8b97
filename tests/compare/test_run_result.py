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


class TestUnfinished:
    def test_killed_or_running(self, folder):
        note(folder, seconds=None)
        run = read_run_result(folder)
        assert run.state == "unfinished: 4 of 10 epochs, still running or killed"
        assert not run.complete

    def test_failed_after_some_epochs(self, folder):
        note(folder, seconds=None)
        (folder / "error.txt").write_text("the loss is nan in epoch 4\n\nTraceback …")
        assert (
            read_run_result(folder).state == "failed: the loss is nan in epoch 4 (4 of 10 epochs)"
        )

    def test_failed_once_and_finished_later(self, folder):
        (folder / "error.txt").write_text("out of memory\n")
        assert read_run_result(folder).state == "finished"

    def test_pruned_by_a_search(self, folder):
        note(folder, state="pruned after 3 epochs")
        run = read_run_result(folder)
        assert (run.state, run.complete) == ("pruned after 3 epochs", True)
        note(folder, state="complete")
        assert read_run_result(folder).state == "finished"


class TestNothingToCompare:
    def reason(self, folder):
        with pytest.raises(DataError) as error:
            read_run_result(folder)
        return str(error.value)

    def test_an_empty_folder(self, tmp_path):
        assert self.reason(tmp_path) == "an empty folder"

    def test_refused(self, tmp_path):
        (tmp_path / "error.txt").write_text("optimizer: Invalid learning rate: -1\n\nTraceback")
        assert self.reason(tmp_path) == "failed: optimizer: Invalid learning rate: -1"

    def test_an_empty_error(self, tmp_path):
        (tmp_path / "error.txt").touch()
        assert self.reason(tmp_path) == "failed: unknown"

    def test_no_configuration(self, folder):
        (folder / "config.yaml").unlink()
        assert self.reason(folder) == "no config.yaml; the run never started"

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("a: [1", "config.yaml is broken: while parsing a flow sequence"),
            ("- a list", "config.yaml is broken: it holds no keys"),
            ("", "config.yaml is broken: it holds no keys"),
            ("!!python/object/apply:os.system [ls]", "config.yaml is broken: could not determine"),
            ("seed: 0", "config.yaml: no monitor, monitor_mode or trainer; of another program?"),
            (
                "{monitor: a, monitor_mode: max, trainer: 3}",
                "config.yaml: no monitor, monitor_mode or",
            ),
        ],
    )
    def test_a_broken_configuration(self, folder, text, reason):
        (folder / "config.yaml").write_text(text)
        assert self.reason(folder).startswith(reason)

    def test_bytes_that_are_no_text(self, folder):
        (folder / "config.yaml").write_bytes(b"\xff\xfe\x00")
        assert self.reason(folder).startswith("config.yaml is broken: 'utf-8' codec can't decode")

    def test_no_epoch_yet(self, folder):
        (folder / "metrics.csv").unlink()
        assert self.reason(folder) == "no epoch yet: still in its first, or killed in it"
        (folder / "error.txt").write_text("out of memory\n")
        assert self.reason(folder) == "failed: out of memory"

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"epoch,val/loss\n0,low\n", "metrics.csv: line 2 is no row of numbers"),
            (b"epoch,val/loss\n0.0,0.1\n1.0,", None),
            (b"epoch,val/loss\n0.0\n", "metrics.csv: line 2 is no row of numbers"),
            (b"\x80\x81", "metrics.csv: line 0 is no row of numbers"),
            (b"epoch\n0\0\n", "metrics.csv: line "),
            (b"", "metrics.csv: no column epoch"),
            (b"epoch,val/pck@0.2\n0,nan\n", "no epoch gave a finite val/pck@0.2"),
        ],
    )
    def test_a_broken_history(self, folder, content, reason):
        (folder / "metrics.csv").write_bytes(content)
        assert self.reason(folder).startswith(reason or "no epoch gave a finite val/pck@0.2")


class TestNotes:
    def test_a_broken_run_json(self, folder):
        (folder / "run.json").write_text('{"seconds": 1')
        run = read_run_result(folder)
        assert run.notes[0].startswith("run.json is broken: Expecting ',' delimiter")
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
