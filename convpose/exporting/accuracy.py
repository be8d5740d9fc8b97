"""Accuracy: what an exported network loses on the validation part."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from convpose.build import build_datamodule
from convpose.data.datamodule import PoseDataModule
from convpose.errors import ConfigError
from convpose.exporting.network import Network
from convpose.geometry import transform
from convpose.inference.runtime import Runtime
from convpose.inference.spec import Spec
from convpose.progress import progress
from convpose.scoring import Truth


def open_data(cfg: DictConfig, network: Network, spec: Spec) -> PoseDataModule:
    """The data of ``cfg.data``, else of the network's run with its split; not augmented.

    Args:
        cfg: of ``conf/export.yaml``.
        network: what is exported.
        spec: of its crops.

    Raises:
        ConfigError: packaged weights without data.
        DataError: see the sources.
    """
    other = cfg.get("data")
    if other is not None:
        own = OmegaConf.create({"data": OmegaConf.to_container(other, resolve=True)})
        own.data.input_size_px, own.data.box_scale = spec.input_size_px, spec.box_scale
        own.data.skeleton = spec.skeleton.name
    elif network.run is not None:
        own = network.run.config_to_score(cfg.paths.data)
    else:
        raise ConfigError(
            "precision=int8 of packaged weights needs pictures to calibrate with; type data=lspet, "
            "data=lsp, …"
        )
    own.data.batch_size = cfg.batch_size
    datamodule = build_datamodule(own)
    datamodule.setup()
    return datamodule


def some_crops(datamodule: PoseDataModule, part: str, count: int) -> NDArray[np.uint8]:
    """Up to `count` crops (N, 3, S, S) of a part, drawn at random, always the same."""
    dataset = datamodule.datasets[part]
    drawn = np.random.default_rng(0).permutation(len(dataset))[:count]
    return np.stack([dataset[int(i)]["image"].numpy() for i in drawn])


def validate(runtime: Runtime, datamodule: PoseDataModule, what: str) -> dict[str, Any]:
    """The measures of a runtime on the validation part, see `convpose.scoring.Truth.score`."""
    predicted_px = []
    loader = datamodule.loader("val")
    for batch in progress(loader, f"validating {what}"):
        keypoints, _ = runtime(batch["image"].numpy())
        predicted_px.append(transform(batch["unit_to_px"], torch.from_numpy(keypoints)))
    truth = Truth.of(datamodule.datasets["val"], datamodule.skeleton)
    return truth.score(torch.cat(predicted_px))
