"""Continuing a training: bit-equal to an unbroken one, and refused where it cannot be."""

import json
from pathlib import Path

import pytest
import torch
from tiny import RANDOM, assert_same, assert_same_run, history, saved, tiny_config, tiny_run
from torch import nn

from convpose.build import build_model
from convpose.errors import ModelError
from convpose.report.history import read_history
from convpose.training.alarms import NanGuard
from convpose.training.resume import check_checkpoint, checkpoint_to_resume


class CutOff(BaseException):
    """As if the process had died."""


def cut_off(monkeypatch, folder: Path, epoch: int, *overrides: str) -> None:
    """A run that dies before the last batch of an epoch."""
    guard = NanGuard.on_train_batch_end

    def die(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (epoch, 1):
            raise CutOff
        guard(self, trainer, module, outputs, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(NanGuard, "on_train_batch_end", die)
        with pytest.raises(CutOff):
            tiny_run(folder, *overrides)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_continued_run_is_the_unbroken_run(epoch, unbroken, tmp_path, monkeypatch):
    cut_off(monkeypatch, tmp_path, epoch, *RANDOM)
    tiny_run(tmp_path, *RANDOM, "ckpt_path=last")
    assert [row["epoch"] for row in history(tmp_path)] == [0, 1, 2, 3]
    assert_same_run(tmp_path, unbroken)


def test_a_moving_average_continues(tmp_path, monkeypatch):
    overrides = ("callbacks=[default,ema]", "callbacks.ema.decay=0.5", "trainer.max_epochs=3")
    tiny_run(tmp_path / "unbroken", *overrides)
    cut_off(monkeypatch, tmp_path / "cut", 1, *overrides)
    tiny_run(tmp_path / "cut", *overrides, "ckpt_path=last")
    assert_same_run(tmp_path / "cut", tmp_path / "unbroken")
    content = saved(tmp_path / "cut")
    assert_same(content["current_model_state"], saved(tmp_path / "unbroken")["current_model_state"])
    name = "model.head.output.weight"
    assert not torch.equal(content["state_dict"][name], content["current_model_state"][name])


def test_early_stopping_remembers_across_a_break(tmp_path, monkeypatch):
    overrides = (
        *("trainer.max_epochs=9", "callbacks.early_stopping.patience=2"),
        "+callbacks.early_stopping.min_delta=1.0",  # nothing is ever better than the first epoch
    )
    cut_off(monkeypatch, tmp_path, 2, *overrides)
    tiny_run(tmp_path, *overrides, "ckpt_path=last")
    assert [row["epoch"] for row in history(tmp_path)] == [0, 1, 2]


def test_a_finished_run_has_its_result_at_once(unbroken, tmp_path):
    best = json.loads((unbroken / "metrics.json").read_text())
    before = history(unbroken)
    assert tiny_run(unbroken, *RANDOM, "ckpt_path=last") == best["val/pck@0.2"]
    assert history(unbroken) == before
    with pytest.raises(ModelError, match=r"4 epochs are trained already; type trainer\.max_"):
        tiny_run(unbroken, *RANDOM, "ckpt_path=last", "trainer.max_epochs=2")


def test_seconds_of_a_continued_run_are_those_of_all_epochs(unbroken):
    facts = json.loads((unbroken / "run.json").read_text())
    rows = read_history(unbroken / "metrics.csv")
    assert facts["seconds"] == pytest.approx(sum(row["seconds"] for row in rows), abs=0.06)


def test_checkpoint_to_resume(tmp_path):
    assert checkpoint_to_resume(None, tmp_path) is None
    assert checkpoint_to_resume("last", tmp_path) is None, "a queue may repeat the same command"
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    assert checkpoint_to_resume("last", tmp_path) == last
    assert checkpoint_to_resume(str(last), tmp_path) == last


def test_the_checkpoint_of_another_network(unbroken):
    path = unbroken / "checkpoints" / "last.ckpt"
    for override in ("model.width=0.125", "model.depth=13", "head.hidden=8"):
        model = nn.ModuleDict({"model": build_model(tiny_config(override))})
        with pytest.raises(ModelError, match=r"of another network: \d+ tensors are missing, left"):
            check_checkpoint(path, model, max_epochs=9)
    check_checkpoint(path, nn.ModuleDict({"model": build_model(tiny_config())}), max_epochs=9)
