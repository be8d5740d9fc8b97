"""`python -m convpose.train` as a user has it: real processes, real signals."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
from tiny import TINY, assert_same_run, history, start, tiny_run

from convpose.history import read_history
from convpose.train.callbacks.alarms import NanGuard

LONG = ("data.sources.synthetic.num_images=600", "augment=default", "model.dropout=0.5")


def ended(process: subprocess.Popen[str], timeout_s: float = 300) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
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
    assert "batch_size: 64" in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_defect_ends_with_its_traceback(tmp_path):
    code = (
        "import sys, convpose.train.__main__ as application, convpose.train.command as fit\n"
        "def train(cfg, folder): raise RuntimeError('shapes do not match')\n"
        "fit.train = train\n"
        f"sys.argv = ['train', *{TINY!r}]\n"
        "application.main()\n"
    )
    result = python(code, tmp_path)
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("RuntimeError: shapes do not match\n")


def test_a_folder_that_cannot_be_made(tmp_path, command):
    (tmp_path / "file").touch()
    refused = command(*TINY, "paths.runs=file/runs")
    assert refused.code == 2
    assert refused.err.startswith("error: [Errno 20] Not a directory: 'file/runs/single/")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A multirun of two jobs, the second of which cannot be."""
    folder = tmp_path_factory.mktemp("study")
    process = start(folder, "-m", *TINY, "study=rates", "optimizer.lr=0.1,-1")
    code, out, err = ended(process)
    assert code == 1, err
    good, bad = sorted(path for path in (folder / "runs/rates").iterdir() if path.is_dir())
    return good, bad, out, err


def test_the_failed_job_is_named_at_the_end(study):
    good, bad, out, err = study
    assert err.splitlines()[-2] == "1 jobs failed:"
    assert err.splitlines()[-1].startswith(f"  runs/rates/{bad.name}: optimizer: Invalid learning")
    assert {path.name for path in bad.iterdir()} == {"error.txt", "train.log"}
    assert "Traceback" in (bad / "error.txt").read_text()
    assert "Traceback" not in err
    assert "Warning" not in err
    assert re.search(rf"^run folder .*runs/rates/{re.escape(good.name)}$", out, re.M)


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


def test_tensorboard_shows_it(study):
    good = study[0]
    events = EventAccumulator(str(good), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    rows = read_history(good / "metrics.csv")
    best = json.loads((good / "metrics.json").read_text())
    tags = events.Tags()
    assert {"train/loss", "val/loss", "val/pck@0.2", "val/epe_px", "lr", "images_per_s"} <= set(
        tags["scalars"]
    )
    assert sum(tag.startswith("joint/") for tag in tags["scalars"]) == 14
    for tag in ("train/loss", "val/pck@0.2"):
        read = [(event.step, event.value) for event in events.Scalars(tag)]
        assert read == [(row["epoch"], pytest.approx(row[tag])) for row in rows]
    assert {"val/fixed", "val/worst"} <= set(tags["images"])
    assert [event.step for event in events.Images("val/fixed")] == [0, 1], "the first and the last"
    text = events.Tensors("layers/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "parameters" in text
    (chart,) = _charts(events)
    assert list(chart.multiline.tag) == ["train/loss", "val/loss"]
    start_info = _hparams(events)
    assert start_info["optimizer.lr"] == pytest.approx(0.1)
    assert start_info["model"] == "vgg_bn"
    assert "hp_metric" not in tags["scalars"]
    assert events.Scalars("best/val/pck@0.2")[-1].value == pytest.approx(best["val/pck@0.2"])
    assert events.Scalars("best_epoch/epoch")[-1].value == best["epoch"] + 1


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


def wait_for(process: subprocess.Popen[str], folder: Path, pattern: str, path: str) -> Path:
    """Read the console until a line shows, then wait for a file in the run folder."""
    for line in process.stdout:
        if re.match(pattern, line):
            break
    else:
        pytest.fail(f"ended before {pattern}: {process.stderr.read()}")
    deadline = time.monotonic() + 60
    while not (found := list(folder.glob(f"runs/single/*/{path}"))):
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)
    return found[0]


def test_a_killed_run_continues_in_its_folder_as_if_nothing_had_been(tmp_path, command):
    arguments = (*TINY, *LONG, "data.batch_size=16", "trainer.max_epochs=3")
    process = start(tmp_path, *arguments)
    last = wait_for(process, tmp_path, "epoch 2/3", "checkpoints/last.ckpt")
    time.sleep(0.5)  # into the third epoch
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL
    run = last.parent.parent
    assert [row["epoch"] for row in history(run)] == [0, 1]

    again = command(*arguments, "ckpt_path=last")
    assert again.code == 0
    assert [path.resolve() for path in Path("runs/single").iterdir()] == [run]
    assert [row["epoch"] for row in history(run)] == [0, 1, 2], "no row is lost or doubled"
    assert [line.split()[1] for line in again.out.splitlines() if line[:5] == "epoch"] == ["3/3"]

    tiny_run(tmp_path / "unbroken", *arguments[len(TINY) :])
    assert_same_run(run, tmp_path / "unbroken")


def test_sigterm_in_the_first_epoch_leaves_a_loadable_checkpoint(tmp_path):
    process = start(tmp_path, *TINY, *LONG, "data.batch_size=2")
    last = wait_for(process, tmp_path, "run folder", "checkpoints/last.ckpt")
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    check_stopped(code, err, signal.SIGTERM, last)


def test_ctrl_c_in_the_first_epoch_leaves_a_loadable_checkpoint(tmp_path, command, monkeypatch):
    guard = NanGuard.on_train_batch_end

    def interrupt(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == 1:
            signal.raise_signal(signal.SIGINT)
        guard(self, trainer, module, outputs, batch, batch_idx)

    monkeypatch.setattr(NanGuard, "on_train_batch_end", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stopped = command(*TINY)
    signal.signal(signal.SIGINT, before)
    (last,) = tmp_path.glob("runs/single/*/checkpoints/last.ckpt")
    check_stopped(stopped.code, stopped.err, signal.SIGINT, last)


def check_stopped(code, err: str, number: signal.Signals, last: Path) -> None:
    assert code == 128 + number
    assert err == (
        f"stopped by {number.name} in epoch 1; the same command with ckpt_path=last continues "
        f"{last.parent.parent}\n"
    )
    content = torch.load(last, weights_only=True)
    assert content["epoch"] == content["global_step"] == 0
    assert content["state_dict"]


@pytest.mark.slow
def test_two_processes_write_one_folder(tmp_path):
    code, out, err = ended(start(tmp_path, *TINY, "trainer.strategy=ddp", "trainer.devices=2"))
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == [
        *("run", "epoch", "epoch", "best", "python", "tensorboard")
    ]
