"""Trainings as real processes that die, or lose what they stand on, and go on."""

import contextlib
import gc
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from attack import tries
from data.fake_lsp import fake_files, write_folder
from forked import Life
from lightning import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TINY, assert_same_run, history, saved, tiny_config

from convpose.history import read_history
from convpose.run import Run
from convpose.train.checkpoints import damage
from convpose.train.command import keep_console_clean, train

pytestmark = pytest.mark.slow
KILLS, EPOCHS = tries(4, 12), tries(16, 40)
ARGUMENTS = (
    *TINY,
    *("augment=default", "model.dropout=0.5", f"trainer.max_epochs={EPOCHS}"),
    *("callbacks.early_stopping=null", "callbacks.preview=null", "optimizer.lr=0.05"),
)


def check_folder(run: Path) -> int:
    """Everything in a run folder can be read and fits together; the epochs that it has."""
    if not run.exists():
        return 0
    if (run / "config.yaml").exists():
        assert Run(run).config.trainer.max_epochs == EPOCHS
    if (run / "splits.json").exists():
        split = json.loads((run / "splits.json").read_text())
        assert {part: len(ids) for part, ids in split.items()} == {"train": 28, "val": 6, "test": 6}
    if (run / "run.json").exists():
        assert json.loads((run / "run.json").read_text())["versions"]["torch"]
    if (run / "layers.md").exists():
        assert "parameters" in (run / "layers.md").read_text()
    kept = {path.stem: path for path in (run / "checkpoints").glob("*.ckpt")}
    kept.pop("next", None)  # the file that is about to become the last one
    assert [f"{path}: {damage(path)}" for path in kept.values() if damage(path)] == []
    rows = read_history(run / "metrics.csv") if (run / "metrics.csv").exists() else []
    assert [row["epoch"] for row in rows] == list(range(len(rows))), "a row is lost or doubled"
    assert not kept or "last" in kept
    content = saved(run) if kept else {"global_step": 0, "epoch": 0}
    epochs = content["epoch"] + 1 if content["global_step"] else 0
    assert len(rows) in (epochs, epochs + 1), "the row of an epoch comes before its checkpoint"
    assert ("best" in kept) >= (epochs > 0)
    assert ("previous" in kept) >= (epochs > 1)
    return epochs


def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(forker):
    whole = forker.begin(*ARGUMENTS, "hydra.run.dir=whole")
    start_s = whole.wait_for("run folder")
    assert whole.ended() == 0, whole.log.read_text()
    rows = read_history(forker.folder / "whole" / "metrics.csv")
    epoch_s = sum(row["seconds"] for row in rows) / EPOCHS

    moments, run, epochs = random.Random(4), forker.folder / "killed", [0]
    for number in range(KILLS):
        life = forker.begin(*ARGUMENTS, "hydra.run.dir=killed", "ckpt_path=last")
        if number % 4 == 0:  # before, or just after, the first step
            time.sleep(moments.uniform(0, 1.2 * start_s))
        elif number % 4 == 1:  # an epoch further, however slow the machine is
            life.wait_for(f"epoch {epochs[-1] + 2}/")
        else:
            life.wait_for("run folder")
            time.sleep(moments.uniform(0, 2.5 * epoch_s))
        assert life.alive(), f"it came to its end before kill {number}:\n{life.log.read_text()}"
        life.kill()
        assert life.ended() == -9
        epochs.append(check_folder(run))
    assert epochs == sorted(epochs), "no epoch is lost that was there"
    assert len(set(epochs)) > KILLS / 4, "it got on between the kills"

    last = forker.begin(*ARGUMENTS, "hydra.run.dir=killed", "ckpt_path=last")
    assert last.ended() == 0, last.log.read_text()
    assert check_folder(run) == EPOCHS
    kept = {path.name for path in (run / "checkpoints").iterdir()}
    assert kept == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert not list(run.glob("*.part"))
    assert_same_run(run, forker.folder / "whole")
    assert_same_metrics(run, forker.folder / "whole")
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    assert [e.step for e in events.Scalars("main/val/loss")] == list(range(EPOCHS))
    said = [*forker.folder.glob("*.log")]
    assert not [path for path in said if "Traceback" in path.read_text()]


def assert_same_metrics(one: Path, other: Path) -> None:
    clocks = ("seconds", "images_per_s")
    best = [json.loads((run / "metrics.json").read_text()) for run in (one, other)]
    a, b = ({k: v for k, v in content.items() if k not in clocks} for content in best)
    assert a == b
    assert len(history(one)) == EPOCHS


