"""MoveNet's network: MobileNetV2 and a light pyramid, with the batch norm that its files have lost.

Google publishes the single-pose networks Lightning (width 1.0, 192 px) and Thunder (1.75, 256 px)
under Apache-2.0 for use, not for training: batch norm is folded into the convolutions. Here a norm
stands behind every convolution again and starts as "plus the folded bias";
`convpose.train.calibration` then measures what the convolutions give, so that training can begin.
"""

from typing import Annotated, Literal, Self

import torch
from annotated_types import Ge, Le
from torch import nn
from torch.nn import functional as F

from convpose.models.backbones.movenet_weights import load_folded, read_movenet
from convpose.models.pose_model import Features

EPS, MOMENTUM = 1e-3, 0.03  # of the norms: a fine-tuning is short, and starts near its statistics
# channels at width 1, blocks, stride of the first, expansion (Sandler et al., 2018, table 2)
STAGES = (
    *((16, 1, 1, 1), (24, 2, 2, 6), (32, 3, 2, 6), (64, 4, 2, 6)),
    *((96, 3, 1, 6), (160, 3, 2, 6), (320, 1, 1, 6)),
)
TAPS = {4: 2, 8: 5, 16: 9}  # stride → block whose output the pyramid adds
LAST = 1280  # channels of the coarsest map, whatever the width


class MoveNet(nn.Module):
    """MobileNetV2 (Sandler et al., 2018) and MoveNet's pyramid.

    Args:
        width: multiple of the numbers of channels: 1.0 Lightning, 1.75 Thunder.
        weights: None (random), a file of MoveNet's folded arrays (``.safetensors``, or the
            ``.json`` of the TF.js graph model with its shards beside it), or a checkpoint of a run.
        frozen_blocks: so many blocks, and the stem before them, stay as they are. What they see is
            edges, whoever the person is, and at their size they take half of a training's time.

    Attributes:
        folded: the weights came without statistics of the norms, which a training measures first.

    Raises:
        ConfigError: a value out of its range.
        ModelError: weights that cannot be had or do not fit.
    """

    strides = (4, 8, 16, 32)
    out_channels = (24, 24, 32, LAST)
    pixel_mean = (0.5, 0.5, 0.5)
    pixel_std = (0.5, 0.5, 0.5)

    def __init__(
        self,
        width: Annotated[float, Ge(0.1), Le(4)] = 1.0,
        weights: str | None = None,
        frozen_blocks: Annotated[int, Ge(0), Le(17)] = 0,
    ) -> None:
        super().__init__()
        channels = [rounded(32 * width)]
        self.stem = ConvNorm(3, channels[0], kernel=3, stride=2, act="relu6")
        blocks: list[Inverted] = []
        for base, count, stride, expansion in STAGES:
            for position in range(count):
                out = rounded(base * width)
                step = stride if position == 0 else 1
                blocks.append(Inverted(channels[-1], out, step, expansion))
                channels.append(out)
        self.blocks = nn.ModuleDict({f"block_{i}": block for i, block in enumerate(blocks)})
        self.last = ConvNorm(channels[-1], LAST, act="relu6")
        tapped = {stride: channels[block + 1] for stride, block in TAPS.items()}
        self.pyramid = MoveNetPyramid(tapped)
        self.folded = False
        if weights is not None:
            arrays = read_movenet(weights, "backbone")
            self.folded = load_folded(self, arrays, weights, f"MoveNet of width {width}")
        self._frozen = [self.stem, *blocks[:frozen_blocks]] if frozen_blocks else []
        for part in self._frozen:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Switch to training; what is frozen keeps the statistics of its norms as well."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def forward(self, image: torch.Tensor) -> Features:
        """Map (B, 3, S, S) to the pyramid's maps of strides 4, 8, 16 and MobileNetV2's of 32."""
        x = self.stem(image)
        tapped = {}
        for i, block in enumerate(self.blocks.values()):
            x = block(x)
            tapped[i] = x
        coarsest = self.last(x)
        merged = self.pyramid(coarsest, {s: tapped[i] for s, i in TAPS.items()})
        return [*merged, coarsest]


