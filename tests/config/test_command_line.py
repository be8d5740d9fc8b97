"""`python -m convpose.train` as a user has it: real processes, real signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from forked import Forker
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tiny import TINY, assert_same_run, history, tiny_run

from convpose.history import read_history
from convpose.train.callbacks import NanGuard

LONG = ("data.sources.synthetic.num_images=200", "augment=default", "model.dropout=0.5")


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )


def test_predict_answers_without_importing_torch(tmp_path):
    pytest.importorskip("onnxruntime")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.jpg")
    code = (
        "import sys, runpy\n"
        "sys.argv = ['convpose', 'predict', 'photo.jpg', 'accelerator=cpu']\n"
        "runpy.run_module('convpose', run_name='__main__')\n"
        "print('imported:', sorted({'torch', 'lightning', 'matplotlib'} & set(sys.modules)))\n"
    )
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "1 pose in 1 frame; written to runs/predict\nimported: []\n"


@pytest.mark.slow
def test_mistakes_are_told_before_torch_is_imported(tmp_path):
    mistakes = {
        "export format=tflite": "format=tflite: type onnx, openvino, torchscript",
        "export output=pose.pt": "output=pose.pt: a file of format=onnx ends in .onnx",
        "export run=nowhere": "run=nowhere: the folder does not exist",
        "export weights=medium": "weights=medium: type small, large or weights=FILE.safetensors",
        "predict nothere.jpg": "source=nothere.jpg: no such file",
        "predict source=a.jpg format=xml": "format=xml: expected one of json",
        "train lr=0.1": "unknown key lr; did you mean optimizer.lr?",
        "train data.source=nothere.zip": "data.source=nothere.zip: no such file or folder; type",
        "train data=coco data.source=gone.json": "data.source=gone.json: no such file; type",
        "train data=synthetic weights=nowhere": "weights=nowhere: type small, large or",
        "train data=synthetic trainer.max_epochs=0": "trainer.max_epochs=0: expected a whole",
        "evaluate run=nowhere": "run=nowhere: the folder does not exist",
        "evaluate network=medium": "network=medium: expected small or large",
        "evaluate network=small": "weights=small needs the data to score it on",
        "evaluate network=small data=mpii": "mpii not found: looked in",
        "app run=nowhere": "run=nowhere: the folder does not exist",
        "app port=abc": "port=abc: expected a whole number from 1 to 65535",
        "benchmark what=trainig": "what=[trainig]: unknown part; type what=[data,",
    }
    code = (
        "import sys, runpy\n"
        f"for line in {list(mistakes)!r}:\n"
        "    sys.argv = ['convpose', *line.split()]\n"
        "    try: runpy.run_module('convpose', run_name='__main__', alter_sys=True)\n"
        "    except SystemExit as end: assert end.code == 2\n"
        "print('imported:', sorted({'torch', 'lightning'} & set(sys.modules)))\n"
    )
    result = python(code, tmp_path)
    assert result.stdout == "imported: []\n", result.stderr
    for sentence in mistakes.values():
        assert f"error: {sentence}" in result.stderr


ANSWERS = {("--help",): "data.batch_size=64 ", ("--cfg", "job"): "batch_size: 64"}


@pytest.mark.parametrize("arguments", ANSWERS, ids=" ".join)
def test_answers_without_importing_torch(arguments, tmp_path):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['train', *{arguments!r}]\n"
        "try: runpy.run_module('convpose.train', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print('imported:', sorted({'torch', 'lightning', 'cv2', 'pydantic'} & set(sys.modules)))\n"
    )
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("imported: []\n")
    assert ANSWERS[arguments] in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path, command):
    (tmp_path / "file").touch()
    refused = command(*TINY, "paths.runs=file/runs")
    assert refused.code == 2
    assert refused.err.startswith("error: [Errno 20] Not a directory: 'file/runs/single/")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A multirun of two jobs, the second of which cannot be, and what it said."""
    folder = tmp_path_factory.mktemp("study")
    life = Forker(folder).begin("-m", *TINY, "study=rates", "optimizer.lr=0.1,-1")
    code, said = life.ended(), life.log.read_text()
    assert code == 1, said
    good, bad = sorted(path for path in (folder / "runs/rates").iterdir() if path.is_dir())
    return good, bad, said


@pytest.mark.slow
def test_the_failed_job_is_named_at_the_end(study):
    good, bad, said = study
    assert said.splitlines()[-2] == "1 jobs failed:"
    assert said.splitlines()[-1].startswith(f"  runs/rates/{bad.name}: optimizer: Invalid learning")
    assert {path.name for path in bad.iterdir()} == {"error.txt", "train.log"}
    assert "Traceback" in (bad / "error.txt").read_text()
    assert "Traceback" not in said
    assert "Warning" not in said
    assert re.search(rf"^run folder runs/rates/{re.escape(good.name)}$", said, re.M)


