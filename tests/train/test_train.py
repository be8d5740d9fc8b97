"""Whole trainings in this process: options, alarms, the console."""

import json
import logging
import os
import signal
import warnings
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from omegaconf import open_dict
from tiny import (
    QUIET,
    RANDOM,
    TINY,
    assert_same,
    assert_same_run,
    history,
    saved,
    tiny_config,
    tiny_run,
)

from convpose.data.dataset import Loader, PoseLandmarksDataset
from convpose.errors import ConfigError, ModelError
from convpose.files import conf_folder
from convpose.models.build import build_model
from convpose.train import command as fit
from convpose.train.callbacks import NanGuard
from convpose.train.command import train
from convpose.train.distributed import fit_or_explain
from convpose.train.module import PoseModule

HEADS = [
    pytest.param(head, marks=pytest.mark.slow if head != "regression" else ())
    for head in sorted(path.stem for path in (conf_folder() / "head").glob("*.yaml"))
]


def test_workers_change_nothing(unbroken, tmp_path):
    tiny_run(tmp_path, *RANDOM, *QUIET, "data.num_workers=1")
    assert_same_run(tmp_path, unbroken)


def test_another_seed_is_another_run(unbroken, tmp_path):
    tiny_run(tmp_path, *RANDOM, *QUIET, "seed=1")
    assert history(tmp_path) != history(unbroken)


def test_weights_of_a_run_start_another(unbroken, tmp_path):
    weights = unbroken / "checkpoints" / "best.ckpt"
    assert tiny_run(tmp_path, f"model.weights={weights}", "debug=fast", "logger=none") >= 0


def test_validation_every_second_epoch_by_another_monitor(tmp_path):
    tiny_run(
        tmp_path,
        *("trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4", "monitor=val/auc"),
        *("optimizer.lr=1e-9", *QUIET),  # nothing gets better
    )
    best = json.loads((tmp_path / "metrics.json").read_text())
    assert saved(tmp_path, "best")["epoch"] == best["epoch"]
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
    cfg = tiny_config("~logger", "debug=fast")
    with open_dict(cfg):
        del cfg["callbacks"]
    train(cfg, tmp_path / "none")
    assert not (tmp_path / "none" / "checkpoints").exists()


@pytest.mark.parametrize("head", HEADS)
def test_eight_images_by_heart(head, tmp_path, monkeypatch):
    seen, epochs = [], 100 if head == "integral" else 60  # it learns slowest
    guard = NanGuard.on_train_batch_end

    def look(self, trainer, module, outputs, batch, batch_idx):
        seen.append(tuple(batch["image_id"]))
        guard(self, trainer, module, outputs, batch, batch_idx)

    monkeypatch.setattr(NanGuard, "on_train_batch_end", look)
    pck = tiny_run(
        tmp_path,
        *("debug=overfit", f"head={head}", f"trainer.max_epochs={epochs}", "data.input_size_px=64"),
        *("data.sources.synthetic.image_size_px=64", "~callbacks.checkpoint", *QUIET),
        f"trainer.check_val_every_n_epoch={epochs}",
    )
    assert pck > 0.95
    assert len(set(seen)) == 1
    assert len(set(seen[0])) == 8
    assert len(seen) == epochs


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
    (batch,) = json.loads((tmp_path / "nan_batch.json").read_text())
    assert len(batch["image_ids"]) == 8


def test_a_collapsed_network_is_noticed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fit, "build_model", broken_model(lambda layer: layer.weight.zero_()))
    with caplog.at_level(logging.WARNING):
        tiny_run(tmp_path, *QUIET, "optimizer.lr=1e-12", "callbacks.collapse_alarm.patience=2")
    assert caplog.text.count("the network gives one mean pose") == 1
    assert [row["val/spread"] for row in history(tmp_path)] == pytest.approx([0, 0], abs=1e-5)


def test_a_living_network_is_left_alone(unbroken):
    assert all(row["val/spread"] > 0.001 for row in history(unbroken))


def test_out_of_memory_gives_advice(tmp_path, monkeypatch):
    """Run out of memory of this machine, which refuses the tensor; then of a GPU."""
    monkeypatch.setattr(PoseModule, "training_step", lambda *_: torch.zeros(2**60))
    with pytest.raises(
        ModelError,
        match=r"^out of memory with data\.batch_size=8 at data\.input_size_px=32; halve "
        r"data\.batch_size and double trainer\.accumulate_grad_batches, or type trainer\.precision",
    ):
        tiny_run(tmp_path, *QUIET)

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    on_gpu = SimpleNamespace(root_device=torch.device("cuda"))
    gpu = SimpleNamespace(fit=full, strategy=on_gpu, received_sigterm=False)
    with pytest.raises(ModelError, match=r"or type data\.batch_size=auto or trainer\.prec"):
        fit_or_explain(gpu, None, SimpleNamespace(batch_size=8, input_size_px=32), None)


