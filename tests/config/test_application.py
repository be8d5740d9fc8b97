"""The command line in this process: messages, exit codes, folders, multirun."""

import errno
import json
import os
import re
import shlex
from pathlib import Path

import pytest
import torch
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from tiny import TINY, composed, tiny_config

import convpose
from convpose.config.application import FailedJobs, explain, write_error
from convpose.config.arguments import suggest, typed
from convpose.errors import ConfigError, DataError
from convpose.run import describe_run

REFUSED = {
    "data.batch_siz=4": "unknown key data.batch_siz; did you mean data.batch_size?\nkeys",
    "+model.foo=1": "unknown key model.foo; keys there: depth, width, dropout, batch_norm",
    "data.batch_size=ten": "data.batch_size=ten: expected a whole number above 0 or auto",
    "model=vgg": "model=vgg: no such option; did you mean vgg_bn?\noptions there: ",
    "model=null": "GROUP=null: a group is left out by ~GROUP",
    "model.weights=nope.pt": "nope.pt: no such file",
    "ckpt_path=last": "ckpt_path=last: no run of these overrides to continue",
    "foo": "foo: not KEY=VALUE as Hydra reads it; a value with other letters than a-z",
    "study=me & you": "study=me & you: not KEY=VALUE as Hydra reads it",
    "+trainr.sync_batchnorm=true": "unknown key trainr; did you mean trainer?\nkeys there: aug",
    "+lr=0.1": "unknown key lr; did you mean optimizer.lr?",
    "+model=vgg_narrow": "model: chosen twice; type model=… once, without +",
}


@pytest.fixture
def train_as(monkeypatch):
    """Put a function in the place of the training."""
    return lambda function: monkeypatch.setattr("convpose.train.command.train", function)


@pytest.mark.parametrize("override", REFUSED)
def test_refused_in_one_message_and_nothing_left(override, command):
    ended = command(*TINY, override)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert REFUSED[override] in ended.err
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) <= 4, ended.err
    assert ended.out == ""
    assert not list(Path.cwd().rglob("*.*")), "no run folder and no file is left"


def test_a_key_that_another_reads_may_be_added(command, train_as):
    train_as(lambda cfg, folder: cfg.model.width)
    added = ("+half=0.5", "model.width=${half}", "+trainer.sync_batchnorm=true")
    assert command(*added).code == 0
    assert "unknown key half" in command("+half=0.5", "+halves=1", "model.width=${halves}").err
    mine = Path("mine/model/half.yaml")  # or a yaml of the user's own
    mine.parent.mkdir(parents=True)
    mine.write_text("_target_: convpose.models.backbones.vgg.VggBn\ndepth: 11\nwidth: ${half}\n")
    assert command("--config-dir", "mine", "model=half", "+half=0.5").code == 0


def test_options_stand_anywhere_and_the_version_is_that_of_convpose(command, train_as):
    train_as(lambda cfg, folder: cfg.optimizer.lr)
    assert command("optimizer.lr=0.1,0.2", "-m", "study=two", "seed=0").code == 0
    assert command("--version").out == f"convpose {convpose.__version__}\n"


def test_help_lists_groups_and_keys_with_their_comments(command):
    said = command("--help", "model=resnet50", "data=synthetic").out
    assert "\n  * resnet50             ResNet-50, on which most papers compare heads; timm " in said
    assert re.search(r"\ndata.batch_size=64 +images in a step of one process; auto: 64 on", said)
    assert re.search(r"\ncallbacks.early_stopping.patience=10 +epochs without a better value", said)
    assert re.search(r"\ndata.sources.synthetic.seed=0 +of people and scenes", said)
    assert not re.search(r"^detector=$|^hydra|_target_|model.depth", said, re.MULTILINE)


def test_an_archive_that_is_not_there(command):
    ended = command("data=lspet", "data.source=/nope.zip", "model.width=0.0625", "trainer=cpu")
    assert ended.code == 2
    assert ended.err.startswith("error: data.source=/nope.zip: no such file or folder")
    assert not list(Path.cwd().glob("runs/*"))


