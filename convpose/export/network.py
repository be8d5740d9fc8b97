"""Network: what is exported, and the facts that go with it."""

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import convpose
from convpose.models.pose_model import PoseModel
from convpose.run import Run
from convpose.runtime.exported import VERSION
from convpose.runtime.load import load_run
from convpose.runtime.packaged import DEFAULT, load_packaged
from convpose.runtime.runtime import TorchRuntime


@dataclass(frozen=True, slots=True)
class Network:
    """A trained network that may not be loaded yet.

    Attributes:
        name: of its files.
        file: its weights.
        run: its run, None for packaged weights.
    """

    name: str
    file: Path
    run: Run | None = None

    @classmethod
    def find(cls, run: str | Path | None, weights: str | Path | None, checkpoint: str) -> "Network":
        """The network of a run, else of packaged weights, else of those that come with convpose.

        Raises:
            ConfigError: no run there.
            ModelError: no such checkpoint.
        """
        if run is None:
            file = DEFAULT if weights is None else Path(weights)
            return cls(file.stem, file)
        found = Run.find(Path(run))
        file = found.checkpoint(checkpoint)
        return cls(file.stem, file, found)

    def load(self) -> TorchRuntime:
        """It in PyTorch, on the CPU in fp32; see `load_run` and `load_packaged`."""
        if self.run is not None:
            return load_run(self.run.folder, str(self.file), "cpu", "32-true")
        return load_packaged(None if self.file == DEFAULT else self.file, "cpu", "32-true")

    @property
    def sha256(self) -> str:
        """Of its weights."""
        return hashlib.sha256(self.file.read_bytes()).hexdigest()

    def facts(self, runtime: TorchRuntime, precision: str) -> dict[str, Any]:
        """What an exported file says about itself; crop and keypoints are in ``spec``.

        Normalisation and score calibration are part of the graph; they are told, not to be applied.
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
    """A network with nothing but what use needs: crops to keypoints and scores.

    Args:
        model: the network; a copy is taken.
        half: whether backbone and head compute in fp16. Keypoints are decoded in fp32 all the same.
    """

    def __init__(self, model: nn.Module, half: bool = False) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        if half:
            for part in self.model.modules():
                if isinstance(part, PoseModel):  # the network, and those that it starts from
                    part.backbone.half().register_forward_pre_hook(_to_half)
                    part.head.half()
        self.eval()

    def forward(self, crops: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, S, S) uint8 to keypoints (B, K, 2) and scores (B, K)."""
        output = self.model(crops)
        return {"keypoints": output["keypoints"].float(), "scores": output["scores"].float()}


def _to_half(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.half() for tensor in inputs)
