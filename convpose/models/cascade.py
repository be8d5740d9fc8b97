"""Cascade: the pose of a trained network, refined from sharper sub-images around its joints."""

from typing import Literal, cast

import torch
from torch import nn
from torch.nn import functional as F

from convpose.errors import ConfigError
from convpose.models.pose_model import Loss, PoseModel, PoseOutput
from convpose.models.subimage import Windows, pose_diameter
from convpose.skeleton import Skeleton

SMALLEST_STD = 0.01  # of simulated errors in diameters: start poses must differ to teach anything


class Shrunk(nn.Module):
    """A trained network, frozen, that is shown larger crops than it was trained on.

    Args:
        model: the network.
        input_size_px: side of the crops that it was trained on.
    """

    def __init__(self, model: PoseModel, input_size_px: int) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.input_size_px = input_size_px

    @torch.no_grad()
    def forward(self, image: torch.Tensor) -> PoseOutput:
        """Output for (B, 3, S, S) crops, in unit coordinates, which have no size."""
        if image.shape[-1] != self.input_size_px:
            size = (self.input_size_px, self.input_size_px)
            image = F.interpolate(image.float(), size, mode="bilinear", antialias=True)
        output: PoseOutput = self.model(image)
        return output


class Cascade(PoseModel):
    """One more stage over a trained network (DeepPose; Toshev and Szegedy, CVPR 2014).

    `start` estimates the pose from the crop, made smaller for it. Around each of its joints a
    sub-image is cut out of the full crop; backbone and head look at all of them in one batch and
    say where the K joints are in each, of which answer k counts in the sub-image of joint k. So one
    backbone learns from K sub-images a person, and the output layer alone knows which joint it
    looks for: with a network for each joint, each would see a fourteenth of what are few images.

    It trains on the errors of its start, drawn anew in every epoch: ``simulated`` puts a sub-image
    where the truth plus a Gaussian error is, fitted to the start's errors on the validation part;
    ``real`` takes the start's own estimate of the augmented crop, whose errors on images that it
    knows by heart are smaller than those it will make. A joint outside its sub-image does not
    count: it cannot be seen there.

    The score is the head's odds times the start's: a head without an opinion leaves the start's.

    Args:
        start: what is refined, perhaps a cascade itself. It stays as it is.
        backbone: of the sub-images.
        head: to keypoints, scores and whatever else its loss needs, each (N, K, …).
        skeleton: of the keypoints.
        subimage_px: side of a sub-image as backbone and head see it.
        side: of a sub-image, in diameters of the pose (see `pose_diameter`).
        starts: whose errors the training repairs, ``simulated`` or ``real``.
        channels_last: see `PoseModel`.

    Raises:
        ConfigError: a key out of its range.
    """

    error_mean: torch.Tensor
    error_std: torch.Tensor

    def __init__(
        self,
        start: Shrunk,
        backbone: nn.Module,
        head: nn.Module,
        skeleton: Skeleton,
        subimage_px: int = 64,
        side: float = 1.0,
        starts: Literal["simulated", "real"] = "simulated",
        channels_last: bool = True,
    ) -> None:
        super().__init__(backbone, head, skeleton.num_keypoints, channels_last)
        if not 0.1 <= side <= 10:
            raise ConfigError(
                f"model.side={side}: expected 0.1 to 10 torso diameters; type model.side=1.0"
            )
        self.start = start
        self.skeleton = skeleton
        self.subimage_px = subimage_px
        self.side = side
        self.starts = starts
        self.register_buffer("error_mean", torch.zeros(skeleton.num_keypoints, 2))
        self.register_buffer("error_std", torch.full((skeleton.num_keypoints, 2), side / 8))

    def train(self, mode: bool = True) -> "Cascade":
        """As ever, but the start keeps its batch-norm statistics."""
        super().train(mode)
        self.start.eval()
        return self

    def set_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Nothing: where they lie in crops says nothing of sub-images, `set_errors` does."""

    def set_errors(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Tell the start's errors: mean and deviation (K, 2) in diameters of the pose.

        The head learns in units of what it has to repair.
        """
        self.error_mean.copy_(mean)
        self.error_std.copy_(std.clamp(min=SMALLEST_STD))
        super().set_statistics(0.5 - self.error_mean / self.side, self.error_std / self.side)

    def forward(self, image: torch.Tensor) -> PoseOutput:
        """Estimate the keypoints of (B, 3, S, S) uint8 RGB crops."""
        first = self.start(image)
        windows = self.windows(first["keypoints"], pose_diameter(first["keypoints"], self.skeleton))
        return self.calibrate(self._in_crop(self._closer(image, windows), windows, first))

    def learn(
        self, image: torch.Tensor, keypoints: torch.Tensor, visibility: torch.Tensor, loss: Loss
    ) -> tuple[PoseOutput, torch.Tensor]:
        """Output of a batch, and its loss in unit coordinates of the sub-images."""
        first = self.start(image)
        points, size = first["keypoints"], pose_diameter(first["keypoints"], self.skeleton)
        if self.training and self.starts == "simulated":
            points = self.simulate(keypoints, points, size)
        windows = self.windows(points, size)
        output = self._closer(image, windows)
        target = windows.to_unit(keypoints)
        inside = ((target >= 0) & (target < 1)).all(dim=-1)  # false for NaN
        value = loss(output, target, torch.where(inside, visibility, 0))
        return self.calibrate(self._in_crop(output, windows, first)), value

    def simulate(
        self, keypoints: torch.Tensor, estimate: torch.Tensor, size: torch.Tensor
    ) -> torch.Tensor:
        """Start points (B, K, 2): truth plus a random error, the estimate where unlabelled.

        Args:
            keypoints: (B, K, 2) truth, NaN where unlabelled.
            estimate: (B, K, 2) of the start.
            size: (B,) diameters of the poses.
        """
        error = self.error_mean + self.error_std * torch.randn_like(keypoints)
        return torch.where(keypoints.isnan(), estimate, keypoints + size[:, None, None] * error)

    def windows(self, points: torch.Tensor, size: torch.Tensor) -> Windows:
        """The windows around points (B, K, 2) of poses of diameters (B,)."""
        return Windows.around(points, self.side * size)

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compile the networks, which `learn` calls as well as `forward`."""
        for part in (self.start, self.backbone, self.head):
            part.compile(*args, **kwargs)

    def _closer(self, image: torch.Tensor, windows: Windows) -> PoseOutput:
        """Look at all windows: the head's output (B, K, …) in their coordinates."""
        count = windows.corner.shape[1]
        joint = torch.arange(count, device=image.device)
        output = cast(dict[str, torch.Tensor], self.look(windows.sample(image, self.subimage_px)))
        split = {name: v.view(-1, count, *v.shape[1:]) for name, v in output.items()}
        own = {name: v[:, joint, joint] for name, v in split.items()}
        return cast(PoseOutput, own)

    def _in_crop(self, output: PoseOutput, windows: Windows, first: PoseOutput) -> PoseOutput:
        """The output with keypoints of the crop, those of all stages, and the joined score."""
        keypoints = windows.to_crop(output["keypoints"])
        before = first.get("stage_keypoints", first["keypoints"][None])
        odds = output["scores"].float().logit(eps=1e-4) + first["scores"].logit(eps=1e-4)
        joined: PoseOutput = {
            **output,
            "keypoints": keypoints,
            "scores": odds.sigmoid(),
            "stage_keypoints": torch.cat([before, keypoints[None]]),
        }
        return joined


def fit_errors(errors: torch.Tensor, side: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A Gaussian for each joint and coordinate.

    Fitted to the errors that leave the joint in its sub-image: the others, such as an exchange of
    left and right, cannot be repaired there, and a few of them would widen the Gaussian for all.

    Args:
        errors: (N, K, 2) in diameters of the pose, NaN where unlabelled.
        side: of a sub-image in diameters.

    Returns:
        Mean and deviation (K, 2), 0 and a quarter of the side for a joint without errors to fit;
        share of the labelled joints in their sub-images.
    """
    labelled = ~errors.isnan().any(dim=-1, keepdim=True)
    inside = (errors.abs() <= side / 2).all(dim=-1, keepdim=True)  # false for NaN
    found = inside.sum(dim=0)
    count = found.clamp(min=1)
    mean = torch.where(inside, errors, 0).sum(dim=0) / count
    variance = torch.where(inside, errors - mean, 0).square().sum(dim=0) / count
    share = float(inside.sum() / labelled.sum().clamp(min=1))
    return mean, torch.where(found > 0, variance.sqrt(), side / 4), share
