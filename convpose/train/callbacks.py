"""Callbacks of a training: moving average, frozen backbone, early stopping, alarms."""

import functools
import json
import logging
import math
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from convpose import files
from convpose.config.schema import Count, Share
from convpose.errors import ConfigError, ModelError
from convpose.metrics.pose_metrics import PredictionSpread
from convpose.train.checkpoints import LAST
from convpose.train.distributed import gather

log = logging.getLogger(__name__)


class Ema(WeightAveraging):
    """Exponential moving average of weights and statistics, over all tensors at once.

    Lightning's EMAWeightAveraging takes them one by one, eight small operations for each, at every
    step. It also makes its copy before the network is moved to a GPU and leaves it behind, so that
    every step brings all weights to the CPU.

    Args:
        decay: share of the average that a step keeps.
    """

    def __init__(self, decay: Share = 0.999) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    @property
    def state_key(self) -> str:
        """Name Lightning's class, under which earlier runs saved the state."""
        return "EMAWeightAveraging"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the network's device; the count of the steps stays on the CPU."""
        assert self._average_model is not None
        self._average_model.module.to(pl_module.device)


class FreezeBackbone(Callback):
    """Keep the backbone as it is in the first epochs, with the statistics of its batch norms.

    Args:
        epochs: number of epochs; None for the whole training.
    """

    def __init__(self, epochs: Count | None = None) -> None:
        self.epochs = epochs
        self._frozen: list[nn.Parameter] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze or thaw; also after a resume, which starts at its own epoch."""
        module: Any = pl_module
        backbone: nn.Module = module.model.backbone
        frozen = self.epochs is None or trainer.current_epoch < self.epochs
        # several processes wait for each other's gradients of all that they began with
        backbone.requires_grad_(not frozen or trainer.world_size > 1)
        backbone.train(not frozen)  # Lightning leaves the mode as it is
        self._frozen = [*backbone.parameters()] if frozen else []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Leave what is frozen out of the step, and out of the clipped norm."""
        for parameter in self._frozen:
            parameter.grad = None


class EarlyStopping(callbacks.EarlyStopping):
    """End a training whose monitor does not get better, also when the command is repeated.

    Lightning's own trains one epoch more whenever its run is continued, and ignores a patience that
    was changed since.

    Raises:
        ConfigError: a negative patience.
    """

    # its names are what a yaml may say
    @functools.wraps(callbacks.EarlyStopping.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.patience < 0:
            raise ConfigError(
                f"callbacks.early_stopping.patience={self.patience}: expected a number of epochs "
                "from 0 up; callbacks.early_stopping=null trains all of trainer.max_epochs"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the epochs waited; keep the patience that is typed now."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train no further in the folder of a run that has waited long enough."""
        own = Path(trainer.default_root_dir) / "checkpoints" / LAST
        trainer.should_stop |= own.is_file() and self.wait_count >= max(1, self.patience)


class CollapseAlarm(Callback):
    """Warn when the network gives (nearly) the same pose for every image.

    Batch norm with a squared error can settle on one mean pose. The spread of the predictions over
    the validation images, divided by the spread of the labels, is logged as ``val/spread``: 0 is a
    constant pose, about 1 is alive.

    Args:
        threshold: spread below which the alarm sounds.
        patience: epochs in a row that may lie below it.
    """

    def __init__(self, threshold: float = 0.1, patience: int = 3) -> None:
        self.threshold = threshold
        self.patience = patience
        self.epochs_below = 0
        self._spread = PredictionSpread()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
        **__: Any,
    ) -> None:
        """Add predictions and labels of the batch."""
        self._spread.to(batch["keypoints"].device)
        self._spread.update(outputs["keypoints"].detach(), batch["keypoints"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the spreads over the images of all processes, and warn."""
        ratio = float(self._spread.compute())
        self._spread.reset()
        pl_module.log("val/spread", ratio, logger=False, sync_dist=True)
        self.epochs_below = self.epochs_below + 1 if ratio < self.threshold else 0
        if self.epochs_below == self.patience and trainer.is_global_zero:
            log.warning(
                "collapse: for %d epochs the predicted poses have spread only %.3f of what the "
                "labels have; the network gives one mean pose. Try another "
                "optimizer.lr (lr_find=true proposes one), head.standardize=true, data.crop=box or "
                "pretrained model.weights",
                self.patience,
                ratio,
            )


class NanGuard(Callback):
    """Stop a training whose loss is not finite and save the batch's image ids in the run folder.

    ``nan_batch.json`` is a list, an entry for each process.

    To keep a GPU busy, the loss of a step is checked while the next one is computed. Only the last
    step of an epoch is waited for, before the network is validated and saved.

    Raises:
        ModelError: when it happens.
    """

    def __init__(self) -> None:
        # of each step: epoch, batch and image ids; its loss, and how many processes have one that
        # is not finite; on a GPU, when the two may be read
        self._unseen: list[tuple[dict[str, Any], torch.Tensor, torch.cuda.Event | None]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Copy the loss to the host asynchronously; check the previous step's."""
        loss = outputs["loss"].detach().float()
        broken = trainer.strategy.reduce((~torch.isfinite(loss)).float(), reduce_op="sum")
        values = torch.stack([loss, broken])
        arrived = None
        if loss.is_cuda:
            values = values.to("cpu", non_blocking=True)  # into pinned memory
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        ids = list(batch["image_id"])
        where = {"epoch": trainer.current_epoch, "batch": batch_idx, "image_ids": ids}
        self._unseen.append((where, values, arrived))
        while len(self._unseen) > (loss.is_cuda and not trainer.is_last_batch):
            self._look(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the steps of the search for a learning rate."""
        self._unseen = []

    def _look(self, trainer: Trainer) -> None:
        where, values, arrived = self._unseen.pop(0)
        if arrived is not None:
            arrived.synchronize()
        loss, broken = values.tolist()
        if not broken:
            return
        path = Path(trainer.default_root_dir) / "nan_batch.json"
        everywhere = gather(where | {"loss": str(loss)})
        if trainer.is_global_zero:
            files.write(path, json.dumps(everywhere, indent=2))
        own = f"the loss is {loss}" if not math.isfinite(loss) else ""
        raise ModelError(
            f"{own or 'a process has a loss that is not finite'} in epoch {where['epoch']}, "
            f"batch {where['batch']}; its image ids are in {path}. Try a lower optimizer.lr, "
            "trainer.precision=32-true or trainer.gradient_clip_val=1"
        )
