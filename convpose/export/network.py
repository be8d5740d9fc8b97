"""Find the network that is exported, write its file, and keep it only if it is good."""

import copy
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import convpose
from convpose.errors import ConfigError
from convpose.export.request import SUFFIXES, check_format
from convpose.export.writers import (
    quantize,
    write_coreml,
    write_litert,
    write_onnx,
    write_openvino,
    write_torchscript,
)
from convpose.files import FULL, LOCKED, remove_left, shown
from convpose.models.pose_model import PoseModel
from convpose.run import Run
from convpose.runtime import VERSION
from convpose.runtime.engines import weights_file
from convpose.runtime.packaged import load_packaged
from convpose.runtime.pytorch import TorchRuntime, load_run


@dataclass(frozen=True, slots=True)
class Network:
    """Trained network that may not be loaded yet.

    Attributes:
        name: name for its files.
        file: file of its weights.
        run: its run, None for packaged weights.
    """

    name: str
    file: Path
    run: Run | None = None

    @classmethod
    def find(cls, run: str | Path | None, weights: str | Path | None, checkpoint: str) -> "Network":
        """Find the network of a run, else of packaged weights; see `weights_file`.

        Raises:
            ConfigError: no run there.
            ModelError: no such checkpoint or name.
        """
        if run is None:
            file = weights_file(weights)
            return cls(file.stem, file)
        found = Run.find(Path(run))
        file = found.checkpoint(checkpoint)
        return cls(file.stem, file, found)

    def load(self) -> TorchRuntime:
        """Load the network in PyTorch on the CPU, fp32; see `load_run` and `load_packaged`."""
        if self.run is not None:
            return load_run(self.run.folder, str(self.file), "cpu", "32-true")
        return load_packaged(self.file, "cpu", "32-true")

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the weights file."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def facts(self, runtime: TorchRuntime, precision: str) -> dict[str, Any]:
        """Describe the network for the metadata of its file; crop and keypoints are in ``spec``.

        Normalisation and score calibration happen inside the graph: their numbers are given for
        information, not to be applied again.
        """
        model: PoseModel = runtime.model
        constants = ("pixel_mean", "pixel_std", "score_slope", "score_offset")
        return {
            "format": "convpose",
            "version": VERSION,
            "spec": runtime.spec.to_dict(),
            "input": "crops: (B, 3, S, S) uint8 RGB, S = input_size_px",
            "output": "keypoints: (B, K, 2), fractions of the crop; scores: (B, K) in [0, 1]",
            "in_the_graph": {key: getattr(model, key).flatten().tolist() for key in constants},
            "precision": precision,
            "network": f"{self.run.folder.name}/{self.name}" if self.run else self.name,
            "sha256": self.sha256,
            "convpose": convpose.__version__,
        }


class Deployed(nn.Module):
    """Reduce a network to what use needs: crops to keypoints and scores.

    Args:
        model: the network; it is copied.
        half: whether backbone and head compute in fp16. Keypoints are decoded in fp32 anyway.
    """

    def __init__(self, model: nn.Module, half: bool = False) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        if half:
            for part in self.model.modules():
                if isinstance(part, PoseModel):  # the network, and those that a cascade starts from
                    part.backbone.half().register_forward_pre_hook(_to_half)
                    part.head.half()
        self.eval()

    def forward(self, crops: torch.Tensor) -> dict[str, torch.Tensor]:
        """Turn (B, 3, S, S) uint8 into keypoints (B, K, 2) and scores (B, K)."""
        output = self.model(crops)
        return {"keypoints": output["keypoints"].float(), "scores": output["scores"].float()}


def _to_half(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.half() for tensor in inputs)


def write(
    network: Network,
    runtime: TorchRuntime,
    form: str,
    precision: str,
    path: Path,
    calibration: NDArray[np.uint8] | None = None,
) -> None:
    """Write a network to a `staged` path.

    Args:
        network: the network.
        runtime: the same network as a `TorchRuntime`.
        form: a key of `SUFFIXES`.
        precision: one of `PRECISIONS`.
        path: the file.
        calibration: crops (N, 3, S, S), for int8 only.
    """
    facts, size = network.facts(runtime, precision), runtime.spec.input_size_px
    half = precision == "fp16"
    if form == "torchscript":
        write_torchscript(Deployed(runtime.model, half), size, facts, path)
        return
    if form == "litert":
        write_litert(Deployed(runtime.model), size, facts, path, half, calibration)
        return
    if form == "coreml":
        write_coreml(Deployed(runtime.model), size, facts, path, half)
        return
    between = path.parent / "between"
    between.mkdir()
    graph = path if form == "onnx" else between / "graph.onnx"
    if calibration is None:  # OpenVINO halves weights by itself, and decodes them as it computes
        write_onnx(Deployed(runtime.model, half and form == "onnx"), size, facts, graph)
    else:
        write_onnx(Deployed(runtime.model), size, facts, between / "fp32.onnx")
        quantize(between / "fp32.onnx", calibration, graph)
    if form == "openvino":
        write_openvino(graph, facts, path, half)


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a path in a temporary folder, whose file takes the place of `target` at the end.

    If the block raises, `target` stays as it was. Other files in the folder are removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_left(target.parent, ".export-*")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        path = Path(folder) / target.name
        yield path
        weights = path.with_suffix(".bin")  # of OpenVINO
        if target.is_dir() or (weights.exists() and target.exists()):
            # Core ML's file is a folder, which nothing replaces; and a process that is killed here
            # must not leave an old graph beside new weights
            target.replace(Path(folder) / "before")
        for file in (weights, path):
            if file.exists():
                file.replace(target.parent / file.name)


def exported(
    form: str, run: str | Path | None, weights: str | Path | None, checkpoint: str = "best"
) -> Path:
    """Return the fp32 file of a network; write it if there is none.

    The file lies in the run's folder ``exported``, or for packaged weights in the user's cache. Its
    name holds a hash of the weights and of the code, so that it is never out of date.

    Args:
        form: a key of `SUFFIXES`.
        run: see `Network.find`.
        weights: see there.
        checkpoint: see there.

    Raises:
        ConfigError, ModelError: see `Network`; a package that exporting needs is not installed.
    """
    check_format(form, "fp32")
    network = Network.find(run, weights, checkpoint)
    folder = _cache() if network.run is None else network.run.folder / "exported"
    if not network.file.is_file():
        network.load()  # its error says what is missing
    key = hashlib.sha256(f"{VERSION} {_code()} {network.sha256}".encode()).hexdigest()[:12]
    target = folder / f"{network.name}_{key}{SUFFIXES[form]}"
    if not target.exists():
        runtime = network.load()
        try:
            with staged(target) as path:
                write(network, runtime, form, "fp32", path)
        except OSError as error:
            if error.errno not in (*FULL, *LOCKED):
                raise
            given = f"weights={weights}" if network.run is None else f"run={network.run.folder}"
            raise ConfigError(
                f"{folder}: {(error.strerror or str(error)).lower()}; type convpose.export {given} "
                f"format={form} output=FILE{SUFFIXES[form]}, then weights=FILE{SUFFIXES[form]}"
            ) from error
        print(f"exported to {shown(target)}")
    return target


@cache
def _code() -> str:
    """Hash the code of all networks: the same weights under other code are another network."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].glob("models/**/*.py")):
        total.update(file.read_bytes())
    return total.hexdigest()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convpose"
