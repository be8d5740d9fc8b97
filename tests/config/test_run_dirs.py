"""Names of folders: one line, they paste back, tell runs apart, and are found again."""

import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from convpose.config.run_dirs import (
    begun,
    free_name,
    job_folder,
    named_like,
    old_name,
    remove_if_empty,
    run_folder,
    short_name,
    study_folder,
    sweep_plan,
)
from convpose.errors import ConfigError

FIXED = ["data=synthetic", "trainer.max_epochs=3", "study=s"]
NAMES = (  # overrides, what was varied, name
    ([*FIXED, "optimizer.lr=0.01", "data.batch_size=32"], ["optimizer.lr"], "lr-0.01"),
    (["optimizer.lr=1e-3", "data.batch_size=32"], [], "lr-1e-3+bs-32"),
    (["head.dropout=0", "model.dropout=1"], [], "head.dropout-0+model.dropout-1"),
    (["callbacks=[default,ema]", "+a.b='x y'"], [], "callbacks-_default_ema+b-_x_y"),
    (["weights=runs/rates/3", "logger=none", "paths.runs=a"], [], "weights-3"),
    (["~augment.transforms.grey"], [], "grey-none"),
    (["study=s", "ckpt_path=last"], [], "defaults"),
    (
        [f"data.key_{i}=0.123" for i in range(9)],
        [],
        "+".join([*(f"key_{i}-0.123" for i in range(4)), "more"]),
    ),
)


@pytest.mark.parametrize(("overrides", "varied", "name"), NAMES)
def test_a_run_is_called_by_what_was_varied(overrides, varied, name):
    assert short_name(overrides, varied) == name
    assert len(name) <= 60
    assert re.fullmatch(r"[A-Za-z0-9._+-]+", name), "it pastes back"


def test_what_version_0_1_0_cut_off_a_name_still_counts():
    long = "+".join(f"key{i}-{i}" for i in range(40))
    names = {old_name(f"{long}+lr-{lr}") for lr in (0.1, 0.01)}
    assert len(names) == 2
    assert {len(name) for name in names} == {120}


