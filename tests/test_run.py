"""The run folder: found, written, read."""

import json
import os

import pytest
from tiny import tiny_config

from convpose.errors import ConfigError, ModelError
from convpose.run import GROUPS, Run, describe, hyperparameters, revision

SPLIT = {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


def test_write_and_read_back(tmp_path):
    run = Run(tmp_path / "new")
    cfg = tiny_config("optimizer.lr=0.25")
    run.write_start(cfg, SPLIT)
    found = Run.find(tmp_path / "new")
    assert found.config.optimizer.lr == 0.25
    assert found.config.callbacks.checkpoint.monitor == "val/pck@0.2", "interpolations are resolved"
    assert json.loads((found.folder / "splits.json").read_text()) == SPLIT
    run.write_end({"epoch": 3.0, "val/pck@0.2": 0.5}, seconds=12.34)
    assert json.loads((found.folder / "metrics.json").read_text())["val/pck@0.2"] == 0.5
    facts = json.loads((found.folder / "run.json").read_text())
    assert facts["seconds"] == 12.3
    assert not list(found.folder.glob("*.part"))


def test_facts_of_a_run(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/convpose/train.py", "model=vgg_bn", "seed=1"])
    facts = describe()
    assert facts["command"].endswith("-m convpose.train model=vgg_bn seed=1")
    assert set(facts["versions"]) >= {"torch", "lightning", "hydra-core"}
    assert facts["hardware"]
    assert facts["threads"] >= 1
    assert facts["revision"] == revision()


def test_revision_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert revision() == "unknown"


def test_find_takes_the_newest_run_of_a_study(tmp_path):
    for i, name in enumerate(("b", "c", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("seed: 0")
        os.utime(tmp_path / name / "config.yaml", (i, i))
    assert Run.find(tmp_path).folder == tmp_path / "a"


def test_find_says_what_to_type(tmp_path):
    with pytest.raises(ConfigError, match=r"the folder holds no config\.yaml; type run=FOLDER"):
        Run.find(tmp_path)
    with pytest.raises(ConfigError, match="the folder does not exist; type run=FOLDER"):
        Run.find(tmp_path / "nope")


def test_config_that_is_none(tmp_path):
    (tmp_path / "config.yaml").write_text("- a list")
    with pytest.raises(ConfigError, match="not a configuration"):
        _ = Run(tmp_path).config


def test_checkpoints(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    run = Run(tmp_path)
    assert run.checkpoint("best") == tmp_path / "checkpoints" / "best.ckpt"
    assert run.checkpoint(str(tmp_path / "checkpoints" / "best.ckpt")).is_file()
    with pytest.raises(ModelError, match=r"last\.ckpt: no such checkpoint; type checkpoint="):
        run.checkpoint("last")


def test_hyperparameters_are_flat_and_plain():
    flat = hyperparameters(tiny_config("model.dropout=0.3"))
    assert flat["model.dropout"] == 0.3
    assert flat["data.batch_size"] == 8
    assert flat["optimizer"] == "SGD"
    assert flat["trainer.max_epochs"] == 2
    assert set(GROUPS) <= set(flat)
    assert all(isinstance(value, bool | int | float | str) for value in flat.values())
    assert not any(part.startswith("_") for name in flat for part in name.split("."))


def test_hyperparameters_without_augmentation():
    assert "augment" not in hyperparameters(tiny_config("~augment"))
