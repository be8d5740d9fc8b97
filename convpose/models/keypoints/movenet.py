"""MoveNet's heatmap branch as a head: what it knows of people is kept, LSP's joints are added."""

from collections.abc import Mapping

import torch
from torch import nn

from convpose.config.schema import Count, Natural
from convpose.errors import ConfigError
from convpose.models.backbones.movenet import Separable
from convpose.models.backbones.movenet_weights import load_folded, read_movenet
from convpose.models.keypoints import Pyramid, VisibilityProbe, check_input
from convpose.models.keypoints.heatmap import PeakHead, check_cells
from convpose.models.pose_model import Features

NOSE, SHOULDERS = 0, (5, 6)  # of COCO's 17
# LSP's 14 as means of COCO's: 12 limb joints, the neck between the shoulders, the head at the nose
LSP_FROM_COCO = (*((i,) for i in (16, 14, 12, 11, 13, 15, 10, 8, 6, 5, 7, 9)), SHOULDERS, (NOSE,))
COCO_FROM_COCO = tuple((i,) for i in range(17))
ROWS: Mapping[int, tuple[tuple[int, ...], ...]] = {14: LSP_FROM_COCO, 17: COCO_FROM_COCO}


class MoveNetHead(PeakHead):
    """Depthwise 3 × 3, pointwise, ReLU, 1 × 1: one logit a cell and keypoint, decoded by its peak.

    It works on the finest map as it is, which MoveNet's pyramid has merged; where that is coarser
    than `stride`, a light pyramid comes first.

    Args:
        out_channels: channels of the backbone's feature maps, finest first.
        strides: their strides.
        input_size_px: side of the network's input.
        num_keypoints: K.
        channels: between the two pointwise convolutions; MoveNet has 96.
        stride: of the heatmaps: S = input_size_px / stride cells a side.
        window: cells around the peak that speak for it: their share of the heatmap is the score.
        blur: see `decode`.
        weights: MoveNet's file, as ``model.weights``; None starts at random. The rows of joints
            that COCO names are copied; the neck is the mean of the shoulders', the head top the
            nose's.

    Raises:
        ConfigError: an input, stride or window as for `HeatmapHead`; weights for a skeleton that
            they have no rows for.
        ModelError: weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        out_channels: tuple[int, ...],
        strides: tuple[int, ...],
        input_size_px: int,
        num_keypoints: int,
        channels: Count = 96,
        stride: int = 4,
        window: Natural = 2,
        blur: Natural = 0,
        weights: str | None = None,
    ) -> None:
        super().__init__(window, blur)
        check_input(input_size_px, strides)
        check_cells(input_size_px, stride)
        self.merge: nn.Module = nn.Identity()
        inside = out_channels[0]
        if strides[0] != stride:
            self.merge, inside = Pyramid(out_channels, strides, 64, stride), 64
        self.kpt_heatmap = Branch(inside, channels, num_keypoints)
        self.probe = VisibilityProbe(out_channels[-1], num_keypoints)
        if weights is not None:
            arrays = branch_arrays(weights, num_keypoints)
            load_folded(self.kpt_heatmap, arrays, weights, "head=movenet")

    @property
    def output(self) -> nn.Conv2d:
        """Name the last convolution as other heads do."""
        return self.kpt_heatmap.output

    def heatmaps(self, features: Features) -> torch.Tensor:
        """Turn features into logits (B, K, S, S), float32."""
        finest = features[0] if isinstance(self.merge, nn.Identity) else self.merge(features)
        logits: torch.Tensor = self.kpt_heatmap(finest)
        return logits.float()


class Branch(Separable):
    """Depthwise 3 × 3, pointwise, ReLU, 1 × 1.

    Args:
        inside: channels of the map.
        channels: in the middle.
        out: of the result.
    """

    def __init__(self, inside: int, channels: int, out: int) -> None:
        super().__init__(inside, channels)
        self.output = nn.Conv2d(channels, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inside, S, S) to (B, out, S, S), float32.

        MoveNet's logits reach 70, where bfloat16 knows quarters: the last convolution keeps off it.
        """
        middle = super().forward(x)
        y: torch.Tensor
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                y = self.output(middle.float())
        else:
            y = self.output(middle)
        return y


def branch_arrays(weights: str, num_keypoints: int) -> dict[str, torch.Tensor]:
    """Read the arrays of the heatmap branch by `Branch`'s names, for a skeleton of K keypoints.

    Raises:
        ConfigError: a skeleton that the arrays have no rows for.
        ModelError: see `read_movenet`.
    """
    inside = "kpt_heatmap."
    given = read_movenet(weights, "head")
    arrays = {k.removeprefix(inside): v for k, v in given.items() if k.startswith(inside)}
    if "pointwise.norm.running_var" in arrays:  # of a run, whose keypoints are its own
        return arrays
    if num_keypoints not in ROWS:
        raise ConfigError(
            f"head.weights={weights}: MoveNet's 17 joints of COCO give no {num_keypoints}; type "
            "data.skeleton=lsp14 or data.skeleton=coco17, or head.weights=null for a random head"
        )
    rows = ROWS[num_keypoints]
    for name in ("output.weight", "output.bias"):
        if name in arrays and len(arrays[name]) == len(COCO_FROM_COCO):
            arrays[name] = torch.stack([arrays[name][list(of)].mean(dim=0) for of in rows])
    return arrays
