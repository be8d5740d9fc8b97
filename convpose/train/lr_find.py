"""``lr_find=true``: search the learning rate before the training."""

from pathlib import Path

import numpy as np
from lightning import Trainer
from lightning.pytorch.tuner.tuning import Tuner

from convpose.data.datamodule import PoseDataModule
from convpose.errors import ConfigError
from convpose.plot.curves import loss_by_rate, save_figure
from convpose.train.module import PoseModule


def find_learning_rate(
    trainer: Trainer, module: PoseModule, datamodule: PoseDataModule, folder: Path
) -> None:
    """Search the learning rate and train with it; the curve goes to ``lr_find.png``.

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
