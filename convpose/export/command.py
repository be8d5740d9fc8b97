"""Export as the configuration of ``convpose.export`` says, and check the file."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from convpose import files
from convpose.config.arguments import typed, was_typed
from convpose.data.build import build_datamodule, refuse_other_crops
from convpose.data.crop import Crop
from convpose.data.datamodule import PoseDataModule
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConfigError, ModelError
from convpose.evaluate.scoring import GroundTruth, predict
from convpose.export.network import Network, staged, write
from convpose.export.request import SUFFIXES, check_keys
from convpose.plot.tables import Measures, Table, percent, pixels, totals
from convpose.runtime import CropSpec, Runtime
from convpose.runtime.engines import ENGINE_OF, MAC_ONLY, OPENERS
from convpose.runtime.pytorch import AsModule

LIMITS_PX = {"fp32": 0.02, "fp16": 0.5}
CROPS = 48
BATCH_SIZES = (1, 3, 16)  # several, so that an export for one size alone is noticed


@dataclass(frozen=True, slots=True)
class Difference:
    """Distances of keypoints between two runtimes, in pixels of the crop.

    Attributes:
        crops: number of crops.
        largest_px: largest distance of all keypoints.
        usual_px: distance that 99 in 100 keypoints do not exceed. Where a heatmap has two peaks of
            almost the same height, rounding decides which one is the keypoint.
        score: largest difference of scores.
    """

    crops: int
    largest_px: float
    usual_px: float
    score: float

    @classmethod
    def between(cls, one: Runtime, other: Runtime, crops: NDArray[np.uint8]) -> "Difference":
        """Compare two runtimes on crops (N, 3, S, S) uint8; NaN counts as infinitely far."""
        (a, a_scores), (b, b_scores) = _answers(one, crops), _answers(other, crops)
        distance_px = np.linalg.norm(a - b, axis=-1) * one.spec.input_size_px
        distance_px = np.where(np.isnan(distance_px), np.inf, distance_px)
        return cls(
            len(crops),
            float(distance_px.max()),
            float(np.quantile(distance_px, 0.99, method="lower")),
            float(np.abs(a_scores - b_scores).max()),
        )

    def __str__(self) -> str:
        """Describe the difference in one line."""
        return (
            f"keypoints are at most {self.largest_px:.2g} px of the crop off PyTorch's, 99 % of "
            f"them at most {self.usual_px:.2g} px; scores {self.score:.2g}; on {self.crops} crops"
        )


def export(cfg: DictConfig) -> Path:
    """Write the network that ``cfg`` names, compare it with PyTorch's, and report.

    Args:
        cfg: ``conf/export.yaml``, composed.

    Returns:
        The file.

    Raises:
        ConfigError: a wrong value, or an engine that is not installed.
        ModelError: the file answers otherwise than the network; it is not kept.
    """
    target = check_keys(cfg)
    network = Network.find(cfg.run, cfg.weights, cfg.checkpoint)
    if target is None:
        folder = network.run.folder if network.run else Path(cfg.paths.runs)
        name = f"{network.name}_{cfg.precision}{SUFFIXES[cfg.format]}"
        target = folder / "exported" / name
    reference = network.load()
    data = open_data(cfg, network, reference.spec) if cfg.precision == "int8" else None
    calibration = None if data is None else some_crops(data, "train", cfg.calibration_images)
    measured: dict[str, Any] = {}
    with staged(target) as path:
        write(network, reference, cfg.format, cfg.precision, path, calibration)
        if cfg.format == "coreml" and sys.platform != "darwin":
            print(f"not compared with PyTorch: {MAC_ONLY}; export there to compare")
        else:
            runtime = OPENERS[ENGINE_OF[target.suffix]](path, "cpu", None)
            measured = compare(reference, runtime, data, cfg)
    if cfg.report is not None:
        report = network.facts(reference, cfg.precision) | measured
        Path(cfg.report).parent.mkdir(parents=True, exist_ok=True)
        files.write(Path(cfg.report), json.dumps(report, indent=1))
    written = [target, target.with_suffix(".bin")] if cfg.format == "openvino" else [target]
    parts = [part for file in written for part in (file, *file.rglob("*")) if part.is_file()]
    megabytes = sum(part.stat().st_size for part in parts) / 1e6
    where = files.shown(target)
    said = f"{where}: {megabytes:.1f} MB; python -m convpose.predict PHOTO.jpg"
    print(f"{said} {typed('weights', target)}")
    return target


def compare(
    reference: Runtime, runtime: Runtime, data: PoseDataModule | None, cfg: DictConfig
) -> dict[str, Any]:
    """Compare the file with PyTorch, print how far it is off, and return what was measured.

    Args:
        reference: the network in PyTorch.
        runtime: the file.
        data: for int8, whose accuracy is what counts.
        cfg: ``conf/export.yaml``, composed.

    Raises:
        ModelError: see `check_difference` and `check_drop`.
    """
    crops = synthetic_crops(reference.spec) if data is None else some_crops(data, "val", CROPS)
    difference = Difference.between(reference, runtime, crops)
    print(difference)
    measured: dict[str, Any] = {"parity": asdict(difference)}
    if data is None:
        check_difference(difference, cfg.precision, cfg.max_difference_px)
        return measured
    before, after = validate(reference, data, "PyTorch"), validate(runtime, data, "int8")
    protocol = f"{'+'.join(data.sources)}, crop {data.crop}"
    Console().print(accuracy_table(before, after, protocol).to_rich())
    check_drop(before, after, cfg.max_pck_drop)
    return {**measured, "before": totals(before), "after": totals(after)}


def accuracy_table(before: Measures, after: Measures, protocol: str) -> Table:
    """Tabulate the measures before and after quantisation."""
    rows = [
        (name, show(before[key]), show(after[key]))
        for name, key, show in (
            ("PCK@0.2 %", "pck@0.2", percent),
            ("PCK@0.1 %", "pck@0.1", percent),
            ("AUC 0–0.2 %", "auc", percent),
            ("EPE px", "epe_px", pixels),
        )
    ]
    caption = f"{after['num_images']:,} validation images of {protocol}"
    return Table("Accuracy", ("measure", "PyTorch, fp32", "int8"), rows, caption)


def check_difference(difference: Difference, precision: str, limit_px: float | None) -> None:
    """Refuse an export whose keypoints are too far from PyTorch's.

    Args:
        difference: from PyTorch.
        precision: ``fp32``, or ``fp16``, where one keypoint in a hundred may be further off.
        limit_px: allowed distance; None for that of `LIMITS_PX`.

    Raises:
        ModelError: the distance is larger than allowed.
    """
    limit_px = LIMITS_PX[precision] if limit_px is None else limit_px
    found_px = difference.usual_px if precision == "fp16" else difference.largest_px
    if not found_px <= limit_px:
        raise ModelError(
            f"the exported network's keypoints are {found_px:.2g} px of the crop off PyTorch's; "
            f"nothing is written. max_difference_px={limit_px} allows no more; if you can live "
            "with it, type a larger one"
        )


def check_drop(before: Measures, after: Measures, limit: float) -> None:
    """Refuse an export that loses more PCK@0.2 than allowed.

    Raises:
        ModelError: the loss is larger than `limit`, a share of 1.
    """
    drop = before["pck@0.2"] - after["pck@0.2"]
    if not drop <= limit:
        raise ModelError(
            f"int8 loses {100 * drop:.1f} points of PCK@0.2 on the validation subset "
            f"({percent(before['pck@0.2'])} to {percent(after['pck@0.2'])} %); nothing is written. "
            f"max_pck_drop={limit} allows no more; type precision=fp16, more calibration_images, "
            "or a larger max_pck_drop if you can live with it"
        )


def synthetic_crops(spec: CropSpec, count: int = CROPS) -> NDArray[np.uint8]:
    """Draw crops (N, 3, S, S) of synthetic people, which need no data."""
    source = SyntheticSource(count, image_size_px=160)
    dataset = PoseLandmarksDataset(
        source, range(count), Crop("box", 1.25), spec.input_size_px, spec.skeleton
    )
    return np.stack([dataset[i]["image"].numpy() for i in range(count)])


def _answers(
    runtime: Runtime, crops: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    found, start, turn = [], 0, 0
    while start < len(crops):
        size = BATCH_SIZES[turn % len(BATCH_SIZES)]
        found.append(runtime(crops[start : start + size]))
        start, turn = start + size, turn + 1
    keypoints, scores = zip(*found, strict=True)
    return np.concatenate(keypoints), np.concatenate(scores)


def open_data(cfg: DictConfig, network: Network, spec: CropSpec) -> PoseDataModule:
    """Open the data of ``cfg.data``, else of the network's run with its split; not augmented.

    Args:
        cfg: ``conf/export.yaml``, composed.
        network: the one that is exported.
        spec: of its crops.

    Raises:
        ConfigError: packaged weights without data.
        DataError: see the sources.
    """
    other = cfg.get("data")
    if other is not None:
        sizes = {"data.input_size_px": spec.input_size_px, "data.box_scale": spec.box_scale}
        refuse_other_crops(cfg, sizes, spec.skeleton)
        own = OmegaConf.create({"data": OmegaConf.to_container(other, resolve=True)})
        own.data.input_size_px, own.data.box_scale = spec.input_size_px, spec.box_scale
        own.data.skeleton = spec.skeleton.to_dict()
    elif network.run is not None:
        own = network.run.config_to_score(cfg.paths.data)
    else:
        raise ConfigError(
            "precision=int8 of packaged weights needs pictures to calibrate with; type data=lspet, "
            "data=lsp, …"
        )
    if not was_typed("data.batch_size"):
        own.data.batch_size = cfg.batch_size
    datamodule = build_datamodule(own)
    datamodule.setup()
    return datamodule


def some_crops(datamodule: PoseDataModule, subset: str, count: int) -> NDArray[np.uint8]:
    """Draw up to `count` crops (N, 3, S, S) of a subset at random, always the same."""
    dataset = datamodule.datasets[subset]
    drawn = np.random.default_rng(0).permutation(len(dataset))[:count]
    return np.stack([dataset[int(i)]["image"].numpy() for i in drawn])


def validate(runtime: Runtime, datamodule: PoseDataModule, what: str) -> dict[str, Any]:
    """Compute the measures of a runtime on the validation subset, see `GroundTruth.score`."""
    predictions = predict(AsModule(runtime), datamodule.loader("val"), f"validating {what}")
    truth = GroundTruth.of(datamodule.datasets["val"], datamodule.skeleton)
    return truth.score(torch.from_numpy(predictions.keypoints_px))
