"""Run a network in PyTorch; apart from the other engines, which answer before torch is imported."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convpose.hardware import autocast
from convpose.models.tta import TestTimeAugmentation
from convpose.runtime import CropSpec, Runtime


class TorchRuntime:
    """Run a network in PyTorch.

    Args:
        model: a `PoseModel` with its weights, or a module that answers like one.
        spec: see `CropSpec`.
        device: where to compute.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    """

    def __init__(
        self, model: nn.Module, spec: CropSpec, device: str = "cpu", precision: str = "32-true"
    ) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.model: Any = model.eval().to(self.device)
        self.precision = precision

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute keypoints; see `Runtime`."""
        with torch.inference_mode(), autocast(self.device, self.precision):
            output = self.model(torch.from_numpy(crops).to(self.device))
        keypoints, scores = output["keypoints"].float().cpu(), output["scores"].float().cpu()
        return keypoints.numpy(), scores.numpy()

    def with_tta(self, mirror: bool, quarter_turns: bool) -> "TorchRuntime":
        """Return a runtime with test-time augmentation; itself where neither is asked for."""
        if not (mirror or quarter_turns):
            return self
        other = copy.copy(self)
        other.model = TestTimeAugmentation(self.model, self.spec.skeleton, mirror, quarter_turns)
        return other


class AsModule(nn.Module):
    """Wrap a runtime as a module that answers like a `PoseModel` on the CPU."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Answer crops (B, 3, S, S) as the runtime does."""
        keypoints, scores = self._runtime(image.contiguous().numpy())
        return {"keypoints": torch.from_numpy(keypoints), "scores": torch.from_numpy(scores)}
