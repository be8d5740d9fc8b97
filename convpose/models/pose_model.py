"""PoseModel: pixels → backbone → features → head → output; and the table of its layers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

import torch
from torch import nn

Features = list[torch.Tensor]


class PoseOutput(TypedDict, total=False):
    """Output of every head.

    Keys:
        keypoints: (B, K, 2) float32 unit coordinates of the crop.
        scores: (B, K) in [0, 1], confidence of each keypoint: the head's own measure, which
            `PoseModel` turns into a calibrated one.
        visibility_logits: (B, K) of "visible" against "occluded", of heads that guess it.
        heatmap_logits: (B, K, S, S), of the heads with heatmaps; their softmax is the heatmap.
        simcc_logits: (B, K, 2, N) of N bins along x and N along y.
        sigma: (B, K, 2) scale of the keypoints' errors in unit coordinates, above 0 and below 1.
        stage_keypoints: (T, B, K, 2) of all stages of a cascade, the last ones are ``keypoints``.
    """

    keypoints: torch.Tensor
    scores: torch.Tensor
    visibility_logits: torch.Tensor
    heatmap_logits: torch.Tensor
    simcc_logits: torch.Tensor
    sigma: torch.Tensor
    stage_keypoints: torch.Tensor


# (output, keypoints, visibility), and the image for a loss that `sees_image`, to a scalar
Loss = Callable[..., torch.Tensor]


class Backbone(Protocol):
    """Images to feature maps.

    Attributes:
        out_channels: channels of each feature map.
        strides: input pixels a cell of each feature map, finest first.
        pixel_mean, pixel_std: of each colour in [0, 1], the normalisation that its weights want.
    """

    out_channels: Sequence[int]
    strides: Sequence[int]
    pixel_mean: Sequence[float]
    pixel_std: Sequence[float]

    def __call__(self, image: torch.Tensor) -> Features:
        """Turn normalised float images (B, 3, S, S) into maps (B, C, S / stride, S / stride)."""
        ...


class PoseModel(nn.Module):
    """Network for single-person pose.

    Args:
        backbone: `Backbone` module.
        head: module from features to `PoseOutput`.
        num_keypoints: K.
        channels_last: memory layout of images and convolutions; faster on tensor cores and AMX.

    A score is the head's confidence after ``σ(slope · logit + offset)`` of each keypoint, so that
    it is the probability of a hit; `convpose.train.calibration` fits both on validation images.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor
    score_slope: torch.Tensor
    score_offset: torch.Tensor

    def __init__(
        self, backbone: nn.Module, head: nn.Module, num_keypoints: int, channels_last: bool = True
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head: Any = head
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        for name in ("pixel_mean", "pixel_std"):
            value = torch.tensor(getattr(backbone, name), dtype=torch.float32) * 255
            self.register_buffer(name, value.view(1, 3, 1, 1))
        self.register_buffer("score_slope", torch.ones(num_keypoints))
        self.register_buffer("score_offset", torch.zeros(num_keypoints))
        self.to(memory_format=self.memory_format)

    def set_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Hand mean and deviation (K, 2) of the training keypoints to a head that wants them."""
        if hasattr(self.head, "set_statistics"):
            self.head.set_statistics(mean, std)

    def forward(self, image: torch.Tensor) -> PoseOutput:
        """Estimate the keypoints of (B, 3, S, S) uint8 RGB crops."""
        return self.calibrate(self.forward_uncalibrated(image))

    def forward_with_loss(
        self, image: torch.Tensor, keypoints: torch.Tensor, visibility: torch.Tensor, loss: Loss
    ) -> tuple[PoseOutput, torch.Tensor]:
        """Compute output and loss of a labelled batch, for training and validation.

        Args:
            image: (B, 3, S, S) uint8 RGB crops.
            keypoints: (B, K, 2) ground truth in unit coordinates, NaN where unlabelled.
            visibility: (B, K) of 0, 1, 2.
            loss: see `Loss`; one that `sees_image` is given it in training.
        """
        output = self(image)
        seen = (image,) if self.training and getattr(loss, "sees_image", False) else ()
        return output, loss(output, keypoints, visibility, *seen)

    def forward_uncalibrated(self, image: torch.Tensor) -> PoseOutput:
        """Run backbone and head; the scores are the head's own."""
        pixels = (image.float() - self.pixel_mean) / self.pixel_std
        output: PoseOutput = self.head(
            self.backbone(pixels.contiguous(memory_format=self.memory_format))
        )
        return output

    def calibrate(self, output: PoseOutput) -> PoseOutput:
        """Replace the scores of an output by probabilities."""
        logit = output["scores"].float().logit(eps=1e-4)
        output["scores"] = torch.sigmoid(self.score_slope * logit + self.score_offset)
        return output


@dataclass(frozen=True, slots=True)
class Layer:
    """Row of the table: its kind, geometry, output size without the batch, and parameters."""

    kind: str
    kernel_stride_padding: str
    output_size: tuple[int, ...]
    parameters: int


def layer_table(model: nn.Module, image: torch.Tensor) -> list[Layer]:
    """List the leaf layers in the order in which `image` passes them, without identities.

    It is the table of the ConvPose paper, Table 1.

    Args:
        model: network; its mode and parameters are left as they are.
        image: (1, 3, S, S) uint8.

    Returns:
        One `Layer` for each leaf module that was called.
    """
    rows: list[Layer] = []

    def record(module: nn.Module, _: Any, output: Any) -> None:
        size = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else ()
        count = sum(p.numel() for p in module.parameters())
        rows.append(Layer(type(module).__name__, _geometry(module), size, count))

    leaves = [m for m in model.modules() if not (list(m.children()) or isinstance(m, nn.Identity))]
    handles = [leaf.register_forward_hook(record) for leaf in leaves]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(image)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return rows


def layer_table_markdown(rows: list[Layer]) -> str:
    """Write the table as Markdown, with the totals below."""
    columns = "| # | layer | kernel / stride / padding | output size | parameters |"
    head = f"{columns}\n|--:|---|---|---|--:|"
    lines = [
        f"| {i} | {r.kind} | {r.kernel_stride_padding} | {' × '.join(map(str, r.output_size))} "
        f"| {r.parameters:,} |"
        for i, r in enumerate(rows, start=1)
    ]
    total = sum(r.parameters for r in rows)
    return "\n".join([head, *lines, f"\n{len(rows)} layers, {total:,} parameters\n"])


def _geometry(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d | nn.MaxPool2d):
        return " / ".join(
            str(v[0] if isinstance(v, tuple) else v)
            for v in (module.kernel_size, module.stride, module.padding)
        )
    return f"p = {module.p}" if isinstance(module, nn.Dropout) else "–"
