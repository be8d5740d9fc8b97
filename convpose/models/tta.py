"""Test-time augmentation: the network sees a crop several times, for accuracy that costs time."""

import torch
from torch import nn

from convpose.errors import ConfigError
from convpose.models.pose_model import PoseModel, PoseOutput
from convpose.skeleton import Skeleton

APART = 0.05  # unit: two estimates further apart than this mean two places


class TestTimeAugmentation(nn.Module):
    """Network that is shown each crop several times and answers as `PoseModel` does.

    - Flip test: heatmaps of the crop and of its mirror image, left and right exchanged back, are
      averaged. Of networks without heatmaps the keypoints are, weighted by score. Of two that lie
      apart the one with the higher score is kept: between the left and the right foot there is
      nothing.
    - Quarter turns: of the crop's four turns the one with the highest mean score is kept. It helps
      people who stand on their hands where the network was trained on upright ones.

    Args:
        model: the network.
        skeleton: its keypoints, for the exchange of left and right.
        mirror: average with the mirror image.
        quarter_turns: try all four turns.

    Raises:
        ConfigError: a mirror where the skeleton has no pairs.
    """

    __test__ = False  # no test case, whatever pytest reads into the name

    def __init__(
        self, model: PoseModel, skeleton: Skeleton, mirror: bool, quarter_turns: bool
    ) -> None:
        super().__init__()
        if mirror and not skeleton.mirrors:
            raise ConfigError(
                f"mirror_test=true: nobody knows left and right of the skeleton {skeleton.name}, "
                f"{', '.join(skeleton.keypoints)}; type mirror_test=false, or train with a "
                "data.skeleton=FILE.yaml that has pairs: [[LEFT, RIGHT], …]"
            )
        self.model = model
        self.swap = list(skeleton.mirror)
        self.mirror = mirror
        self.turns = 4 if quarter_turns else 1

    @property
    def passes(self) -> int:
        """Number of times that the network sees each crop."""
        return self.turns * (2 if self.mirror else 1)

    def __str__(self) -> str:
        """Name the options for a report."""
        words = ["flip test"] * self.mirror + ["quarter turns"] * (self.turns > 1)
        return ", ".join(words)

    def forward(self, image: torch.Tensor) -> PoseOutput:
        """Estimate keypoints and scores of (B, 3, S, S) uint8 crops."""
        keypoints, scores = [], []
        for turn in range(self.turns):
            points, score = self._estimate(torch.rot90(image, turn, dims=(2, 3)))
            keypoints.append(turn_back(points, turn))
            scores.append(score)
        every, score = torch.stack(keypoints, dim=1), torch.stack(scores, dim=1)  # (B, T, K, …)
        best = score.mean(dim=2).argmax(dim=1)
        rows = torch.arange(len(image), device=image.device)
        return {"keypoints": every[rows, best], "scores": score[rows, best]}

    def _estimate(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.model(image)
        keypoints, scores = output["keypoints"], output["scores"]
        if not self.mirror:
            return keypoints, scores
        other = self.model(image.flip(3))
        if "heatmap_logits" in output:
            logits = output["heatmap_logits"] + other["heatmap_logits"].flip(3)[:, self.swap]
            points, share = self.model.head.decode(logits / 2)
            both = self.model.calibrate({"keypoints": points, "scores": share})
            return both["keypoints"], both["scores"]
        mirrored = other["keypoints"][:, self.swap]
        mirrored = torch.stack([1 - mirrored[..., 0], mirrored[..., 1]], dim=-1)
        other_scores = other["scores"][:, self.swap]
        total = (scores + other_scores).clamp(min=1e-6)
        apart = (keypoints - mirrored).square().sum(dim=-1).sqrt() > APART
        share = torch.where(apart, (scores >= other_scores).float(), scores / total)
        points = torch.lerp(mirrored, keypoints, share.unsqueeze(-1))
        return points, torch.where(apart, torch.maximum(scores, other_scores), total / 2)


def turn_back(keypoints: torch.Tensor, turns: int) -> torch.Tensor:
    """Move unit keypoints of an image that `torch.rot90` has turned to the image before."""
    for _ in range(turns % 4):
        keypoints = torch.stack([1 - keypoints[..., 1], keypoints[..., 0]], dim=-1)
    return keypoints