@pytest.mark.slow
def test_the_folder_of_a_finished_job_is_complete(study):
    good = study[0]
    files = {str(path.relative_to(good)) for path in good.rglob("*") if path.is_file()}
    assert files >= {
        *("config.yaml", "splits.json", "run.json", "metrics.csv", "metrics.json", "layers.md"),
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt"),
    }
    assert not list(good.glob("hparams.yaml")), "config.yaml says it all"
    assert [row["epoch"] for row in read_history(good / "metrics.csv", "val/spread")] == [0, 1]
    split = json.loads((good / "splits.json").read_text())
    assert {part: len(ids) for part, ids in split.items()} == {"train": 28, "val": 6, "test": 6}
    facts = json.loads((good / "run.json").read_text())
    assert "optimizer.lr=0.1,-1" in facts["command"]
    assert facts["seconds"] > 0
    assert "| Conv2d |" in (good / "layers.md").read_text()
    for name in ("best", "last"):
        content = torch.load(good / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["state_dict"]


@pytest.mark.slow
def test_tensorboard_shows_it(study):
    good = study[0]
    events = EventAccumulator(str(good), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    rows = read_history(good / "metrics.csv")
    best = json.loads((good / "metrics.json").read_text())
    tags = events.Tags()
    main = {f"main/{name}" for name in ("train/loss", "val/loss", "val/pck@0.2")}
    others = {"metrics/val/epe_px", "training/lr", "training/images_per_s"}
    assert main | others <= set(tags["scalars"])
    assert sum(tag.startswith("pck_of_joints/") for tag in tags["scalars"]) == 14
    for tag in ("train/loss", "val/pck@0.2"):
        read = [(event.step, event.value) for event in events.Scalars(f"main/{tag}")]
        assert read == [(row["epoch"], pytest.approx(row[tag])) for row in rows]
    assert {"pictures/fixed", "pictures/worst"} <= set(tags["images"])
    steps = [event.step for event in events.Images("pictures/fixed")]
    assert steps == [0, 1], "the first and the last"
    text = events.Tensors("layers/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "parameters" in text
    losses, pck = _charts(events)
    assert list(losses.multiline.tag) == ["^main/train/loss$", "^main/val/loss$"]
    assert list(pck.multiline.tag) == [r"^main/val/pck@0\.2$"]
    start_info = _hparams(events)
    assert start_info == {"optimizer.lr": 0.1, "data.batch_size": 8}
    assert "hp_metric" not in tags["scalars"]
    assert events.Scalars("main-best/val/pck@0.2")[-1].value == pytest.approx(best["val/pck@0.2"])
    assert events.Scalars("of_best_epoch/epoch")[-1].value == best["epoch"] + 1


def _charts(events: EventAccumulator):
    content = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    layout = layout_pb2.Layout.FromString(content)
    return [chart for category in layout.category for chart in category.chart]


def _hparams(events: EventAccumulator):
    content = events._plugin_to_tag_to_content["hparams"]
    assert set(content) == {"_hparams_/session_start_info", "_hparams_/session_end_info"}
    read = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    session = read.session_start_info.hparams
    return {k: v.string_value or v.number_value for k, v in session.items()}


def last_checkpoint(folder: Path, epoch: int) -> Path:
    """Wait for the checkpoint of an epoch in the only run folder."""
    deadline = time.monotonic() + 60
    while not (found := list(folder.glob("runs/single/*/checkpoints/last.ckpt"))) or (
        torch.load(found[0], weights_only=True)["epoch"] < epoch
    ):
        assert time.monotonic() < deadline, f"no checkpoint of epoch {epoch}"
        time.sleep(0.01)
    return found[0]


@pytest.mark.slow
def test_a_killed_run_continues_in_its_folder_as_if_nothing_had_been(forker, tmp_path, command):
    arguments = (*TINY, *LONG, "data.batch_size=16", "trainer.max_epochs=3", "logger=none")
    life = forker.begin(*arguments)
    life.wait_for("epoch 2/3")
    run = last_checkpoint(tmp_path, 1).parent.parent  # so it is in the third epoch
    life.kill()
    assert life.ended() == -signal.SIGKILL
    assert [row["epoch"] for row in history(run)] == [0, 1]

    again = command(*arguments, "ckpt_path=last")
    assert again.code == 0
    assert [path.resolve() for path in Path("runs/single").iterdir()] == [run]
    assert [row["epoch"] for row in history(run)] == [0, 1, 2], "no row is lost or doubled"
    assert [line.split()[1] for line in again.out.splitlines() if line[:5] == "epoch"] == ["3/3"]

    tiny_run(tmp_path / "unbroken", *arguments[len(TINY) :])
    assert_same_run(run, tmp_path / "unbroken")


@pytest.mark.slow
def test_sigterm_in_the_first_epoch_leaves_a_loadable_checkpoint(forker, tmp_path):
    life = forker.begin(*TINY, *LONG, "data.batch_size=2")
    last = last_checkpoint(tmp_path, 0)
    os.kill(life.pid, signal.SIGTERM)
    code = life.ended()
    said = life.log.read_text().partition(f"run folder runs/single/{last.parents[1].name}\n")[2]
    check_stopped(code, said, signal.SIGTERM, last)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_this_process_does_so(number, tmp_path, command, monkeypatch):
    guard = NanGuard.on_train_batch_end

    def interrupt(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == 1:
            signal.raise_signal(number)
        guard(self, trainer, module, outputs, batch, batch_idx)

    monkeypatch.setattr(NanGuard, "on_train_batch_end", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stopped = command(*TINY)
    signal.signal(signal.SIGINT, before)
    (last,) = tmp_path.glob("runs/single/*/checkpoints/last.ckpt")
    check_stopped(stopped.code, stopped.err, number, last)


def check_stopped(code, err: str, number: signal.Signals, last: Path) -> None:
    assert code == 128 + number
    assert err == (
        f"stopped by {number.name} in epoch 1; the same command with ckpt_path=last continues "
        f"runs/single/{last.parents[1].name}\n"
    )
    content = torch.load(last, weights_only=True)
    assert content["epoch"] == content["global_step"] == 0
    assert content["state_dict"]
