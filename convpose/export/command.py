"""Export as the configuration of ``convpose.export`` says, and check the file."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from convpose import files
from convpose.data.datamodule import PoseDataModule
from convpose.errors import ModelError
from convpose.export.checks import (
    CROPS,
    Difference,
    open_data,
    some_crops,
    synthetic_crops,
    validate,
)
from convpose.export.network import Network, staged, write
from convpose.export.request import SUFFIXES, check_keys
from convpose.plot.tables import Measures, Table, percent, pixels
from convpose.runtime import Runtime
from convpose.runtime.engines import ENGINE_OF, OPENERS
from convpose.runtime.phone import MAC_ONLY

LIMITS_PX = {"fp32": 0.02, "fp16": 0.5}


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
    print(f"{target}: {megabytes:.1f} MB; python -m convpose.predict weights={target} source=…")
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
    return {**measured, "before": _plain(before), "after": _plain(after)}


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
            f"int8 loses {100 * drop:.1f} points of PCK@0.2 on the validation part "
            f"({percent(before['pck@0.2'])} to {percent(after['pck@0.2'])} %); nothing is written. "
            f"max_pck_drop={limit} allows no more; type precision=fp16, more calibration_images, "
            "or a larger max_pck_drop if you can live with it"
        )


def _plain(measures: Measures) -> dict[str, float]:
    return {key: value for key, value in measures.items() if isinstance(value, float | int)}