def trained(folder, *overrides, started="2026-01-01 00:00:00"):
    """A run with a checkpoint; without overrides one whose run.json does not say them."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    facts = {"started": started, **({"overrides": overrides} if overrides else {})}
    (folder / "run.json").write_text(json.dumps(facts))


def test_run_folder_is_new_or_the_one_to_continue(tmp_path):
    runs = str(tmp_path)

    def folder(study, ckpt_path, *typed):
        dirname = "+".join(sorted(override.replace("=", "-") for override in typed))
        return run_folder(runs, study, dirname, ckpt_path, OmegaConf.create(list(typed)))

    assert folder(None, None, "lr=1") == folder(None, None, "lr=1") == f"{runs}/single/000_lr-1"
    for name in ("01_00-00-00_lr-1", "02_00-00-00_lr-1", "03_00-00-00_lr-3"):
        trained(tmp_path / "s" / f"2024-01-{name}")
    (tmp_path / "s" / "2024-01-04_00-00-00_lr-1").mkdir()  # nothing in it to continue
    assert folder("s", "last", "lr=1") == str(tmp_path / "s" / "2024-01-02_00-00-00_lr-1")
    trained(tmp_path / "s" / "010_lr-1", "lr=1", "a=2", "study=s", started="2025-01-01 00:00:00")
    trained(tmp_path / "s" / "011_lr-1", "lr=1", "ckpt_path=last", started="2025-01-02 00:00:00")
    assert folder("s", "last", "a=2", "lr=1") == str(tmp_path / "s" / "010_lr-1")
    assert folder("s", "last", "lr=1") == str(tmp_path / "s" / "011_lr-1")
    assert folder("s", None, "lr=1") == str(tmp_path / "s" / "012_lr-1")
    for name in ("000_defaults", "001_of_python"):
        trained(tmp_path / "single" / name)
        (tmp_path / "single" / name / "run.json").write_text('{"overrides": []}')
    assert folder(None, "last") == f"{runs}/single/000_defaults", "a command without overrides"
    with pytest.raises(ConfigError) as error:
        folder("s", "last", "lr=7")
    listed = str(error.value).splitlines()[1:]
    assert listed[0] == "runs there:"
    assert len(listed) == 6
    assert all(line.startswith("  hydra.run.dir=") for line in listed[1:])


@pytest.mark.parametrize("version", ["0.1.0", "now"])
def test_a_job_continues_in_its_own_folder(tmp_path, version):
    jobs = (["lr=1"], ["lr=2"], ["lr=3", "a=b"])
    old = ("day_early_000_lr-1", "day_early_001_lr-2", "day_early_002_a-b+lr-3")
    names = old if version == "0.1.0" else ("000_lr-1", "001_lr-2", "002_lr-3")
    for name, typed in zip(names, jobs, strict=True):
        trained(tmp_path / name, *(typed if version == "now" else ()))
    (tmp_path / "003_lr-4").mkdir()  # killed before its first checkpoint
    study = str(tmp_path)

    def folder(number, *typed, ckpt_path="last"):
        dirname = "+".join(sorted(override.replace("=", "-") for override in typed))
        return job_folder([4, "lr"], number, dirname, study, ckpt_path, [*typed, "study=s"])

    assert folder(1, "lr=2") == folder(7, "lr=2") == names[1]
    assert folder(2, "lr=3", "a=b") == names[2]
    assert folder(2, "lr=3", "a=c") == "006_lr-3", "same name, other overrides"
    assert folder(3, "lr=4") == "007_lr-4"
    assert folder(1, "lr=2", ckpt_path=None) == "005_lr-2"

    trained(tmp_path / "009_lr-2", "lr=2")
    with pytest.raises(ConfigError) as error:
        folder(1, "lr=2")
    first, *rest = str(error.value).splitlines()
    assert first == (
        f"ckpt_path=last: 2 runs of the same overrides in {study}; continue one of them without "
        "-m, with"
    )
    both = sorted((tmp_path / names[1], tmp_path / "009_lr-2"))
    assert rest == [f"  hydra.run.dir={path} ckpt_path=last" for path in both]


def test_a_multirun_goes_on_counting_and_knows_what_it_varies(tmp_path):
    task = ["optimizer.lr=1,2", "seed=3", "model=vgg_bn,vgg_narrow", "study=s"]
    content = {"hydra": {"overrides": {"task": task}, "sweeper": {"params": None}}}
    cfg = OmegaConf.create(content)
    assert sweep_plan(str(tmp_path), "s", _root_=cfg) == [0, "optimizer.lr", "model"]
    for name in ("004_lr-1", "2026-11-26_11-40-08_011_lr-2", "2026-11-26_11-40-08_lr-2"):
        (tmp_path / "s" / name).mkdir(parents=True)
    assert sweep_plan(str(tmp_path), "s", _root_=cfg)[0] == 0, "made before the first job"
    assert sweep_plan(str(tmp_path), "s", _root_=OmegaConf.create(content))[0] == 12
    job = OmegaConf.create({"hydra": {"overrides": {"task": ["lr=1"]}}})
    assert sweep_plan(str(tmp_path), "s", _root_=job) == [0], "a folder of the user's own"


def test_a_study_may_be_a_number(tmp_path):
    assert run_folder(str(tmp_path), 7, "a", None, ["a=1"]) == f"{tmp_path}/7/000_a-1"
    assert study_folder("runs", 7, "now", None, [0]) == "runs/7"
    assert study_folder("runs", None, "now", None, [0]) == "runs/sweep_now"
    assert job_folder([0], 3, "a", "runs/7", None, ["a=1"]) == "003_a-1"


def test_a_run_is_found_by_its_number_or_its_name_in_words(tmp_path):
    old, new = "2026-11-26_11-40-08_002_lr-0.1", "003_lr-0.01+bs-32"
    for name in (old, new):
        (tmp_path / name).mkdir()
    for words in ("3", "003", "003 lr=0.01 bs=32"):
        assert named_like(tmp_path / words) == [tmp_path / new]
    assert named_like(tmp_path / "2") == [tmp_path / old]
    assert named_like(tmp_path / "1") == named_like(tmp_path / "003_lr-0.1") == []
    assert free_name(tmp_path, new) == f"{new}-2"
    assert free_name(tmp_path, "other") == "other"


def test_runs_of_both_ways_to_name_them_sort_by_their_start(tmp_path):
    (tmp_path / "2026-11-26_11-40-08_002_lr-0.1").mkdir()
    trained(tmp_path / "000_a", started="2026-11-26 11:40:09")
    trained(tmp_path / "001_a", started="2026-11-26 11:40:07")
    names = [path.name[:6] for path in sorted(tmp_path.iterdir(), key=begun)]
    assert names == ["001_a", "2026-1", "000_a"]


def test_only_empty_folders_are_taken_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    full, empty = Path("runs/study/full"), Path("runs/study/empty")
    for folder in (full, empty):
        folder.mkdir(parents=True)
    (full / "metrics.csv").touch()
    remove_if_empty(full)
    remove_if_empty(empty)
    remove_if_empty(Path("runs/study/never"))
    assert full.is_dir()
    assert not empty.exists()
    (full / "metrics.csv").unlink()
    remove_if_empty(full.absolute())
    assert list(tmp_path.iterdir()) == [], "the study and the folder of all runs have gone with it"
