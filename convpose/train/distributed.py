"""Train in one process or several: check that they can agree, explain how a training ends.

Lightning starts the other processes of this machine by repeating the command (``trainer=ddp``);
torchrun and srun start all of them. `docs/distributed.md` has the commands and the rule for rates.
"""

import contextlib
import signal
import sys
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig

from convpose.config.application import at_sigterm
from convpose.data.datamodule import PoseDataModule
from convpose.errors import ConfigError, ModelError
from convpose.files import shown
from convpose.hardware import out_of_memory
from convpose.train.module import PoseModule

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


def ends_in_order() -> contextlib.AbstractContextManager[None]:
    """Silence the loading processes on SIGTERM, before whoever else handles it; see Lightning."""
    before = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: Any) -> None:
        silence_loaders()
        if callable(before):
            before(number, frame)

    return at_sigterm(end)


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


def fit_or_explain(
    trainer: Trainer, module: PoseModule, datamodule: PoseDataModule, checkpoint: Path | None
) -> None:
    """Call Lightning's fit, with advice for what may happen to it.

    Raises:
        ConfigError: what Lightning refuses only now, a network that cannot be compiled, or one
            whose gradients several processes would wait for in vain.
        ModelError: out of memory.
        SystemExit: 130 after Ctrl-C and 143 after SIGTERM, when the run folder is in order.
    """
    try:
        with ends_in_order():
            trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:  # what Lightning makes of both signals
        if not trainer.interrupted:
            raise
        raise SystemExit(_stopped(trainer, isinstance(end, SIGTERMException))) from end
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {error}") from error
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"compile=true: {reason}; type compile=false") from error
    except Exception as error:
        if trainer.received_sigterm:  # by the loading processes, too: a scheduler tells them all
            raise SystemExit(_stopped(trainer, by_scheduler=True)) from error
        size = f"data.batch_size={datamodule.batch_size}"
        if out_of_memory(error):
            auto = "data.batch_size=auto or " if trainer.strategy.root_device.type == "cuda" else ""
            raise ModelError(
                f"out of memory with {size} at data.input_size_px={datamodule.input_size_px}; "
                "halve data.batch_size and double trainer.accumulate_grad_batches, or type "
                f"{auto}trainer.precision=bf16-mixed"
            ) from error
        if "not used in producing the loss" in str(error):
            raise ConfigError(
                "trainer.strategy=ddp: the head leaves out features of this network, whose "
                "gradients the processes wait for; type "
                "trainer.strategy=ddp_find_unused_parameters_true"
            ) from error
        raise


def _stopped(trainer: Trainer, by_scheduler: bool) -> int:
    """Print how to go on after a signal; return the exit code of this process."""
    stop = signal.SIGTERM if by_scheduler else signal.SIGINT
    if trainer.is_global_zero:
        print(
            f"stopped by {stop.name} in epoch {trainer.current_epoch + 1}; the same command with "
            f"ckpt_path=last continues {shown(trainer.default_root_dir)}",
            file=sys.stderr,
        )
    elif not outside(trainer):
        return 0  # else Lightning kills the first process, which started this one, for its failure
    return 128 + stop