def batches_of_a_loader_that_says(error, side_px=224):
    class Broken(PoseLandmarksDataset):
        def __init__(self):
            self.input_size_px = side_px

        def __len__(self):
            return 64

        def __getitem__(self, position):
            raise error

    return Loader(Broken(), batch_size=64, num_workers=0)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: (28)"),
            r"^/dev/shm is full: data\.batch_size=64 data\.num_workers=0 hand up to 19 MB over.*; "
            r"type data\.num_workers=0, .* --shm-size=1g$",
        ),
        (OSError(28, "No space left on device"), r"^/dev/shm is full: "),
        (OSError(24, "Too many open files"), r"^too few files can be open, .*ulimit -n\)$"),
        (RuntimeError("received 0 items of ancdata"), r"^too few files can be open"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It"),
            r"^a loading process was killed, .*type data\.num_workers=0, or num_workers=0 to",
        ),
    ],
)
def test_what_a_machine_refuses_to_a_loader(error, message):
    with pytest.raises(ModelError, match=message):
        list(batches_of_a_loader_that_says(error))


def test_little_memory_is_not_none():
    with pytest.raises(ModelError, match=r" hand up to 98 kB over in it; "):
        list(batches_of_a_loader_that_says(OSError(28, "No space left on device"), side_px=16))


def test_other_errors_of_a_loader_stay():
    with pytest.raises(RuntimeError, match="shapes"):
        list(batches_of_a_loader_that_says(RuntimeError("shapes do not match")))


SMALL_SHM = """
import ctypes, subprocess
NEW_MOUNTS = 0x20000
commands = "mount --make-rprivate /", "mount -t tmpfs -o size=16k tmpfs /dev/shm"
if ctypes.CDLL(None).unshare(NEW_MOUNTS) or any(subprocess.call(c.split()) for c in commands):
    sys.exit(77)
"""
FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (SMALL_SHM, "error: /dev/shm is full: data.batch_size=8"),
        (FEW_FILES, "error: too few files can be open, with data.batch_size=8"),
    ],
    ids=["shm", "files"],
)
def test_a_small_machine(limit, message, forker):
    life = forker.begin(*TINY, *QUIET, "data.num_workers=2", before=limit)
    if life.ended() == 77:
        pytest.skip("may not mount")
    said = life.log.read_text()
    assert life.code == 2, said
    assert said.strip().splitlines()[-1].startswith(message)
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the dead worker
def test_a_loading_process_that_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        PoseLandmarksDataset, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    )
    with pytest.raises(ModelError, match=r"^a loading process was killed, mostly because the mem"):
        tiny_run(tmp_path, *QUIET, "data.num_workers=1")


def test_the_console_is_clean(tmp_path, monkeypatch, capsys):
    """Also on a machine with many cores, and in a run that is continued."""
    connector = "lightning.pytorch.trainer.connectors.data_connector"
    monkeypatch.setattr(f"{connector}.suggested_max_num_workers", lambda devices: 16)
    with warnings.catch_warnings(record=True) as shown:
        train(tiny_config("debug=fast"), tmp_path)
        train(tiny_config("debug=fast", "ckpt_path=last", "trainer.max_epochs=3"), tmp_path)
    out, err = capsys.readouterr()
    assert [str(w.message) for w in shown] == []
    assert err == ""
    lines = [line.split()[0] for line in out.splitlines()]
    end = ["best", *["python"] * 3, "tensorboard"]
    assert lines == ["run", "epoch", "epoch", *end, "run", "epoch", *end]


@pytest.mark.slow
def test_a_compiled_network_trains(tmp_path, monkeypatch):
    tiny_run(tmp_path, "compile=true", "debug=fast", "logger=none")
    assert_same(
        sorted(saved(tmp_path)["state_dict"]),
        sorted(f"model.{name}" for name in build_model(tiny_config()).state_dict()),
    )


def test_a_network_that_cannot_be_compiled(tmp_path, monkeypatch):
    def no_compiler(*_, **__):
        raise torch._dynamo.exc.TorchDynamoException("InvalidCxxCompiler: no compiler\nmore")

    monkeypatch.setattr(Trainer, "fit", no_compiler)
    with pytest.raises(ConfigError, match=r"^compile=true: Invalid.*r; type compile=false$"):
        tiny_run(tmp_path)
