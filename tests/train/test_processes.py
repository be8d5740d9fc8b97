"""Several processes: what is refused before they start, and who gets which images."""

import signal
import subprocess
from multiprocessing.connection import wait
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import OmegaConf
from tiny import TINY, tiny_config
from torch.utils.data import DataLoader

from convpose.errors import ConfigError, ModelError
from convpose.files import shown
from convpose.train.distributed import (
    StopTogether,
    check_processes,
    ends_in_order,
    fit_or_explain,
    gather,
)

DDP = ("trainer.strategy=ddp", "trainer.devices=2")


def trainer(processes=2, started_by=LightningEnvironment):
    strategy = SimpleNamespace(cluster_environment=started_by())
    return SimpleNamespace(world_size=processes, strategy=strategy, received_sigterm=False)


@pytest.fixture
def hydra(monkeypatch):
    """As if Hydra had started this process."""

    def started(mode=RunMode.RUN, name="train", overrides=()):
        known = {"mode": mode, "job": {"config_name": name}, "overrides": {"hydra": overrides}}
        monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
        monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create(known))

    return started


def test_several_processes_of_one_training(hydra):
    check_processes(trainer(), tiny_config(*DDP))  # as a library
    hydra()
    check_processes(trainer(), tiny_config(*DDP))
    hydra(overrides=["hydra.run.dir=runs/wide"])
    check_processes(trainer(started_by=TorchElasticEnvironment), tiny_config(*DDP))


@pytest.mark.parametrize("how", [{"mode": RunMode.MULTIRUN}, {"name": "search"}], ids=str)
def test_a_job_of_many_has_one_process(how, hydra):
    hydra(**how)
    with pytest.raises(
        ConfigError,
        match=r"^trainer\.devices=2 \(trainer\.strategy=ddp\): 2 processes in a job of a multirun "
        r"or search, where each job has one; type trainer\.devices=1, or .* without -m$",
    ):
        check_processes(trainer(), tiny_config(*DDP))
    check_processes(trainer(processes=1), tiny_config())


def test_processes_that_others_start_share_a_folder(hydra):
    hydra()
    with pytest.raises(ConfigError, match=r"run folder of its own; type hydra\.run\.dir=FOLDER$"):
        check_processes(trainer(started_by=TorchElasticEnvironment), tiny_config(*DDP))


@pytest.mark.parametrize("key", ["data.batch_size=auto", "lr_find=true"])
def test_each_would_choose_for_itself(key):
    with pytest.raises(ConfigError, match=rf"{key}: each process would choose for itself; find it"):
        check_processes(trainer(), tiny_config(*DDP, key))


def test_a_multirun_refuses_before_it_starts_processes(command):
    ended = command("-m", *TINY, *DDP, "study=wide", "seed=0,1")
    assert ended.code == 1
    assert ended.err.count("2 processes in a job of a multirun or search") >= 2
    assert "Traceback" not in ended.err


def test_a_batch_larger_than_a_share(command):
    ended = command(*TINY, *DDP, "data.batch_size=15")
    assert (ended.code, ended.err) == (
        2,
        "error: data.batch_size=15 is larger than the training subset of each of 2 processes with "
        "its 14 images; type data.batch_size=2\n",
    )


def test_more_processes_than_validation_images(command):
    ended = command(*TINY, "trainer.strategy=ddp", "trainer.devices=7", "data.batch_size=2")
    assert (ended.code, ended.err) == (
        2,
        "error: 7 processes for 6 validation images; type trainer.devices=6\n",
    )


def test_one_process_gathers_its_own():
    assert gather({"a": 1}) == [{"a": 1}]


def test_a_scheduler_ends_all_processes_at_once(monkeypatch):
    told, handlers = [], {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    StopTogether().on_train_start(trainer(processes=1), None)
    assert not handlers, "one process stops at the end of its batch"
    several = trainer()
    several.strategy.launcher = SimpleNamespace(kill=told.append)
    StopTogether().on_train_start(several, None)
    with pytest.raises(SIGTERMException):
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert told == [signal.SIGTERM]
    assert handlers[signal.SIGTERM] == signal.SIG_IGN, "a second one does not disturb the end"


def test_loading_processes_that_were_told_to_end_raise_nothing_in_the_clean_end():
    """A scheduler tells all processes; PyTorch would raise for each, wherever this one is."""
    batches = iter(DataLoader(list(range(64)), num_workers=2))
    next(batches)
    before = signal.getsignal(signal.SIGCHLD), signal.getsignal(signal.SIGTERM)
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    try:
        with ends_in_order():
            signal.raise_signal(signal.SIGTERM)
            loaders = [str(process.pid) for process in batches._workers]
            subprocess.run(["kill", *loaders], check=True)  # the parent's signal is no surprise
            for process in batches._workers:  # join would take its end before PyTorch sees it
                assert wait([process.sentinel], timeout=30)
            assert told == [True], "who handled it before handles it still"
            del batches  # while nobody is told of the ends
    finally:
        for number, handler in zip((signal.SIGCHLD, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def test_processes_that_wait_for_gradients_that_no_step_has():
    def unused(*_, **__):
        raise RuntimeError("It looks like … parameters that were not used in producing the loss")

    beside, datamodule = trainer(), SimpleNamespace(batch_size=8)
    beside.fit = unused
    with pytest.raises(
        ConfigError, match=r"ddp: the head leaves out.*type trainer\.strategy=ddp_f"
    ):
        fit_or_explain(beside, None, datamodule, None)


@pytest.mark.parametrize(
    ("started_by", "first", "code"),
    [
        (LightningEnvironment, True, 143),
        (LightningEnvironment, False, 0),
        (TorchElasticEnvironment, False, 143),
    ],
)
def test_exit_codes_of_several_processes(started_by, first, code, monkeypatch, tmp_path, capsys):
    """Lightning kills the process that has started another one which failed."""
    monkeypatch.setenv("LOCAL_RANK", "0" if first else "1")

    def stopped(*_, **__):
        raise SIGTERMException

    beside = trainer(started_by=started_by)
    beside.is_global_zero, beside.interrupted, beside.fit = first, True, stopped
    beside.current_epoch, beside.default_root_dir = 3, tmp_path
    with pytest.raises(SystemExit) as end:
        fit_or_explain(beside, None, None, None)
    assert end.value.code == code
    said = "stopped by SIGTERM in epoch 4; the same command with ckpt_path=last continues"
    assert capsys.readouterr().err == (f"{said} {shown(tmp_path)}\n" if first else "")

    def loader_stopped(*_, **__):  # a scheduler tells the loading processes as well
        raise ModelError("a process that loads images was killed")

    beside.fit, beside.received_sigterm = loader_stopped, True
    with pytest.raises(SystemExit) as end:
        fit_or_explain(beside, None, None, None)
    assert end.value.code == code
