"""Choose what a training is left to choose: ``data.batch_size=auto`` and ``lr_find=true``."""

from pathlib import Path

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.tuner.tuning import Tuner

from convpose.data.datamodule import PoseDataModule, power_of_two
from convpose.errors import ConfigError, ModelError
from convpose.plot.curves import loss_by_rate, save_figure
from convpose.train.module import PoseModule

STEPS = 10  # an epoch has at least so many
MOST_ON_CPU = 64  # more is no faster: caches are full (VGG-11, one core: 64 341/s, 256 258/s)
GPU_SHARE = 0.9  # of its memory; the rest is for what a long training adds, such as fragments


def choose_batch_size(module: PoseModule, datamodule: PoseDataModule, trainer: Trainer) -> int:
    """Choose the batch size for a training on one device, set it and print it.

    It is a power of two that leaves an epoch at least `STEPS` steps: on a GPU the largest one whose
    steps fit into the memory, on a CPU, which gains nothing from more, at most `MOST_ON_CPU`.

    Raises:
        ModelError: not even the smallest batch fits into the GPU.
    """
    images = len(datamodule.datasets["train"])
    size = max(2, power_of_two(images // STEPS))
    reason = f"at least {STEPS} steps an epoch of {images} images"
    if trainer.strategy.root_device.type == "cuda":
        fits = largest_that_fits(module, datamodule, trainer, size)
        if fits < size:
            size, reason = fits, f"{2 * fits} do not fit into {GPU_SHARE:.0%} of the GPU's memory"
    elif size > MOST_ON_CPU:
        size, reason = MOST_ON_CPU, "a CPU gains nothing from more"
    datamodule.batch_size = size
    print(f"data.batch_size=auto: {size} ({reason})", flush=True)
    return size


def largest_that_fits(
    module: PoseModule, datamodule: PoseDataModule, trainer: Trainer, most: int
) -> int:
    """Try steps with 2, 4, 8 … up to `most` images until the GPU's memory is full.

    Network and trainer are afterwards as they were before.

    Raises:
        ModelError: not even two images fit.
    """
    tuner, device = Tuner(trainer), trainer.strategy.root_device
    datamodule.batch_size = 2
    torch.cuda.set_per_process_memory_fraction(GPU_SHARE, device)
    try:
        found = tuner.scale_batch_size(
            module,
            datamodule=datamodule,
            mode="power",
            init_val=datamodule.batch_size,
            max_trials=most.bit_length() - 1,
            max_val=2 * most,
        )
    except Exception:
        if datamodule.batch_size >= 2:
            raise
        found = 0  # after two images the tuner tries one, which batch norm refuses, and none
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    if not found or found < 2:
        raise ModelError(
            f"data.batch_size=auto: not even 2 images of data.input_size_px="
            f"{datamodule.input_size_px} fit into {GPU_SHARE:.0%} of the GPU's memory; type a "
            "smaller model or input"
        )
    return found


def find_learning_rate(
    trainer: Trainer, module: PoseModule, datamodule: PoseDataModule, folder: Path
) -> None:
    """Search the learning rate and set it; the curve goes to ``lr_find.png``.

    While the rate rises from step to step (Smith, 2017), the loss falls, then climbs; a tenth of
    the rate at the lowest loss is taken. Lightning's suggestion, the steepest fall, is often noise.

    Raises:
        ConfigError: the loss shows no valley.
    """
    finder = Tuner(trainer).lr_find(
        module, datamodule=datamodule, min_lr=1e-6, attr_name="learning_rate", update_attr=False
    )
    results = finder.results if finder else {"lr": [], "loss": []}
    rates, losses = np.array(results["lr"])[10:], np.array(results["loss"])[10:]  # settled by then
    lowest = int(np.nanargmin(losses)) if np.isfinite(losses).any() else 0
    if lowest == 0:
        raise ConfigError(
            "lr_find=true: the loss shows no valley; choose optimizer.lr yourself, or search over "
            "more steps, with more trainer.max_epochs or a smaller data.batch_size"
        )
    module.learning_rate = float(rates[lowest]) / 10
    figure = loss_by_rate(rates.tolist(), losses.tolist(), module.learning_rate)
    save_figure(figure, folder / "lr_find.png")
    print(f"lr_find: optimizer.lr={module.learning_rate:.3g}", flush=True)
