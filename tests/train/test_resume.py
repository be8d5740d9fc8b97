"""Continuing a training: bit-equal to an unbroken one, and refused where it cannot be."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import QUIET, RANDOM, assert_same, assert_same_run, history, saved, tiny_config, tiny_run
from torch import nn

from convpose.errors import ConfigError, ModelError
from convpose.history import read_history
from convpose.models.build import build_model
from convpose.run import Run
from convpose.skeleton import LSP14
from convpose.train.build import build_module
from convpose.train.callbacks import EarlyStopping, NanGuard
from convpose.train.checkpoints import BestAndLast
from convpose.train.resume import (
    check_checkpoint,
    check_optimizer,
    check_run,
    checkpoint_to_resume,
)

pytestmark = pytest.mark.slow


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
    cut_off(monkeypatch, tmp_path, epoch, *RANDOM, *QUIET)
    tiny_run(tmp_path, *RANDOM, *QUIET, "ckpt_path=last")
    assert [row["epoch"] for row in history(tmp_path)] == [0, 1, 2, 3]
    assert_same_run(tmp_path, unbroken)


def test_a_moving_average_continues(tmp_path, monkeypatch):
    overrides = (
        *("callbacks=[default,ema]", "callbacks.ema.decay=0.5", "trainer.max_epochs=2"),
        *QUIET,
    )
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
        *("trainer.max_epochs=9", "callbacks.early_stopping.patience=2", *QUIET),
        "+callbacks.early_stopping.min_delta=1.0",  # nothing is ever better than the first epoch
    )
    cut_off(monkeypatch, tmp_path, 2, *overrides)
    tiny_run(tmp_path, *overrides, "ckpt_path=last")
    assert [row["epoch"] for row in history(tmp_path)] == [0, 1, 2]
    tiny_run(tmp_path, *overrides, "ckpt_path=last")
    assert [row["epoch"] for row in history(tmp_path)] == [0, 1, 2], "it stays stopped"
    tiny_run(tmp_path, *overrides, "ckpt_path=last", "callbacks.early_stopping.patience=3")
    assert [row["epoch"] for row in history(tmp_path)] == [0, 1, 2, 3], "unless it may wait longer"


def test_a_negative_patience_is_refused():
    told = r"callbacks\.early_stopping\.patience=-1: .*\.early_stopping=null trains all"
    with pytest.raises(ConfigError, match=told):
        EarlyStopping("val/loss", patience=-1)


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


@pytest.fixture
def kept(unbroken, tmp_path):
    """A copy of the checkpoints of a run of four epochs."""
    shutil.copytree(unbroken / "checkpoints", tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def test_checkpoint_to_resume(kept, tmp_path):
    last = kept / "last.ckpt"
    assert checkpoint_to_resume("last", tmp_path) == last
    assert checkpoint_to_resume(str(last), tmp_path / "elsewhere") == last
    empty = tmp_path / "elsewhere"
    assert checkpoint_to_resume(None, empty) is None
    assert checkpoint_to_resume("last", empty) is None, "a queue may repeat the same command"


def test_a_run_is_not_overwritten_by_another(kept, tmp_path):
    with pytest.raises(ConfigError, match=r": holds a run already; type ckpt_path=last to cont"):
        checkpoint_to_resume(None, tmp_path)
    (kept / "last.ckpt").unlink()
    with pytest.raises(ConfigError, match="holds a run already"):
        checkpoint_to_resume(None, tmp_path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-3000])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # which does not notice


def replace_by_code(path):
    torch.save({"state_dict": {}, "extra": pytest.raises}, path)


DAMAGES = {
    "not a zip": lambda path: path.write_bytes(b"\0" * 5000),
    "not a zip file": lambda path: path.write_bytes(b""),
    "zip": cut,
    "the checksum of .* does not match": flip_a_bit,
    "Weights only load failed": replace_by_code,
}


@pytest.mark.parametrize("problem", DAMAGES)
def test_the_one_before_stands_in_for_a_damaged_checkpoint(problem, kept, tmp_path, caplog):
    DAMAGES[problem](kept / "last.ckpt")
    with caplog.at_level(logging.WARNING):
        assert checkpoint_to_resume("last", tmp_path) == kept / "previous.ckpt"
    (record,) = caplog.records
    assert re.fullmatch(
        rf".*last\.ckpt is damaged \(.*{problem}.*\); continuing from .*previous\.ckpt",
        record.getMessage(),
    )


def test_the_one_before_serves_where_the_last_is_gone(kept, tmp_path):
    (kept / "last.ckpt").unlink()
    assert checkpoint_to_resume("last", tmp_path) == kept / "previous.ckpt"


def test_nothing_but_damaged_checkpoints(kept, tmp_path):
    cut(kept / "last.ckpt")
    cut(kept / "previous.ckpt")
    with pytest.raises(
        ModelError, match=r"last\.ckpt is damaged .* and .*previous\.ckpt is damaged .*; type hydra"
    ):
        checkpoint_to_resume("last", tmp_path)


def test_a_run_with_a_damaged_checkpoint_ends_as_the_unbroken_one(unbroken, tmp_path, monkeypatch):
    cut_off(monkeypatch, tmp_path, 3, *RANDOM, *QUIET)
    assert (saved(tmp_path, "previous")["epoch"], saved(tmp_path)["epoch"]) == (1, 2)
    flip_a_bit(tmp_path / "checkpoints" / "last.ckpt")
    cut_off(monkeypatch, tmp_path, 2, *RANDOM, *QUIET, "ckpt_path=last")  # in the first epoch again
    assert saved(tmp_path, "previous")["epoch"] == 1, "the good one is still there"
    tiny_run(tmp_path, *RANDOM, *QUIET, "ckpt_path=last")
    assert_same_run(tmp_path, unbroken)


def test_the_epochs_behind_a_checkpoint(unbroken, tmp_path, monkeypatch):
    module = nn.ModuleDict({"model": build_model(tiny_config())})
    kept = [unbroken / "checkpoints" / f"{name}.ckpt" for name in ("previous", "last")]
    assert [check_checkpoint(path, module, max_epochs=4) for path in kept] == [3, 4]
    cut_off(monkeypatch, tmp_path, 0, *QUIET)
    assert check_checkpoint(tmp_path / "checkpoints" / "last.ckpt", module, max_epochs=1) == 0


def on_a_gpu(path: Path, copy: Path) -> Path:
    """A checkpoint as a GPU writes it."""
    content = torch.load(path, weights_only=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save(content, copy)
    return copy


def test_a_checkpoint_of_a_gpu_continues_without_one(unbroken, tmp_path):
    path = on_a_gpu(unbroken / "checkpoints" / "last.ckpt", tmp_path / "gpu.ckpt")
    cfg = tiny_config()
    module = build_module(cfg, build_model(cfg))
    assert check_checkpoint(path, module, max_epochs=4) == 4
    check_optimizer(path, module)


@pytest.mark.parametrize(
    "override",
    ["optimizer=adamw", "parameters.backbone_lr=0.1", "parameters.decay_norms=true"],
)
def test_the_checkpoint_of_another_optimizer(override, unbroken):
    cfg = tiny_config(override)
    with pytest.raises(
        ModelError, match=r"of another optimizer or of other groups.*type the optimizer and param"
    ):
        check_optimizer(unbroken / "checkpoints" / "last.ckpt", build_module(cfg, build_model(cfg)))


def test_a_rate_that_has_no_effect_is_said(unbroken, caplog):
    path = unbroken / "checkpoints" / "last.ckpt"
    for override in ("optimizer.lr=0.5", "optimizer.lr=0.25"):
        cfg = tiny_config(override)
        check_optimizer(path, build_module(cfg, build_model(cfg)))
    (record,) = caplog.records
    assert record.getMessage() == f"ckpt_path={path}: its optimizer goes on with lr=0.5, not 0.25"


def test_weights_alone_are_not_continued(unbroken, tmp_path):
    weights = {"state_dict": saved(unbroken)["state_dict"]}
    torch.save(weights, tmp_path / "weights.ckpt")
    model = nn.ModuleDict({"model": build_model(tiny_config())})
    with pytest.raises(ModelError, match=r"without the state of a training; type weights=.*ckpt$"):
        check_checkpoint(tmp_path / "weights.ckpt", model, max_epochs=4)


def test_tensorboard_forgets_what_is_repeated(unbroken, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:  # dies between the row and the checkpoint of an epoch
        patch.setattr(BestAndLast, "on_train_epoch_end", die_in_epoch(2))
        with pytest.raises(CutOff):
            tiny_run(tmp_path, *RANDOM)
    assert [row["epoch"] for row in history(tmp_path)] == [0, 1, 2]
    tiny_run(tmp_path, *RANDOM, "ckpt_path=last")
    curves = []
    for folder in (tmp_path, unbroken):
        events = EventAccumulator(str(folder))
        events.Reload()
        curves.append([(e.step, e.value) for e in events.Scalars("main/train/loss")])
    assert [step for step, _ in curves[0]] == [0, 1, 2, 3]
    assert curves[0] == curves[1]


def die_in_epoch(epoch):
    original = BestAndLast.on_train_epoch_end

    def save(self, trainer, module):
        if trainer.current_epoch == epoch:
            raise CutOff
        original(self, trainer, module)

    return save


def test_the_checkpoint_of_another_network(unbroken):
    path = unbroken / "checkpoints" / "last.ckpt"
    for override in ("model.width=0.125", "model.depth=13", "head.hidden=8"):
        model = nn.ModuleDict({"model": build_model(tiny_config(override))})
        with pytest.raises(ModelError, match=r"of another network: \d+ tensors are missing, left"):
            check_checkpoint(path, model, max_epochs=9)
    check_checkpoint(path, nn.ModuleDict({"model": build_model(tiny_config())}), max_epochs=9)


def split_of(run):
    return json.loads((run / "splits.json").read_text())


def test_a_run_goes_on_with_its_own_split_and_monitor(unbroken, tmp_path):
    split, same = split_of(unbroken), tiny_config(*RANDOM, "ckpt_path=last")
    check_run(Run(unbroken), same, split)
    moved = {**split, "train": split["train"][1:], "val": [*split["val"], split["train"][0]]}
    with pytest.raises(ConfigError, match=r"was trained on another split; type the data keys of "):
        check_run(Run(unbroken), same, moved)
    other = tiny_config(*RANDOM, "ckpt_path=last", "monitor=val/auc")
    with pytest.raises(ConfigError, match=r"was kept by val/pck@0\.2; type monitor=val/pck@0\.2"):
        check_run(Run(unbroken), other, split)
    (tmp_path / "splits.json").write_text("{")  # damaged: written anew by the training
    check_run(Run(tmp_path), other, split)


@pytest.mark.parametrize(
    ("overrides", "change"),
    [
        (["data.input_size_px=64"], "data.input_size_px=64, not 32"),
        (["data.crop=image"], "data.crop=image, not box"),
        (
            ["data.crop={synthetic:box}"],
            "data.crop=None, not box; data.crop.synthetic=box, not None",
        ),
        (["data.skeleton=coco17"], "data.skeleton=coco17, not lsp14"),
        (
            [f"data.skeleton={{name:lsp14,keypoints:[{','.join(LSP14.keypoints)}],normaliser:90}}"],
            "data.skeleton=lsp14, of other keypoints or another normaliser",
        ),
        (["data.names={head_top:crown}"], "data.names.head_top=crown, not None"),
        (["data.sources.synthetic.seed=7"], "data.sources.synthetic.seed=7, not 0"),
    ],
)
def test_a_run_goes_on_with_its_own_data(overrides, change, unbroken):
    """The skeleton's file may have changed, and not its name."""
    cfg = tiny_config(*RANDOM, *overrides, "ckpt_path=last")
    told = f"was trained with other data ({change}); type the data keys of its run, or weights="
    with pytest.raises(ConfigError, match=re.escape(told)):
        check_run(Run(unbroken), cfg, split_of(unbroken))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["trainer.max_epochs=9", "data.num_workers=2", "callbacks.early_stopping.patience=3"], ""),
        (["data.source=moved.zip", "data.cache=moved", "+data.sources.synthetic.upright=auto"], ""),
        (["seed=5", "scheduler.final=0.5"], "seed=5, not 0; scheduler.final=0.5, not 0.0"),
        (["data.repeat={synthetic:3}"], "data.repeat.synthetic=3, not None"),
        (
            ["callbacks=[default,ema]"],
            "callbacks.ema=Ema, not None; callbacks.ema.decay=0.999, not N",
        ),
        (["head.standardize=false"], "head.standardize=False, not True"),
        (["trainer.limit_val_batches=2"], "trainer.limit_val_batches=2, not None"),
        (
            ["weights=large", "lr_find=true"],
            "its own weights, not weights=large; its own rate, not",
        ),
    ],
)
def test_changed_keys_of_a_continued_run_are_told(overrides, told, unbroken, caplog):
    cfg = tiny_config(*RANDOM, *overrides, "ckpt_path=last")
    check_run(Run(unbroken), cfg, split_of(unbroken))
    message = caplog.records[0].getMessage() if caplog.records else ""
    assert message.startswith(f"ckpt_path=last: goes on with {told}" if told else "")
    assert bool(message) == bool(told)
    assert (cfg.weights, cfg.lr_find) == (None, False), "what the run began with is not rewritten"


def test_a_checkpoint_of_another_folder_is_held_against_its_run(unbroken, tmp_path, monkeypatch):
    monkeypatch.chdir(unbroken / "checkpoints")
    more = ("ckpt_path=last.ckpt", "trainer.max_epochs=9", "data.train_share=0.5")
    with pytest.raises(
        ConfigError, match=r"\.\. was trained on another split; .* weights=\.\. to st"
    ):
        tiny_run(tmp_path / "new", *RANDOM, *QUIET, *more)
    assert not (tmp_path / "new").exists()


def test_another_split_is_refused_before_anything_is_written(unbroken, tmp_path):
    run = Path(shutil.copytree(unbroken, tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    more = ("data.sources.synthetic.num_images=60", "trainer.max_epochs=9", "ckpt_path=last")
    with pytest.raises(ConfigError, match=r"with other data \(.*num_images=60, not 40\); type the"):
        tiny_run(run, *RANDOM, *more)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
