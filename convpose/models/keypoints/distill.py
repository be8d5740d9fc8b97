"""Distillation: a larger network's heatmaps beside the labels, and its say where they differ."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from convpose.config.schema import Positive, Share
from convpose.models.keypoints import inside_crop
from convpose.models.keypoints.heatmap import gaussian
from convpose.models.pose_model import PoseOutput


class Distillation(nn.Module):
    """Cross-entropy of the softmax heatmap to a mixture of label and teacher (Hinton et al., 2015).

    The teacher looks at the same augmented crop. Where a keypoint is labelled, the target is a
    mixture of the label's Gaussian and the teacher's heatmap; where it is not, the teacher's alone,
    weighted by its score. LSPET's labels are noisy: where a sure teacher sees the keypoint far from
    its label, one of the two is wrong, and `apart` says what then happens.

    In validation there is no teacher and the loss is that of ``loss=heatmap``, to compare with.

    Args:
        teacher: run folder of the teacher; `convpose.train.build.build_teacher` reads it.
        network: the teacher itself, crops to `PoseOutput`. It is not among the loss's parts:
            neither optimizer nor checkpoint is to have it.
        share: of the teacher in the mixture.
        apart: the target where both are far apart: the ``label``, nothing (``mask``), the
            ``teacher`` or the ``mix``ture as elsewhere.
        bound: from where they are far apart, in the longer side of the teacher's pose.
        sure: score from which the teacher may object.
        sigma: of the label's Gaussian in cells.
    """

    requires = ("heatmap_logits",)
    sees_image = True  # `PoseModel.forward_with_loss` passes it on in training

    def __init__(
        self,
        teacher: str | None = None,
        network: nn.Module | None = None,
        share: Share = 0.5,
        apart: Literal["label", "mask", "teacher", "mix"] = "mask",
        bound: Positive = 0.15,
        sure: Share = 0.5,
        sigma: Positive = 1.0,
    ) -> None:
        super().__init__()
        self.share = share
        self.apart = apart
        self.bound = bound
        self.sure = sure
        self.sigma = sigma
        self._teacher = [network] if network is not None else []  # a list hides it from `Module`

    def forward(
        self,
        output: PoseOutput,
        keypoints: torch.Tensor,
        visibility: torch.Tensor,
        image: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            output: with ``heatmap_logits``.
            keypoints: (B, K, 2) ground truth in unit coordinates, NaN where unlabelled.
            visibility: (B, K) of 0, 1, 2.
            image: (B, 3, S, S) uint8 crops for the teacher; None for the labels alone.

        Returns:
            Mean over the keypoints that count; 0 where there are none.
        """
        logits = output["heatmap_logits"]
        safe, labelled = inside_crop(keypoints, visibility)
        target = gaussian(safe, logits.shape[-1], self.sigma)
        weight = labelled.float()
        if image is not None and self._teacher:
            taught, place, score = self._ask(image, logits.shape[-1])
            share, weight = self.mixture(place, score, safe, labelled, visibility > 0)
            target = torch.lerp(target, taught, share[..., None, None])
        each = -(target.flatten(2) * logits.flatten(2).log_softmax(dim=2)).sum(dim=2)
        return (each * weight).sum() / weight.sum().clamp(min=1)

    def mixture(
        self,
        place: torch.Tensor,
        score: torch.Tensor,
        keypoints: torch.Tensor,
        inside: torch.Tensor,
        labelled: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose the teacher's share in each target (B, K), and each target's weight (B, K).

        Args:
            place: (B, K, 2) the teacher's keypoints.
            score: (B, K) its scores.
            keypoints: (B, K, 2) finite, the labels.
            inside: (B, K) labelled and in the crop.
            labelled: (B, K); a labelled keypoint outside the crop teaches nothing.
        """
        size = (place.amax(dim=1) - place.amin(dim=1)).amax(dim=1)[:, None].clamp(min=1e-3)
        far = (place - keypoints).norm(dim=-1) > self.bound * size
        far = far & (score >= self.sure) & inside
        share = torch.full_like(score, self.share)
        chosen = {"label": 0.0, "teacher": 1.0}.get(self.apart, self.share)
        share = torch.where(far, chosen, share)
        weight = inside.float()
        if self.apart == "mask":
            weight = torch.where(far, 0.0, weight)
        unlabelled = ~labelled
        return torch.where(unlabelled, 1.0, share), torch.where(unlabelled, score, weight)

    @torch.no_grad()
    def _ask(self, image: torch.Tensor, side: int) -> tuple[torch.Tensor, ...]:
        """Ask the teacher for heatmaps (B, K, side, side), keypoints and scores."""
        (network,) = self._teacher
        answer: PoseOutput = network.eval().to(image.device)(image)
        logits = answer["heatmap_logits"].float()
        heatmap = logits.flatten(2).softmax(dim=2).view(logits.shape)
        if heatmap.shape[-1] != side:
            heatmap = F.interpolate(heatmap, (side, side), mode="bilinear", antialias=True)
            heatmap = heatmap / heatmap.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
        return heatmap, answer["keypoints"].float(), answer["scores"].float()