@pytest.mark.parametrize(
    "wrong",
    [
        *("optimizer.lr=abc", "scheduler.warmup=5", "model.width=wide", "trainer.precision=99"),
        *("callbacks.preview.images=few", "parameters.decay_norms=3", "data.crop=round"),
        *("head.hidden=0", "optimizer.lr=-1", "trainer.devices=0"),
    ],
)
def test_a_wrong_value_is_told_before_an_archive_is_downloaded(wrong, command, monkeypatch):
    monkeypatch.setattr("convpose.data.lsp.download", lambda *given: pytest.fail("was asked for"))
    ended = command("data=lsp", "paths.data=nowhere", "model.depth=11", "trainer=cpu", wrong)
    assert ended.code == 2
    assert wrong.rpartition("=")[0].rpartition(".")[2] in ended.err


def test_the_spread_can_be_monitored_only_if_it_is_measured(command):
    known = command(*TINY, "monitor=val/pkc").err
    assert "val/spread" in known
    without = command(*TINY, "monitor=val/spread", "~callbacks.collapse_alarm")
    assert without.code == 2
    assert "no such metric" in without.err


def test_a_defect_keeps_its_traceback(command, train_as):
    def broken(cfg, folder):
        raise RuntimeError("shapes do not match")

    train_as(broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        command(*TINY)
    assert not list(Path.cwd().glob("runs/*"))


def test_what_was_written_stays_when_a_run_fails(command, train_as):
    def broken(cfg, folder):
        (folder / "metrics.csv").write_text("epoch")
        raise DataError("im00001.jpg: cannot be read")

    train_as(broken)
    ended = command(*TINY)
    assert (ended.code, ended.err) == (2, "error: im00001.jpg: cannot be read\n")
    assert list(Path.cwd().glob("runs/single/*/metrics.csv"))


def test_ctrl_c_before_the_training(command, train_as):
    def interrupted(cfg, folder):
        raise KeyboardInterrupt

    train_as(interrupted)
    ended = command(*TINY)
    assert (ended.code, ended.err) == (130, "interrupted\n")
    assert not list(Path.cwd().glob("runs/*"))


def test_a_failed_job_stops_no_other_and_is_named(command, train_as):
    def some(cfg, folder):
        if cfg.seed == 1:
            raise ConfigError("seed=1: unlucky\nsecond line")
        if cfg.seed == 2:
            raise RuntimeError("a defect")
        (folder / "done").touch()
        return 1.0

    train_as(some)
    ended = command("-m", "seed=1,2,3", "study=luck")
    assert ended.code == 1
    names = sorted(path.name for path in Path("runs/luck").iterdir() if path.is_dir())
    assert names == ["000_seed-1", "001_seed-2", "002_seed-3"]
    done = [(Path("runs/luck") / name / "done").exists() for name in names]
    assert done == [False, False, True]
    assert ended.err.splitlines()[-3:] == [
        "2 jobs failed:",
        f"  runs/luck/{names[0]}: seed=1: unlucky",
        f"  runs/luck/{names[1]}: a defect",
    ]
    text = (Path("runs/luck") / names[1] / "error.txt").read_text()
    assert text.startswith("a defect\n\nTraceback")

    for old in Path("runs/luck").glob("*/error.txt"):
        os.utime(old, (0, 0))
    again = command("-m", "seed=3", "study=luck")
    assert again.code == 0, "errors of an older multirun in the same study are known"


def test_a_sweep_gets_the_monitored_value(command, monkeypatch, train_as):
    train_as(lambda cfg, folder: cfg.optimizer.lr * 10)
    values = []
    monkeypatch.setattr(
        FailedJobs,
        "on_job_end",
        lambda self, config, job_return: values.append(job_return.return_value),
        raising=False,
    )
    assert command("-m", "optimizer.lr=0.1,0.2").code == 0
    assert values == [1.0, 2.0]


@pytest.mark.parametrize("name", ["000_seed-0", "2026-11-22_10-00-00_000_seed-0"])  # now and 0.1.0
def test_a_multirun_goes_on_where_it_was_interrupted(name, command, train_as):
    ran = []

    def some(cfg, folder):
        ran.append((cfg.seed, folder.name))
        (folder / "run.json").write_text(json.dumps(describe_run()))
        (folder / "checkpoints").mkdir(exist_ok=True)
        if cfg.seed < 1:
            (folder / "checkpoints" / "last.ckpt").touch()
        return 1.0

    train_as(some)
    assert command("-m", "seed=0,1", "study=luck").code == 0
    assert ran == [(0, "000_seed-0"), (1, "001_seed-1")]
    ran.clear()
    Path("runs/luck/000_seed-0").rename(f"runs/luck/{name}")
    ended = command("-m", "seed=0,1", "study=luck", "ckpt_path=last")
    assert ended.code == 0, ended.err
    assert ran == [(0, name), (1, "003_seed-1")], "one without a checkpoint starts anew"

    unnamed = command("-m", "seed=0,1", "ckpt_path=last")
    assert unnamed.code == 2
    assert unnamed.err.startswith("error: ckpt_path=last: which multirun is to be continued? Type")
    assert not list(Path("runs").glob("sweep_*"))


def test_explain_finds_our_own_error_below_others():
    try:
        try:
            raise DataError("the file is HTML")
        except DataError as error:
            raise RuntimeError("instantiation failed") from error
    except RuntimeError as error:
        message = explain(error)
    assert message == "the file is HTML"


def test_explain_knows_better_than_hydra():
    words = "Could not override 'model'.\nNo match in the defaults list."
    assert explain(ConfigCompositionException(words), "compare") == (
        "unknown group model: this application has none; leave model=… out"
    )


def test_explain_leaves_out_the_traceback_of_a_loading_process():
    class Dataset(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise DataError("images/im1.jpg has vanished: put it back")

    with pytest.raises(DataError, match=r"^Caught DataError in DataLoader worker") as caught:
        next(iter(torch.utils.data.DataLoader(Dataset(), num_workers=1)))
    assert explain(caught.value) == "images/im1.jpg has vanished: put it back"


@pytest.mark.parametrize("multirun", [False, True])
def test_a_full_disk_is_no_defect(multirun, command, train_as):
    def full(cfg, folder):
        (folder / "config.yaml").touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    train_as(full)
    ended = command(*(["-m", "study=full"] if multirun else []))
    assert ended.code == (1 if multirun else 2)
    assert "no space left; free some, or type paths.runs=FOLDER on another disk" in ended.err
    assert "Traceback" not in ended.err


def test_a_failed_job_on_a_full_disk_is_not_noted(tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    write_error(tmp_path, ConfigError("seed=1: unlucky"))
    assert "failed: seed=1: unlucky" in caplog.text


def test_explain_lists_the_keys():
    cfg = tiny_config()
    with pytest.raises(Exception, match="optimzer") as caught:
        OmegaConf.select(cfg, "model").optimzer  # noqa: B018
    assert explain(caught.value) == (
        "unknown key model.optimzer; did you mean optimizer?\n"
        "keys there: batch_norm, depth, dropout, weights, width"
    )


def test_choice():
    assert suggest("keys", "widht", ["depth", "width"]) == (
        "; did you mean width?\nkeys there: depth, width"
    )
    assert suggest("keys", "xyz", ["depth"]) == "\nkeys there: depth"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("runs/a", "run=runs/a"),
        ("my runs/a", "'run=my runs/a'"),
        ("a=1, b (x)", "\"run='a=1, b (x)'\""),
        ("Läufe", "\"run='Läufe'\""),
        ("true", "\"run='true'\""),
        ("it's, $HOME", None),
        ("x\\y, [z]", None),
    ],
)
def test_a_path_is_written_as_it_can_be_typed(path, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    word = typed("run", path)
    assert word == said or said is None
    (heard,) = shlex.split(word)  # as a shell takes it
    assert composed("evaluate", heard).run == path
