"""Follow the checkpoints of a folder, and how they get there."""

import errno
import math
import os
from pathlib import Path

import pytest
import torch

from convpose.train.checkpoints import BestAndLast, DirectFiles


class Training:
    """A trainer whose checkpoint is its epoch."""

    def __init__(self, folder, first=True, epoch=0, ckpt_path=None):
        self.default_root_dir = str(folder)
        self.is_global_zero = first
        self.ckpt_path = ckpt_path
        self.current_epoch = epoch
        self.callback_metrics = {}
        self.saved = 0

    def save_checkpoint(self, path):
        self.saved += 1
        if self.is_global_zero:
            content = {"epoch": self.current_epoch, "state_dict": {"a": torch.zeros(9)}}
            DirectFiles().save_checkpoint(content, path)

    def run(self, checkpoint, *values):
        """Epochs with these values of the monitor; None for one that is not validated."""
        checkpoint.on_train_start(self, None)
        for value in values:
            if value is not None:
                self.callback_metrics["val/loss"] = torch.tensor(value)
            checkpoint.on_train_epoch_end(self, None)
            self.current_epoch += 1


def kept(folder: Path):
    paths = sorted((folder / "checkpoints").iterdir())
    return {path.name: torch.load(path, weights_only=True)["epoch"] for path in paths}


def test_before_the_first_step_there_is_one_already(tmp_path):
    Training(tmp_path).run(BestAndLast("val/loss", "min"))
    assert kept(tmp_path) == {"last.ckpt": 0}


def test_last_is_the_last_epoch_not_the_last_best(tmp_path):
    training = Training(tmp_path)
    training.run(BestAndLast("val/loss", "min"), 0.3, 0.1, 0.2, None)
    assert kept(tmp_path) == {"best.ckpt": 1, "last.ckpt": 3, "previous.ckpt": 2}
    assert training.saved == 5, "an epoch is written once"


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("min", (0.3, 0.2, 0.2, 0.4), 1),
        ("max", (0.3, 0.2, 0.3, 0.1), 0),
        ("max", (math.nan, 0.1, math.nan, math.inf), 1),
        ("max", (None, 0.1, None, 0.2), 3),
    ],
)
def test_the_first_of_the_best_is_kept(mode, values, best, tmp_path):
    Training(tmp_path).run(BestAndLast("val/loss", mode), *values)
    assert kept(tmp_path)["best.ckpt"] == best


def test_a_continued_run_remembers_its_best(tmp_path):
    first = BestAndLast("val/loss", "min")
    Training(tmp_path).run(first, 0.1, 0.3)
    second = BestAndLast("val/loss", "min")
    second.load_state_dict(first.state_dict())
    last = str(tmp_path / "checkpoints" / "last.ckpt")
    Training(tmp_path, epoch=2, ckpt_path=last).run(second, 0.2)
    assert kept(tmp_path) == {"best.ckpt": 0, "last.ckpt": 2, "previous.ckpt": 1}


def test_a_run_that_goes_on_in_another_folder_has_its_own_best(tmp_path):
    first, second = BestAndLast("val/loss", "min"), BestAndLast("val/loss", "min")
    Training(tmp_path / "first").run(first, 0.1)
    second.load_state_dict(first.state_dict())
    last = str(tmp_path / "first" / "checkpoints" / "last.ckpt")
    Training(tmp_path / "second", epoch=1, ckpt_path=last).run(second, 0.3, 0.2, 0.4)
    assert kept(tmp_path / "second")["best.ckpt"] == 2, "the first folder's is not here"


def test_a_damaged_last_one_does_not_become_the_previous_one(tmp_path):
    Training(tmp_path).run(BestAndLast("val/loss", "min"), 0.3, 0.2)
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    previous = str(tmp_path / "checkpoints" / "previous.ckpt")
    goes_on = Training(tmp_path, epoch=1, ckpt_path=previous)
    checkpoint = BestAndLast("val/loss", "min")
    goes_on.run(checkpoint, 0.2)
    assert kept(tmp_path) == {"best.ckpt": 1, "last.ckpt": 1, "previous.ckpt": 0}
    checkpoint.on_train_epoch_end(goes_on, None)
    assert kept(tmp_path) == {"best.ckpt": 1, "last.ckpt": 2, "previous.ckpt": 1}


def test_a_damaged_best_one_is_noticed_before_a_run_goes_on(tmp_path, caplog):
    first, second = BestAndLast("val/loss", "min"), BestAndLast("val/loss", "min")
    Training(tmp_path).run(first, 0.1, 0.3)
    best = tmp_path / "checkpoints" / "best.ckpt"
    content = bytearray(best.read_bytes())
    content[len(content) // 2] ^= 1
    best.write_bytes(content)
    second.load_state_dict(first.state_dict())
    last = str(tmp_path / "checkpoints" / "last.ckpt")
    Training(tmp_path, epoch=2, ckpt_path=last).run(second, 0.2, 0.4)
    assert "best.ckpt is damaged (the checksum of" in caplog.text
    damaged = best.parent / "damaged.ckpt"
    assert damaged.read_bytes() == content
    damaged.unlink()
    assert kept(tmp_path)["best.ckpt"] == 2, "the best of those that are left"


def test_every_name_is_a_file_of_its_own(tmp_path):
    """Else damage to one would be damage to both."""
    Training(tmp_path).run(BestAndLast("val/loss", "min"), 0.3, 0.2, 0.1)
    files = list((tmp_path / "checkpoints").iterdir())
    assert len(files) == 3
    assert [path.stat().st_nlink for path in files] == [1, 1, 1]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    replace = Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: done.append("synced"))
    monkeypatch.setattr(
        Path, "replace", lambda old, new: done.append(Path(new).name) or replace(old, new)
    )
    DirectFiles().save_checkpoint({"epoch": 1}, tmp_path / "best.ckpt")
    assert done == ["synced", "best.ckpt", "synced"], "the content, the name, the folder"


def test_one_of_several_processes_writes(tmp_path):
    beside = Training(tmp_path, first=False)
    beside.run(BestAndLast("val/loss", "min"), 0.3)
    assert beside.saved == 2, "all of them ask, because they wait for each other"
    assert not (tmp_path / "checkpoints").exists()


def test_a_checkpoint_that_does_not_fit_on_the_disk_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints" / "last.ckpt"
    DirectFiles().save_checkpoint({"epoch": 1}, path)
    save = torch.save

    def half(content, file):
        save(content, file)
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space left"):
        DirectFiles().save_checkpoint({"epoch": 2}, path)
    assert kept(tmp_path) == {"last.ckpt": 1}
