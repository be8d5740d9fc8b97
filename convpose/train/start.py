"""Prepare what a training starts with: a trained network, a batch size, a learning rate.

Of a trained network it takes over what both share, and measures it. ``data.batch_size=auto`` and
``lr_find=true`` are chosen here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.tuner.tuning import Tuner
from omegaconf import DictConfig, OmegaConf

from convpose.config.allowlist import as_data, find_target
from convpose.config.arguments import refuse_overwritten
from convpose.config.instantiate import skeleton_of
from convpose.data.datamodule import PoseDataModule, power_of_two
from convpose.errors import ConfigError, ModelError
from convpose.evaluate.scoring import GroundTruth, on_device, predict
from convpose.files import conf_folder
from convpose.models.build import build_head, drop_weights
from convpose.models.pose_model import PoseModel
from convpose.models.weights import read_weights
from convpose.plot.curves import loss_by_rate, save_figure
from convpose.run import Run
from convpose.runtime.packaged import is_packaged, read_packaged
from convpose.skeleton import counterparts
from convpose.train.module import PoseModule
from convpose.train.request import find_weights

STEPS = 10  # an epoch has at least so many
MOST_ON_CPU = 64  # more is no faster: caches are full (VGG-11, one core: 64 341/s, 256 258/s)
GPU_SHARE = 0.9  # of its memory; the rest is for what a long training adds, such as fragments


@dataclass(frozen=True)
class Pretrained:
    """Holds a trained network, as its file has it.

    Attributes:
        source: the file.
        state: tensors by name, with or without the prefix of a checkpoint.
        config: that its network was built from; None for a file that does not say.
    """

    source: Path
    state: Mapping[str, torch.Tensor]
    config: DictConfig | None

    @classmethod
    def find(cls, weights: str) -> "Pretrained":
        """Find what ``weights=`` names: ``small``, a run or study, a checkpoint or packed file.

        Raises:
            ConfigError: no run there.
            ModelError: no such file, or one that is damaged.
        """
        path = find_weights(weights)
        if path.is_dir():
            path = Run(path, "weights").checkpoint("best")
        if is_packaged(path):
            state, facts = read_packaged(path)
            return cls(path, state, as_data(facts["config"], str(path)))
        folder = path.absolute().parent.parent
        known = (folder / "config.yaml").is_file()
        return cls(path, read_weights(path), Run(folder).config if known else None)


def take_network(cfg: DictConfig, config: DictConfig | None, continued: bool = False) -> None:
    """Replace model, head and input size of a configuration by those of a trained network.

    The loss becomes the head's own where the configured one trains outputs that the head lacks.

    Raises:
        ConfigError: nobody knows the network, it is a cascade, or a key that was typed for a new
            training differs from it.
    """
    if config is None or "start" in config.model:
        what = "does not say what network it is of" if config is None else "is of a cascade"
        raise ConfigError(
            f"weights={cfg.weights} take_network=true: the file {what}; type "
            "weights=small or weights=RUN_FOLDER, or take_network=false with the model, head "
            "and data.input_size_px keys of its run"
        )
    parts: Any = {key: OmegaConf.to_container(config[key]) for key in ("model", "head")}
    drop_weights(parts)
    network = {**parts, "data.input_size_px": config.data.input_size_px}
    if not continued:
        refuse_overwritten(cfg, network, ", or type take_network=false")
    for key, value in network.items():
        OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    head: Any = find_target(cfg.head.get("_target_"), "head")
    loss: Any = find_target(cfg.loss.get("_target_"), "loss")
    if set(getattr(loss, "requires", ())) - set(getattr(head, "outputs", ())):
        own = OmegaConf.load(conf_folder() / "loss" / f"{head.default_loss}.yaml")
        OmegaConf.update(cfg, "loss", own, merge=False, force_add=True)


def shared_rows(cfg: DictConfig, model: PoseModel, pretrained: Pretrained) -> dict[str, list[int]]:
    """Find the rows of a trained network's head that belong to keypoints of this one, by name.

    Returns:
        For each tensor of the head that has rows for keypoints, the trained network's row for each
        of its own; −1 where that network lacks the keypoint. Empty where both have the same
        keypoints, or nobody knows those of the trained network.
    """
    if pretrained.config is None or "start" in cfg.model:
        return {}
    old, new = skeleton_of(pretrained.config), skeleton_of(cfg)
    if old.keypoints == new.keypoints:
        return {}
    other = cfg.copy()
    drop_weights(other)
    names = [*new.keypoints, "one more than there is"]  # what grows with it has rows for keypoints
    skeleton = {"name": "larger", "keypoints": names}
    OmegaConf.update(other, "data.skeleton", skeleton, merge=False, force_add=True)
    with torch.device("meta"):
        backbone: Any = model.backbone
        larger = build_head(other, backbone, cfg.data.input_size_px).state_dict()
    index, rows = counterparts(old.keypoints, new), {}
    for name, tensor in model.head.state_dict().items():
        each = len(larger[name]) - len(tensor) if tensor.ndim else 0
        if each:
            own = [each * i + j if i >= 0 else -1 for i in index for j in range(each)]
            rows[f"head.{name}"] = own
    return rows


def describe_keypoints(cfg: DictConfig, pretrained: Pretrained) -> str:
    """Say which keypoints the trained network shares, and which are new."""
    if pretrained.config is None:
        return ""
    old, new = skeleton_of(pretrained.config), skeleton_of(cfg)
    index = counterparts(old.keypoints, new)
    names = zip(new.keypoints, index, strict=True)
    shared = [name for name, i in names if i >= 0]
    fresh = ", ".join(name for name in new.keypoints if name not in shared) or "none"
    return f"  keypoints taken over: {', '.join(shared) or 'none'}; fresh: {fresh}"


def validation_pck(
    model: PoseModel, datamodule: PoseDataModule, device: torch.device, precision: str
) -> float:
    """Measure PCK@0.2 of the validation subset; leave the model and random numbers as they are."""
    training = model.training
    with torch.random.fork_rng():
        predictions = predict(on_device(model, device, precision), datamodule.loader("val"))
    model.cpu().train(training)  # Lightning trains in the mode that it finds
    truth = GroundTruth.of(datamodule.datasets["val"], datamodule.skeleton)
    return float(truth.score(torch.from_numpy(predictions.keypoints_px))["pck@0.2"])


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
