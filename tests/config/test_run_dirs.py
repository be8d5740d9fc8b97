"""Names of folders: they paste back, tell runs apart, and are found again."""

import re

import pytest

from convpose.config.run_dirs import (
    folder_name,
    job_folder,
    remove_if_empty,
    run_folder,
    study_folder,
)
from convpose.errors import ConfigError


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


def test_a_job_continues_in_its_own_folder(tmp_path):
    for name in ("day_early_000_lr-1", "day_early_001_lr-2", "day_early_002_lr-3+a_b"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "day_early_003_lr-4").mkdir()  # killed before its first checkpoint
    study = str(tmp_path)

    def folder(number, overrides, ckpt_path="last"):
        return job_folder("day_late", number, overrides, study, ckpt_path)

    assert folder(1, "lr-2") == folder(7, "lr-2") == "day_early_001_lr-2"
    assert folder(2, "lr-3+a_b") == "day_early_002_lr-3+a_b"
    assert folder(3, "lr-4") == "day_late_003_lr-4"
    assert folder(1, "lr-2", None) == "day_late_001_lr-2"

    twice = tmp_path / "day_later_001_lr-2" / "checkpoints"
    twice.mkdir(parents=True)
    (twice / "last.ckpt").touch()
    with pytest.raises(ConfigError) as error:
        folder(1, "lr-2")
    assert str(error.value).splitlines() == [
        f"ckpt_path=last: 2 runs of the same overrides in {study}; continue one of them without "
        "-m, with",
        f"  hydra.run.dir={tmp_path}/day_early_001_lr-2 ckpt_path=last",
        f"  hydra.run.dir={tmp_path}/day_later_001_lr-2 ckpt_path=last",
    ]


def test_a_study_may_be_a_number(tmp_path):
    assert run_folder(str(tmp_path), 7, "a", None).startswith(f"{tmp_path}/7/")
    assert study_folder("runs", 7, "now") == "runs/7"
    assert study_folder("runs", None, "now") == "runs/sweep_now"
    assert job_folder("now", 3, "a", "runs/7", None) == "now_003_a"


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