class MoveNetPyramid(nn.Module):
    """Pyramid from coarse to fine: double, add the backbone's map, convolve, ReLU.

    Args:
        tapped: channels of the backbone's maps by stride (4, 8, 16).
    """

    def __init__(self, tapped: dict[int, int]) -> None:
        super().__init__()
        self.lateral_32 = ConvNorm(LAST, 64)
        self.lateral_16 = ConvNorm(tapped[16], 64)
        self.smooth_16 = Separable(64, 32)
        self.lateral_8 = ConvNorm(tapped[8], 32)
        self.smooth_8 = Separable(32, 24)
        self.lateral_4 = ConvNorm(tapped[4], 24)
        self.smooth_4 = Separable(24, 24)

    def forward(self, coarsest: torch.Tensor, tapped: dict[int, torch.Tensor]) -> Features:
        """Merge into maps of strides 4, 8 and 16, finest first."""
        x16 = self.smooth_16(doubled(self.lateral_32(coarsest)) + self.lateral_16(tapped[16]))
        x8 = self.smooth_8(doubled(x16) + self.lateral_8(tapped[8]))
        x4 = self.smooth_4(doubled(x8) + self.lateral_4(tapped[4]))
        return [x4, x8, x16]


class Inverted(nn.Module):
    """Inverted residual: expand, depthwise, project; the sum where the shapes agree.

    Args:
        inside, out: channels.
        stride: of the depthwise convolution.
        expansion: channels in the middle over those inside; 1 has no expanding convolution.
    """

    def __init__(self, inside: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = expansion * inside
        self.expand = ConvNorm(inside, middle, act="relu6") if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(middle, middle, 3, stride, groups=middle, act="relu6")
        self.project = ConvNorm(middle, out)
        self.adds = stride == 1 and inside == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inside, S, S) to (B, out, S / stride, S / stride)."""
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class Separable(nn.Module):
    """Depthwise 3 × 3 with neither bias nor norm, pointwise with both, ReLU.

    Args:
        inside, out: channels.
    """

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False)
        self.pointwise = ConvNorm(inside, out, act="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inside, S, S) to (B, out, S, S)."""
        y: torch.Tensor = self.pointwise(self.depthwise(x))
        return y


class ConvNorm(nn.Module):
    """Convolution, batch norm, activation; padded as TensorFlow's "same".

    Args:
        inside, out: channels.
        kernel: side of the kernel, 1 or 3.
        stride: 1 or 2.
        groups: of channels.
        act: ``relu6``, ``relu`` or None.
    """

    def __init__(
        self,
        inside: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: Literal["relu6", "relu"] | None = None,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(inside, out, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out, eps=EPS, momentum=MOMENTUM)
        activations = {"relu6": nn.ReLU6(inplace=True), "relu": nn.ReLU(inplace=True), None: None}
        self.act = activations[act]
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inside, S, S) to (B, out, S / stride, S / stride), rounded up."""
        if self.conv.stride[0] == 2:
            x = pad_same(x)
        y: torch.Tensor = self.norm(self.conv(x))
        return y if self.act is None else self.act(y)


def pad_same(x: torch.Tensor) -> torch.Tensor:
    """Pad (B, C, H, W) with zeros as TensorFlow does for a 3 × 3 convolution of stride 2.

    An even side gets one row at the end and none at the beginning: symmetric padding would move the
    features by a pixel, which costs accuracy and raises no error. An odd side gets both.
    """
    bottom, right = x.shape[2] % 2, x.shape[3] % 2
    return F.pad(x, (right, 1, bottom, 1))


def doubled(x: torch.Tensor) -> torch.Tensor:
    """Map (B, C, S, S) to (B, C, 2S, 2S), bilinear, half-pixel centres."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def rounded(channels: float) -> int:
    """Round to a multiple of 8, as the networks' widths were."""
    return max(8, int(channels + 4) // 8 * 8)
