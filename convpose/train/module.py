"""Train any model with any loss by one step function, which knows none of them by name.

Parameters are in groups for the optimizer, and the learning rate follows a schedule by step.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch
from annotated_types import Gt, Le
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torchmetrics import Metric

from convpose.config.schema import Share
from convpose.data.annotation import PoseSample
from convpose.geometry import transform
from convpose.metrics.pose_metrics import PoseMetrics
from convpose.models.keypoints import visibility_loss
from convpose.models.pose_model import PoseModel, PoseOutput
from convpose.skeleton import Skeleton

HEADLINE = ("pck@0.2", "pck@0.1", "auc", "pcp@0.5", "epe_px", "mse_unit")
# of optimizer.lr
Factor = Annotated[float, Gt(0), Le(1), "callbacks=[default,freeze] keeps the backbone as it is"]


class ParameterGroups:
    """Split a network's parameters into groups for the optimizer.

    A pretrained backbone knows edges and limbs already: it may learn more slowly than the new head,
    and its first layers more slowly than its last.

    Args:
        backbone_lr: rate of the backbone's last layer over ``optimizer.lr``, the head's.
        first_layer_lr: rate of the backbone's first layer over that of its last; the layers between
            follow geometrically.
        decay_norms: apply ``weight_decay`` to the scales of norm layers and to biases, too.
    """

    def __init__(
        self, backbone_lr: Factor = 1.0, first_layer_lr: Factor = 1.0, decay_norms: bool = False
    ) -> None:
        self.backbone_lr = backbone_lr
        self.first_layer_lr = first_layer_lr
        self.decay_norms = decay_norms

    def __call__(self, model: PoseModel, loss: nn.Module) -> list[dict[str, Any]]:
        """List the groups, the head's first, each with its ``lr_factor``.

        Args:
            model: the network.
            loss: may have parameters, which learn like the head's.
        """
        layers = [m for m in model.backbone.modules() if list(m.parameters(recurse=False))]
        last = max(len(layers) - 1, 1)
        factor = {
            p: self.backbone_lr * self.first_layer_lr ** (1 - i / last)
            for i, layer in enumerate(layers)
            for p in layer.parameters(recurse=False)
        }
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for module in (*model.modules(), *loss.modules()):
            for parameter in module.parameters(recurse=False):
                key = (factor.get(parameter, 1.0), self.decay_norms or parameter.ndim > 1)
                groups.setdefault(key, []).append(parameter)
        ordered = sorted(groups.items(), key=lambda item: item[0], reverse=True)
        return [
            {"params": parameters, "lr_factor": rate} | ({} if decays else {"weight_decay": 0.0})
            for (rate, decays), parameters in ordered
        ]


def constant(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """Keep the same rate from the first to the last step, as in the paper."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(
    optimizer: Optimizer, total_steps: int, warmup: Share = 0.05, final: Share = 0.0
) -> LambdaLR:
    """Warm up linearly, then fall along half a cosine (Loshchilov and Hutter, 2017).

    Args:
        optimizer: its rate is the peak.
        total_steps: of the whole training.
        warmup: share of the steps that rise.
        final: rate at the end over the peak.
    """
    rise = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        along = min(1.0, (step - rise) / max(1, total_steps - rise))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * along))

    return LambdaLR(optimizer, factor)


def step(
    optimizer: Optimizer,
    total_steps: int,
    milestones: tuple[Share, ...] = (0.7, 0.9),
    gamma: Share = 0.1,
    warmup: Share = 0.05,
) -> LambdaLR:
    """Warm up linearly, then multiply by `gamma` at each milestone.

    Args:
        optimizer: its rate is the peak.
        total_steps: of the whole training.
        milestones: shares of the steps after which the rate falls.
        gamma: factor of each fall.
        warmup: share of the steps that rise.
    """
    rise = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return float(gamma ** sum(step >= share * total_steps for share in milestones))

    return LambdaLR(optimizer, factor)


class WeightedMean(Metric):
    """Sum of value × weight over the sum of weights; NaN stays NaN.

    Lightning's own mean over several processes divides by a count that it rounds down, and
    torchmetrics' MeanMetric forgets the weights when it is to leave NaN alone.
    """

    full_state_update = False

    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor) -> None:
        """Add a batch: two scalars; nothing waits for the device."""
        value, weight = value.detach().double(), weight.double()
        self.sums = self.sums + torch.stack([value * weight, weight])

    def compute(self) -> Tensor:
        """Compute the mean, a scalar."""
        return (self.sums[0] / self.sums[1]).float()


