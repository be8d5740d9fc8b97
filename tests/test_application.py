"""The command line in this process: messages, exit codes, folders, multirun."""

import os
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny import TINY, tiny_config

from convpose.application import (
    FailedJobs,
    choice,
    explain,
    folder_name,
    job_folder,
    remove_if_empty,
    run_folder,
    study_folder,
)
from convpose.errors import ConfigError, DataError

REFUSED = {
    "data.batch_siz=4": "unknown key data.batch_siz; did you mean batch_size?\nkeys there: batch_",
    "+model.foo=1": "unknown key model.foo; keys there: depth, width, dropout, weights",
    "data.batch_size=ten": "data.batch_size=ten: expected a whole number, got str",
    "trainer.max_epochs=abc": "trainer.max_epochs=abc: expected a whole number or null, got str",
    "model=vgg": "model=vgg: no such option; did you mean vgg_bn?\noptions there: vgg_bn",
    "model=null": "GROUP=null: a group is left out by ~GROUP",
    "data.input_size_px=16": "data.input_size_px=16: expected at least 32",
    "data.split=lsp": "data.split=lsp: the val and test part is empty for 40 images of synthetic",
    "optimizer.lr=-1": "optimizer: Invalid learning rate: -1; it was given lr=-1 momentum=0.9",
    "ckpt_path=nope.ckpt": "ckpt_path=nope.ckpt: no such file; type ckpt_path=last or a .ckpt",
    "model.weights=nope.pt": "nope.pt: no such file",
    "data.batch_size=100": "is larger than the training part with its 28 images",
    "monitor=val/pkc": "monitor=val/pkc: no such metric\nmetrics there are: val/loss, val/pck@0.2",
    "monitor=val/loss": "would choose the worst epoch; type monitor_mode=min",
    "monitor_mode=up": "monitor_mode=up: expected max or min",
    "trainer.devices=0": "it was given accelerator=cpu devices=0",
    "ckpt_path=last": "ckpt_path=last: no run of these overrides to continue",
    "foo": "missing EQUAL",
}


@pytest.mark.parametrize("override", REFUSED)
def test_refused_in_one_message_and_nothing_left(override, command):
    ended = command(*TINY, override)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert REFUSED[override] in ended.err
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) <= 4, ended.err
    assert ended.out == ""
    assert not list(Path.cwd().rglob("*.*")), "no run folder and no file is left"


def test_an_archive_that_is_not_there(command):
    ended = command("data=lspet", "data.source=/nope.zip", "model.width=0.0625", "trainer=cpu")
    assert ended.code == 2
    assert ended.err.startswith("error: data.source=/nope.zip: no such file or folder")
    assert not list(Path.cwd().glob("runs/*"))


def test_the_spread_can_be_monitored_only_if_it_is_measured(command):
    known = command(*TINY, "monitor=val/pkc").err
    assert "val/spread" in known
    without = command(*TINY, "monitor=val/spread", "~callbacks.collapse_alarm")
    assert without.code == 2
    assert "no such metric" in without.err


