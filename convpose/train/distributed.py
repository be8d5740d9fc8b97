"""Train one network in several processes: check that they can agree, and end them together.

Lightning starts the other processes of this machine by repeating the command (``trainer=ddp``);
torchrun and srun start all of them. `docs/distributed.md` has the commands and the rule for rates.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from convpose.errors import ConfigError

T = TypeVar("T")


def check_processes(trainer: Trainer, cfg: DictConfig) -> None:
    """Refuse what several processes cannot do.

    A training that is one of many, a job of a multirun or a trial of a search, has one process:
    to repeat the command would start the whole sweep once more.

    Raises:
        ConfigError: several processes in such a training, without a folder that all of them know,
            or with something that each of them would choose for itself.
    """
    if trainer.world_size == 1:
        return
    asked = f"trainer.devices={cfg.trainer.devices} (trainer.strategy={cfg.trainer.strategy})"
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if hydra and (hydra.mode == RunMode.MULTIRUN or hydra.job.config_name == "search"):
        raise ConfigError(
            f"{asked}: {trainer.world_size} processes in a job of a multirun or search, where each "
            "job has one; type trainer.devices=1, or train the settings one after the other "
            "without -m"
        )
    named = hydra is None or any(o.startswith("hydra.run.dir=") for o in hydra.overrides.hydra)
    if not named and outside(trainer):
        raise ConfigError(
            f"{asked}: each process would make a run folder of its own; type hydra.run.dir=FOLDER"
        )
    if cfg.data.batch_size == "auto" or cfg.lr_find:
        key = "data.batch_size=auto" if cfg.data.batch_size == "auto" else "lr_find=true"
        raise ConfigError(
            f"{asked} {key}: each process would choose for itself; find it with trainer.devices=1 "
            "debug=fast and type the value"
        )


def outside(trainer: Trainer) -> bool:
    """Tell if torchrun, srun or the like has started the processes."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return environment is not None and not isinstance(environment, LightningEnvironment)


def gather(value: T) -> list[T]:
    """Gather the value of every process, in the order of their ranks; all of them must call."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def silence_loaders() -> None:
    """Let loading processes end without an error in this one, once a signal told all to end.

    PyTorch raises for each of them in whatever this process does next, the clean end included.
    """
    if sys.platform != "win32":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@contextlib.contextmanager
def ends_in_order() -> Iterator[None]:
    """Silence the loading processes on SIGTERM, before whoever else handles it; see Lightning."""
    if threading.current_thread() is not threading.main_thread():  # it cannot handle signals
        yield
        return
    before = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: Any) -> None:
        silence_loaders()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class StopTogether(Callback):
    """End every one of several processes at once on SIGTERM.

    Lightning has its processes talk to each other in the signal handler, in the midst of whatever
    exchange they are in: some wait for ever. The checkpoint of the last epoch is complete at any
    time, so that there is nothing to wait for.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's SIGTERM handler until the training ends."""
        if trainer.world_size == 1:
            return
        stop_others = getattr(trainer.strategy.launcher, "kill", None)

        def stop(number: int, frame: Any) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            silence_loaders()
            if stop_others is not None:
                stop_others(number)
            raise SIGTERMException

        signal.signal(signal.SIGTERM, stop)
