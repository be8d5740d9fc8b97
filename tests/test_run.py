"""The run folder: found, written, read."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from tiny import TINY, tiny_config

from convpose.app.handlers import Networks
from convpose.config.run_dirs import vary
from convpose.errors import ConfigError, ModelError
from convpose.files import conf_folder
from convpose.run import (
    Run,
    choices,
    compared,
    describe_run,
    flat,
    hyperparameters,
    revision,
    started_module,
)

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
    monkeypatch.setattr("sys.argv", ["/x/convpose/train/__main__.py", "model=vgg_bn", "seed=1"])
    facts = describe_run()
    assert facts["command"].endswith("-m convpose.train model=vgg_bn seed=1")
    assert set(facts["versions"]) >= {"torch", "lightning", "hydra-core"}
    assert facts["hardware"]
    assert facts["threads"] >= 1
    assert facts["revision"] == revision()


def test_revision_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert revision() == "unknown"


@pytest.mark.parametrize(
    "names",  # oldest first; written the other way round, as a copy may do
    [
        ("2026-11-25_09-00-00_lr-0.1", "2026-11-26_09-00-00_lr-0.01"),
        ("2026-11-26_09-00-00_000_seed-0", "2026-11-26_09-00-00_001_seed-1"),
        ("2026-11-26_09-00-00_999_seed-0", "2026-11-26_09-00-00_1000_seed-1"),
        ("2026-11-25_09-00-00_000_z", "2026-11-26_08-00-00_a"),
        ("z 2026-11-25 09:00:00", "a 2026-11-26 09:00:00"),  # the time in run.json
        ("z 2026-11-25 09:00:00", "2026-11-26_09-00-00_a"),
        ("2026-11-25_09-00-00_z", "a 2026-11-26 09:00:00"),
        ("z", "a 2026-11-26 09:00:00"),  # no time anywhere
    ],
)
def test_the_newest_run_of_a_study_began_last(tmp_path, names):
    for i, name in enumerate(reversed(names)):
        own_name, _, started = name.partition(" ")
        folder = tmp_path / "study" / own_name
        (folder / "checkpoints").mkdir(parents=True)
        for file in ("config.yaml", "checkpoints/best.ckpt"):
            (folder / file).write_text("seed: 0")
            os.utime(folder / file, (i, i))
        if started:
            (folder / "run.json").write_text(json.dumps({"started": started}))
    (tmp_path / "study" / ".9999").mkdir()
    (tmp_path / "study" / ".9999" / "config.yaml").touch()  # a hidden companion is no run
    newest = tmp_path / "study" / names[-1].partition(" ")[0]
    assert Run.find(tmp_path / "study").folder == newest
    offered = list(Networks(tmp_path, "small", None, "cpu").names().values())
    assert offered[2:] == [str(tmp_path / "study" / n.partition(" ")[0]) for n in reversed(names)]


def test_find_says_what_to_type(tmp_path):
    with pytest.raises(ConfigError, match=r"the folder holds no config\.yaml; type run=FOLDER"):
        Run.find(tmp_path)
    (tmp_path / "best.ckpt").touch()
    with pytest.raises(ConfigError, match=r"best\.ckpt: a file; type .* or weights=FILE"):
        Run.find(tmp_path / "best.ckpt")


def test_a_run_is_found_by_its_number_unless_two_have_it(tmp_path):
    folders = [tmp_path / name for name in ("003_lr-0.1", "2026-11-26_09-00-00_003_lr-0.2")]
    for folder in folders:
        folder.mkdir()
        (folder / "config.yaml").touch()
    listed = "".join(f"\n  run={folder}" for folder in folders)
    with pytest.raises(ConfigError) as error:
        Run.find(tmp_path / "3")
    assert str(error.value).endswith(f"3: 2 runs have this number; type{listed}")
    (folders[0] / "config.yaml").unlink()
    assert Run.find(tmp_path / "3").folder == folders[1]


def test_one_process_trains_in_a_folder(tmp_path):
    hold = (
        "import sys; from pathlib import Path; from convpose.run import Run\n"
        "with Run(Path(sys.argv[1])).claimed(): print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        refused = pytest.raises(ConfigError, match="another process trains in it; wait for its end")
        with refused, Run(tmp_path).claimed():
            pass
        with Run(tmp_path / "another").claimed():
            pass
        # the lock is the folder's: another TMPDIR, container or machine meets it as well
        elsewhere = {**os.environ, "TMPDIR": str(tmp_path / "another")}
        second = subprocess.run(command, env=elsewhere, capture_output=True, text=True)
        assert "another process trains in it" in second.stderr
        other.kill()
    with Run(tmp_path).claimed():  # the lock has ended with the process
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["another"], "nothing else is left"


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


def test_a_flat_configuration_by_hand():
    config = {
        "seed": 0,
        "study": "rates",
        "paths": {"runs": "runs"},
        "augment": {"_target_": "convpose.data.augment.Augment", "shift": 0.1},
        "data": {"sources": {"lsp": {"_target_": "a.LspSource", "_partial_": True, "box": None}}},
        "callbacks": {"ema": {"_target_": "a.Ema", "steps": [1, 2]}},
    }
    rest = {
        "seed": 0,
        "augment.shift": 0.1,
        "data.sources.lsp": "LspSource",
        "data.sources.lsp.box": None,
        "callbacks.ema": "Ema",
        "callbacks.ema.steps": "[1, 2]",
    }
    assert flat(config, {}) == {"augment": "Augment", **rest}
    chosen = {"augment": "strong", "experiment": "paper", "logger": "none"}
    assert flat(config, chosen) == {"augment": "strong", "experiment": "paper", **rest}


def test_hyperparameters_are_flat_and_plain():
    values = hyperparameters(
        tiny_config("model.dropout=0.3", "callbacks.early_stopping.patience=7")
    )
    assert values["model.dropout"] == 0.3
    assert values["data.batch_size"] == 8
    assert values["callbacks.early_stopping.patience"] == 7, "whatever is varied is there"
    assert values["optimizer"] == "SGD"
    assert values["trainer.max_epochs"] == 2
    assert all(isinstance(value, bool | int | float | str) for value in values.values())
    assert not any(part.startswith("_") for name in values for part in name.split("."))
    assert not {"study", "paths.runs", "logger", "ckpt_path"} & set(values)


def test_choices_are_those_of_the_command(command):
    assert choices() == {}, "nothing is known outside of Hydra"
    assert command(*TINY, "model.dropout=0.3", "augment=strong", "debug=fast").code == 0
    (folder,) = Path("runs/single").iterdir()
    facts = json.loads((folder / "run.json").read_text())
    assert facts["choices"]["augment"] == "strong"
    assert facts["choices"]["optimizer"] == "sgd"
    assert facts["choices"]["loss"] == "regression", "follows the head"
    assert facts["choices"]["debug"] == "fast"
    assert not any("/" in name or "@" in name for name in facts["choices"])
    assert "model.dropout=0.3" in facts["overrides"]
    assert Run(folder).config.augment.rotation_deg == 180, "reloads without Hydra"


def test_choices_of_another_application_are_not_the_trainings(monkeypatch):
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        for name, expected in (("train", "adamw"), ("benchmark", None)):
            cfg = compose(name, ["optimizer=adamw"], return_hydra_config=True)
            monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
            assert choices().get("optimizer") == expected


def test_the_started_module(monkeypatch):
    for name, expected in (
        ("convpose.search", "convpose.search"),
        ("convpose.data.__main__", "convpose.data"),
        ("pytest.__main__", "convpose.train"),
    ):
        monkeypatch.setattr("__main__.__spec__", SimpleNamespace(name=name))
        assert started_module() == expected
    monkeypatch.setattr("__main__.__spec__", None)
    assert started_module() == "convpose.train"


def test_reading_runs_needs_no_torch():
    code = "import sys, convpose.run, convpose.compare.comparison; print('torch' in sys.modules)"
    checkout = str(Path(__file__).parent.parent)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=checkout)
    assert result.stdout == b"False\n", result.stderr


LR, SIZE = "optimizer.lr", "data.batch_size"


@pytest.mark.parametrize(
    ("typed", "varied", "keys"),
    [
        ("", "", [LR, SIZE]),
        ("study=a trainer=cpu model.width=1 ~augment", "", ["model.width", LR, SIZE]),
        (f"model=a data=b model.width=1 {SIZE}=4 {LR}=1", f"{SIZE} {LR}", [SIZE, LR, "model"]),
        (f"data=lsp {LR}=1", "data", ["data", LR, SIZE]),
        (f"data=lsp data.folds=2 {LR}=1", "", ["data.folds", LR, SIZE]),
        ("a.a=1 a.b=1 a.c=1", "a.c a.b a.a", ["a.c", "a.b", "a.a", LR]),
        ("a.a=1 a.b=1 a.c=1 a.d=1 a.e=1", "", ["a.a", "a.b", "a.c", "a.d", "a.e"]),
    ],
)
def test_hparams_have_what_was_typed_or_varied(typed, varied, keys, monkeypatch):
    cfg = OmegaConf.create()
    all_keys = {*keys, LR, SIZE, "data", "trainer", "model", "model.width", "optimizer.momentum"}
    values = {key: f"of {key}" for key in all_keys - {"augment"}}
    assert compared(cfg, values) == values, "begun from Python"
    monkeypatch.setattr(
        "convpose.run.choices", lambda: {"data": "lsp", "model": "a", "trainer": "gpu"}
    )
    monkeypatch.setattr("convpose.run.overrides", typed.split)
    if varied:
        vary(cfg, varied.split())
    assert compared(cfg, values) == {key: f"of {key}" for key in keys}


def test_hyperparameters_without_augmentation():
    assert "augment" not in hyperparameters(tiny_config("~augment"))