class PoseModule(LightningModule):
    """Train and validate a pose model.

    Args:
        model: crops (B, 3, S, S) to `PoseOutput`.
        loss: (output, keypoints, visibility) to a scalar.
        optimizer: groups of parameters to an optimizer.
        parameters: groups of parameters, each with an ``lr_factor``.
        scheduler: (optimizer, total_steps) to a schedule by step.
        skeleton: of the keypoints.
        seed: with epoch and batch it seeds dropout, so that a resumed epoch repeats itself.
    """

    def __init__(
        self,
        model: PoseModel,
        loss: nn.Module,
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        parameters: ParameterGroups,
        scheduler: Callable[[Optimizer, int], LRScheduler],
        skeleton: Skeleton,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.parameter_groups = parameters
        self.scheduler = scheduler
        self.seed = seed
        self.learning_rate: float | None = None  # set by the learning-rate finder
        self.metrics = PoseMetrics(skeleton)
        self.validation_loss = WeightedMean()  # over labelled keypoints, however they are batched
        self.metrics_of: dict[str, PoseMetrics] = {}  # by data set, where several validate
        self.dataset_of: dict[str, str] = {}  # image id → data set, likewise
        self.validation: dict[str, Any] = {}  # all measures of the last validation

    def forward(self, image: torch.Tensor) -> PoseOutput:
        """Predict crops (B, 3, S, S) uint8."""
        output: PoseOutput = self.model(image)
        return output

    def step(self, batch: PoseSample) -> tuple[PoseOutput, torch.Tensor]:
        """Compute output and loss of a batch, the same way in training and validation."""
        return self.model.forward_with_loss(
            batch["image"], batch["keypoints"], batch["visibility"], self.loss
        )

    def on_train_batch_start(self, batch: PoseSample, batch_idx: int) -> None:
        """Seed dropout by run, epoch, batch and process: loaders draw from the same generator."""
        key = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(hash(key))

    def training_step(self, batch: PoseSample, batch_idx: int) -> torch.Tensor:
        """Return the loss to step on; the visibility probe's has no gradient outside the probe."""
        output, loss = self.step(batch)
        self._log("train/loss", loss, len(batch["image_id"]))
        if "visibility_logits" in output:
            loss = loss + visibility_loss(output["visibility_logits"], batch["visibility"])
        return loss

    def on_validation_start(self) -> None:
        """Find out which data sets validate: of several, each is measured by itself as well."""
        data = self.trainer.datamodule.datasets["val"]  # type: ignore[attr-defined]
        sets = {a.image_id: a.dataset for a in (data.source.annotations[i] for i in data.indices)}
        names = sorted(set(sets.values()))
        self.dataset_of = sets
        self.metrics_of = {
            name: PoseMetrics(self.metrics.skeleton).to(self.device)
            for name in names
            if len(names) > 1
        }

    def validation_step(self, batch: PoseSample, batch_idx: int) -> PoseOutput:
        """Add a batch to loss and metrics; the output goes to the callbacks."""
        output, loss = self.step(batch)
        self.validation_loss.update(loss, (batch["visibility"] > 0).sum())
        measured = (
            transform(batch["unit_to_px"], output["keypoints"]),
            batch["keypoints_px"],
            batch["visibility"],
            output["keypoints"],
            batch["keypoints"],
            batch["box_px"],
        )
        self.metrics.update(*measured)
        for name, metrics in self.metrics_of.items():
            own = [i for i, image in enumerate(batch["image_id"]) if self.dataset_of[image] == name]
            if own:
                metrics.update(*(values[own] for values in measured))
        return output

    def on_validation_epoch_end(self) -> None:
        """Compute the measures and log the headline."""
        self._log("val/loss", self.validation_loss.compute())
        self.validation_loss.reset()
        self.validation = self.metrics.compute()
        self.metrics.reset()
        for name in HEADLINE:
            self._log(f"val/{name}", float(self.validation[name]))
        for name, metrics in self.metrics_of.items():
            measures = metrics.compute()
            self._log(f"val/pck@0.2/{name}", float(measures["pck@0.2"]))
            self._log(f"val/limbs_pck@0.2/{name}", float(measures["limbs"]["pck@0.2"]))

    def make_optimizer(self) -> Optimizer:
        """Make an optimizer for all parameters, each group at its own rate."""
        optimizer = self.optimizer(self.parameter_groups(self.model, self.loss))
        for group in optimizer.param_groups:
            group["lr"] = (self.learning_rate or group["lr"]) * group["lr_factor"]
        return optimizer

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """Give Lightning the optimizer and its schedule, stepped every batch."""
        optimizer = self.make_optimizer()
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self.scheduler(optimizer, total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _log(self, name: str, value: torch.Tensor | float, batch_size: int | None = None) -> None:
        """Log for callbacks and progress bar; `EpochReport` writes to the logger, by epoch."""
        self.log(
            name,
            value,
            logger=False,
            on_step=False,
            on_epoch=True,
            batch_size=batch_size,
            sync_dist=True,
        )
