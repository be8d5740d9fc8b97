"""Runtime: the seam between crops and whatever computes keypoints from them.

A predictor knows no network. It cuts the crops that a `Spec` describes and hands them to a
`Runtime`; `TorchRuntime` is one, an exported network in another engine is another.
"""

import copy
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convpose.hardware import autocast
from convpose.models.tta import TestTimeAugmentation
from convpose.runtime.crop_spec import Spec


class Runtime(Protocol):
    """Computes keypoints from crops.

    Attributes:
        spec: of the crops that it wants.
    """

    @property
    def spec(self) -> Spec:
        """What crops are wanted."""
        ...

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, 3, S, S) uint8 RGB to keypoints (B, K, 2), unit, and scores (B, K)."""
        ...


class TorchRuntime:
    """A network in PyTorch.

    Args:
        model: a `PoseModel` with its weights, or what answers like one.
        spec: see `Spec`.
        device: where to compute.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    """

    def __init__(
        self, model: nn.Module, spec: Spec, device: str = "cpu", precision: str = "32-true"
    ) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.model: Any = model.eval().to(self.device)
        self.precision = precision

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Runtime`."""
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