def test_a_defect_keeps_its_traceback(command, monkeypatch):
    def broken(cfg, folder):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("convpose.training.fit.train", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        command(*TINY)
    assert not list(Path.cwd().glob("runs/*"))


def test_what_was_written_stays_when_a_run_fails(command, monkeypatch):
    def broken(cfg, folder):
        (folder / "metrics.csv").write_text("epoch")
        raise DataError("im00001.jpg: cannot be read")

    monkeypatch.setattr("convpose.training.fit.train", broken)
    ended = command(*TINY)
    assert (ended.code, ended.err) == (2, "error: im00001.jpg: cannot be read\n")
    assert list(Path.cwd().glob("runs/single/*/metrics.csv"))


def test_ctrl_c_before_the_training(command, monkeypatch):
    def interrupted(cfg, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr("convpose.training.fit.train", interrupted)
    ended = command(*TINY)
    assert (ended.code, ended.err) == (130, "interrupted\n")
    assert not list(Path.cwd().glob("runs/*"))


def test_a_failed_job_stops_no_other_and_is_named(command, monkeypatch):
    def some(cfg, folder):
        if cfg.seed == 1:
            raise ConfigError("seed=1: unlucky\nsecond line")
        if cfg.seed == 2:
            raise RuntimeError("a defect")
        (folder / "done").touch()
        return 1.0

    monkeypatch.setattr("convpose.training.fit.train", some)
    ended = command("-m", *TINY, "seed=0,1,2,3", "study=luck")
    assert ended.code == 1
    names = sorted(path.name for path in Path("runs/luck").iterdir() if path.is_dir())
    assert [re.search(r"_(\d{3})_", name)[1] for name in names] == ["000", "001", "002", "003"]
    done = [(Path("runs/luck") / name / "done").exists() for name in names]
    assert done == [True, False, False, True]
    assert ended.err.splitlines()[-3:] == [
        "2 jobs failed:",
        f"  runs/luck/{names[1]}: seed=1: unlucky",
        f"  runs/luck/{names[2]}: a defect",
    ]
    text = (Path("runs/luck") / names[2] / "error.txt").read_text()
    assert text.startswith("a defect\n\nTraceback")

    for old in Path("runs/luck").glob("*/error.txt"):
        os.utime(old, (0, 0))
    again = command("-m", *TINY, "seed=0,3", "study=luck")
    assert again.code == 0, "errors of an older multirun in the same study are known"


def test_a_sweep_gets_the_monitored_value(command, monkeypatch):
    monkeypatch.setattr("convpose.training.fit.train", lambda cfg, folder: cfg.optimizer.lr * 10)
    values = []
    monkeypatch.setattr(
        FailedJobs,
        "on_job_end",
        lambda self, config, job_return: values.append(job_return.return_value),
        raising=False,
    )
    assert command("-m", *TINY, "optimizer.lr=0.1,0.2").code == 0
    assert values == [1.0, 2.0]


def test_a_folder_name_pastes_back():
    name = folder_name("data.batch_size-8+optimizer.lr-1e-3+callbacks-[default,ema]+split-a/b c")
    assert re.fullmatch(r"[A-Za-z0-9._+-]+", name)
    assert name.startswith("data.batch_size-8+optimizer.lr-1e-3+callbacks-_default_ema_")
    assert folder_name("") == "defaults"


def test_what_is_cut_off_a_name_still_counts():
    long = "+".join(f"key{i}-{i}" for i in range(40))
    names = {folder_name(f"{long}+lr-{lr}") for lr in (0.1, 0.01)}
    assert len(names) == 2
    assert {len(name) for name in names} == {120}


def test_run_folder_is_new_or_the_one_to_continue(tmp_path):
    runs = str(tmp_path)
    new = run_folder(runs, None, "lr-1", None)
    assert re.fullmatch(r".*/single/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_lr-1", new)
    for name in ("01_00-00-00_lr-1", "02_00-00-00_lr-1", "03_00-00-00_lr-2"):
        checkpoints = tmp_path / "s" / f"2024-01-{name}" / "checkpoints"
        checkpoints.mkdir(parents=True)
        (checkpoints / "last.ckpt").touch()
    (tmp_path / "s" / "2024-01-04_00-00-00_lr-1").mkdir()  # nothing in it to continue
    found = run_folder(runs, "s", "lr-1", "last")
    assert found == str(tmp_path / "s" / "2024-01-02_00-00-00_lr-1")
    with pytest.raises(ConfigError) as error:
        run_folder(runs, "s", "lr-3", "last")
    listed = str(error.value).splitlines()[1:]
    assert listed[0] == "runs there:"
    assert len(listed) == 4
    assert all(line.startswith("  hydra.run.dir=") for line in listed[1:])


def test_a_study_may_be_a_number(tmp_path):
    assert run_folder(str(tmp_path), 7, "a", None).startswith(f"{tmp_path}/7/")
    assert study_folder("runs", 7) == "runs/7"
    assert re.fullmatch(r"runs/sweep_[\d_-]+", study_folder("runs", None))
    assert re.fullmatch(r"[\d_-]+_003_a", job_folder(3, "a"))


def test_explain_finds_our_own_error_below_others():
    try:
        try:
            raise DataError("the file is HTML")
        except DataError as error:
            raise RuntimeError("instantiation failed") from error
    except RuntimeError as error:
        message = explain(error)
    assert message == "the file is HTML"


def test_explain_lists_the_keys():
    cfg = tiny_config()
    with pytest.raises(Exception, match="optimzer") as caught:
        OmegaConf.select(cfg, "model").optimzer  # noqa: B018
    assert explain(caught.value) == (
        "unknown key model.optimzer\nkeys there: depth, dropout, weights, width"
    )


def test_choice():
    assert choice("keys", "widht", ["depth", "width"]) == (
        "; did you mean width?\nkeys there: depth, width"
    )
    assert choice("keys", "xyz", ["depth"]) == "\nkeys there: depth"


def test_only_an_empty_folder_is_taken_away(tmp_path):
    full, empty = tmp_path / "study" / "full", tmp_path / "study" / "empty"
    for folder in (full, empty):
        folder.mkdir(parents=True)
    (full / "metrics.csv").touch()
    remove_if_empty(full)
    remove_if_empty(empty)
    remove_if_empty(tmp_path / "never")
    assert full.is_dir()
    assert not empty.exists()