@pytest.fixture
def disk(forker):
    """Mounts a small file system, a folder of its own, if this process may."""
    folder = forker.folder / "disk"
    folder.mkdir()

    def mount(size: str, *options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs"]
        done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    while not subprocess.run(["umount", "--lazy", str(folder)], capture_output=True).returncode:
        pass  # one may be mounted on another


def make_read_only(folder: Path, life: Life) -> None:
    """Put a read-only copy in its place, for the lock of the run keeps it writable itself."""
    os.kill(life.pid, signal.SIGSTOP)
    copy = shutil.copytree(folder, folder.parent / "copy")
    for options in (["--bind", str(copy)], ["-o", "remount,bind,ro"]):
        subprocess.run(["mount", *options, str(folder)], check=True)
    os.kill(life.pid, signal.SIGCONT)


def fill(folder: Path, life: Life) -> Path:
    """Take all the space that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (2**16, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return filler


FAILURES = {
    fill: r"no space left; free some, or type paths\.runs=FOLDER on another disk\. The",
    make_read_only: r"read-only file system; type paths\.runs=FOLDER, one that you can write to\. "
    "The",
}


@pytest.mark.parametrize("spoil", FAILURES, ids=lambda spoil: spoil.__name__)
def test_a_disk_that_fails_in_mid_training(spoil, forker, disk):
    run = disk("40m") / "run"
    command = (*ARGUMENTS, f"hydra.run.dir={run}", "ckpt_path=last")
    life = forker.begin(*command)
    life.wait_for("epoch 2/")
    filler = spoil(run.parent, life)
    assert life.ended() == 2, life.log.read_text()
    said = life.log.read_text()
    assert "Traceback" not in said
    assert re.search(
        rf"^error: .*: {FAILURES[spoil]} same command with ckpt_path=last continues {run} from its "
        r"last epoch$",
        said,
        re.M,
    )
    assert check_folder(run) >= 1
    if filler is None:
        return
    assert not list(run.rglob("*.part"))
    filler.unlink()
    again = forker.begin(*command)
    again.wait_for(f"epoch {check_folder(run) + 1}/")
    again.kill()
    again.ended()


def test_a_disk_without_room_for_one_checkpoint(forker, disk):
    run = disk("150k") / "run"
    life = forker.begin(*ARGUMENTS, f"hydra.run.dir={run}")
    assert life.ended() == 2, life.log.read_text()
    assert re.search(r"^error: .*: no space left; free some, or type", life.log.read_text(), re.M)
    assert "Traceback" not in life.log.read_text()
    assert not list((run / "checkpoints").iterdir())
    assert check_folder(run) == 0


def test_a_folder_that_is_read_only_from_the_start(forker, disk):
    runs = disk("1m", "ro")
    life = forker.begin(*ARGUMENTS, f"paths.runs={runs}")
    assert life.ended() == 2, life.log.read_text()
    assert re.fullmatch(
        rf"error: {runs}.*: read-only file system; type paths\.runs=FOLDER, one that you can write "
        r"to\n",
        life.log.read_text(),
    )


def test_a_data_folder_that_vanishes_in_mid_training(forker, tmp_path):
    archive = write_folder(tmp_path / "lspet", fake_files("lspet", images=46))
    command = (
        *("data=lspet", f"data.source={archive}", "data.input_size_px=32", "data.num_workers=1"),
        *(a for a in ARGUMENTS if not a.startswith("data")),
        *("data.batch_size=8", "hydra.run.dir=vanished", "ckpt_path=last"),
    )
    life = forker.begin(*command)
    life.wait_for("epoch 2/")
    archive.rename(tmp_path / "elsewhere")
    assert life.ended() == 2, life.log.read_text()
    (said,) = [x for x in life.log.read_text().splitlines() if x[:5] == "error"]
    assert re.fullmatch(
        rf"error: {archive}: images/im\d+\.jpg has vanished; put it back, then the same command "
        r"with ckpt_path=last continues a training",
        said,
    )
    (tmp_path / "elsewhere").rename(archive)
    epochs = read_history(forker.folder / "vanished" / "metrics.csv")
    again = forker.begin(*command)
    again.wait_for(f"epoch {len(epochs) + 1}/")
    again.kill()
    again.ended()


def test_sixty_epochs_need_no_more_memory_and_files(tmp_path):
    """After some epochs, in which libraries fill their caches."""
    used: dict[int, tuple[int, int]] = {}

    class Watch(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if (epoch := trainer.current_epoch + 1) % 10 == 0:
                gc.collect()
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                used[epoch] = (pages, len(list(Path("/proc/self/fd").iterdir())))

    overrides = (
        *("data.sources.synthetic.num_images=12", "data.num_workers=1", "trainer.max_epochs=60"),
        *("augment=default", "callbacks.early_stopping=null", "callbacks.preview.every_epochs=10"),
    )
    cfg = tiny_config(*overrides)
    train(cfg, tmp_path, [Watch()])
    assert len(used) == 6
    mib = {epoch: pages * os.sysconf("SC_PAGE_SIZE") / 2**20 for epoch, (pages, _) in used.items()}
    assert mib[60] - mib[20] < 3, mib
    assert used[60][1] <= used[20][1]


@pytest.mark.parametrize(("error", "loud"), [(OSError(28, "full"), False), (KeyError("x"), True)])
def test_a_thread_that_a_disk_ends_says_nothing(error, loud, monkeypatch, capsys):
    """TensorBoard's writer raises in the main thread what failed in its own."""
    monkeypatch.setattr(threading, "excepthook", None)
    keep_console_clean()
    thread = threading.current_thread()
    threading.excepthook(threading.ExceptHookArgs((type(error), error, None, thread)))
    assert (type(error).__name__ in capsys.readouterr().err) == loud
