"""Whole trainings in this process: options, alarms, and continuing where a run was cut off."""

import json
import logging
import warnings
from pathlib import Path

import pytest
import torch
from conftest import tiny_config, tiny_run
from lightning import Trainer
from torch import nn

from convpose.build import build_model
from convpose.errors import ConfigError, ModelError
from convpose.report.history import read_history
from convpose.training import fit
from convpose.training.alarms import NanGuard
from convpose.training.fit import check_checkpoint, checkpoint_to_resume, train

CLOCKS = ("seconds", "images_per_s")
HARD = ("augment=default", "model.dropout=0.5", "trainer.max_epochs=4")  # all that is random


def history(folder: Path) -> list[dict[str, float]]:
    rows = read_history(folder / "metrics.csv")
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


def saved(folder: Path, name: str = "last") -> dict:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_same(a, b, where: str = "") -> None:
    """Bit-equality of nested containers of tensors."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def assert_same_run(one: Path, other: Path) -> None:
    assert history(one) == history(other)
    for name in ("best", "last"):
        a, b = saved(one, name), saved(other, name)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            assert_same(a[part], b[part], f"{name}.{part}")


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


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    tiny_run(folder, *HARD)
    return folder


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_continued_run_is_the_unbroken_run(epoch, unbroken, tmp_path, monkeypatch):
    cut_off(monkeypatch, tmp_path, epoch, *HARD)
    tiny_run(tmp_path, *HARD, "ckpt_path=last")
    assert [row["epoch"] for row in history(tmp_path)] == [0, 1, 2, 3]
    assert_same_run(tmp_path, unbroken)


def test_workers_change_nothing(unbroken, tmp_path):
    tiny_run(tmp_path, *HARD, "data.num_workers=1")
    assert_same_run(tmp_path, unbroken)


def test_another_seed_is_another_run(unbroken, tmp_path):
    tiny_run(tmp_path, *HARD, "seed=1")
    assert history(tmp_path) != history(unbroken)


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


def test_last_follows_every_epoch_also_when_none_is_better(tmp_path):
    tiny_run(tmp_path, "monitor=val/auc", "trainer.max_epochs=3", "optimizer.lr=1e-9")
    assert saved(tmp_path)["epoch"] == 2
    best = json.loads((tmp_path / "metrics.json").read_text())
    assert saved(tmp_path, "best")["epoch"] == best["epoch"]


def test_a_finished_run_has_its_result_at_once(unbroken, tmp_path):
    best = json.loads((unbroken / "metrics.json").read_text())
    before = history(unbroken)
    assert tiny_run(unbroken, *HARD, "ckpt_path=last") == best["val/pck@0.2"]
    assert history(unbroken) == before
    with pytest.raises(
        ConfigError, match="trainer: You restored a checkpoint with current_epoch=4"
    ):
        tiny_run(unbroken, *HARD, "ckpt_path=last", "trainer.max_epochs=2")


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
            check_checkpoint(path, model)
    check_checkpoint(path, nn.ModuleDict({"model": build_model(tiny_config())}))


def test_weights_of_a_run_start_another(unbroken, tmp_path):
    weights = unbroken / "checkpoints" / "best.ckpt"
    assert tiny_run(tmp_path, f"model.weights={weights}", "debug=fast", "logger=none") >= 0


def test_validation_every_second_epoch(tmp_path):
    tiny_run(tmp_path, "trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4")
    assert [("val/loss" in row, "train/loss" in row) for row in history(tmp_path)] == [
        *((False, True), (True, True)) * 2
    ]
    assert saved(tmp_path)["epoch"] == 3


def test_without_logger_and_callbacks(tmp_path):
    overrides = ("~callbacks.preview", "callbacks.early_stopping=null", "logger=none")
    tiny_run(tmp_path / "few", *overrides, "trainer.limit_train_batches=2")
    names = {path.name for path in (tmp_path / "few").iterdir()}
    assert not any("tfevents" in name for name in names)
    assert {"checkpoints", "metrics.csv", "metrics.json", "layers.md"} <= names
    assert saved(tmp_path / "few")["global_step"] == 4
    tiny_run(tmp_path / "none", "~callbacks", "~logger", "debug=fast")
    assert not (tmp_path / "none" / "checkpoints").exists()


def test_eight_images_by_heart(tmp_path, monkeypatch):
    seen = []
    guard = NanGuard.on_train_batch_end

    def look(self, trainer, module, outputs, batch, batch_idx):
        seen.append(tuple(batch["image_id"]))
        guard(self, trainer, module, outputs, batch, batch_idx)

    monkeypatch.setattr(NanGuard, "on_train_batch_end", look)
    pck = tiny_run(
        tmp_path,
        *("debug=overfit", "model.width=0.125", "trainer.max_epochs=300", "logger=none"),
        "+trainer.enable_checkpointing=false" if False else "~callbacks.checkpoint",
    )
    assert pck > 0.95
    assert len(set(seen)) == 1
    assert len(set(seen[0])) == 8
    assert len(seen) == 300


def test_the_found_rate_is_used_and_the_search_leaves_no_trace(tmp_path, capsys):
    search = ("data.batch_size=2", "trainer.max_epochs=3", "scheduler=constant", "logger=none")
    tiny_run(tmp_path / "found", *search, "lr_find=true")
    assert "lr_find: optimizer.lr=" in capsys.readouterr().out
    assert (tmp_path / "found" / "lr_find.png").stat().st_size > 10_000
    rate = history(tmp_path / "found")[0]["lr"]
    assert 1e-6 < rate <= 0.1
    tiny_run(tmp_path / "given", *search, f"optimizer.lr={rate}")
    assert_same_run(tmp_path / "found", tmp_path / "given")
    assert not list((tmp_path / "found").glob(".lr_find*"))


def test_a_search_over_too_few_steps(tmp_path):
    with pytest.raises(ConfigError, match="no valley; choose optimizer.lr yourself"):
        tiny_run(tmp_path, "lr_find=true", "trainer.max_epochs=1", "logger=none")
    assert not list(tmp_path.iterdir())


def broken_model(change):
    def build(cfg):
        model = build_model(cfg)
        with torch.no_grad():
            change(model.head.output)
        return model

    return build


def test_a_poisoned_weight_stops_the_training(tmp_path, monkeypatch):
    poison = broken_model(lambda layer: layer.weight[0, 0].fill_(float("nan")))
    monkeypatch.setattr(fit, "build_model", poison)
    with pytest.raises(ModelError, match="the loss is nan in epoch 0, batch 0"):
        tiny_run(tmp_path)
    assert len(json.loads((tmp_path / "nan_batch.json").read_text())["image_ids"]) == 8


def test_a_collapsed_network_is_noticed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fit, "build_model", broken_model(lambda layer: layer.weight.zero_()))
    with caplog.at_level(logging.WARNING):
        tiny_run(tmp_path, "optimizer.lr=1e-12", "callbacks.collapse_alarm.patience=2")
    assert caplog.text.count("the network gives one mean pose") == 1
    assert [row["val/spread"] for row in history(tmp_path)] == pytest.approx([0, 0], abs=1e-5)


def test_a_living_network_is_left_alone(unbroken):
    assert all(row["val/spread"] > 0.001 for row in history(unbroken))


def test_out_of_memory_gives_advice(tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "fit", full)
    with pytest.raises(ModelError, match=r"data\.batch_size=8 at data\.input_size_px=32; halve"):
        tiny_run(tmp_path)


def test_the_console_is_clean(tmp_path, monkeypatch, capsys):
    """Also on a machine with many cores, in a folder that has been trained in, and again."""
    connector = "lightning.pytorch.trainer.connectors.data_connector"
    monkeypatch.setattr(f"{connector}.suggested_max_num_workers", lambda devices: 16)
    with warnings.catch_warnings(record=True) as shown:
        for _ in range(2):
            train(tiny_config("debug=fast"), tmp_path)
    out, err = capsys.readouterr()
    assert [str(w.message) for w in shown] == []
    assert err == ""
    lines = [line.split()[0] for line in out.splitlines()]
    assert lines == ["run", "epoch", "best", "python", "tensorboard"] * 2


@pytest.mark.slow
def test_a_compiled_network_trains(tmp_path, monkeypatch):
    tiny_run(tmp_path, "compile=true", "debug=fast", "logger=none")
    assert_same(
        sorted(saved(tmp_path)["state_dict"]),
        sorted(f"model.{name}" for name in build_model(tiny_config()).state_dict()),
    )


def test_a_network_that_cannot_be_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "/no/compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="compile=true: .*compiler.*; type compile=false"):
        tiny_run(tmp_path, "compile=true", "debug=fast", "logger=none")
