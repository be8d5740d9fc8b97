"""Explain how a training may end: each way in words, with what to do next."""

import signal
import sys
from pathlib import Path

import torch
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException

from convpose.data.datamodule import PoseDataModule
from convpose.errors import ConfigError, ModelError
from convpose.hardware import out_of_memory
from convpose.train.distributed import ends_in_order, outside
from convpose.train.module import PoseModule


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
            f"ckpt_path=last continues {trainer.default_root_dir}",
            file=sys.stderr,
        )
    elif not outside(trainer):
        return 0  # else Lightning kills the first process, which started this one, for its failure
    return 128 + stop
