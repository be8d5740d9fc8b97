"""Cascade: the pose of a trained network, refined from sharper sub-images around its joints.

Sub-images are squares around keypoints, sampled from a crop in one batch. They are axis-aligned and
have unit coordinates of their own, as a crop has: 0 and 1 are the edges.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
from annotated_types import Ge, Le
from torch import nn
from torch.nn import functional as F

from convpose.config.schema import Count
from convpose.models.pose_model import Loss, PoseModel, PoseOutput
from convpose.skeleton import Skeleton

SMALLEST_STD = 0.01  # of simulated errors in diameters: without errors there is nothing to learn
GREY = 114.0  # outside the crop, as `convpose.geometry.warp` fills it
SMALLEST, LARGEST = 1 / 32, 1.0  # side of a sub-image over the crop's, whatever the pose
TORSO_SHARE = 0.25  # torso over the pose's extent; 98 of 100 people of LSP and LSPET have more


@dataclass(frozen=True, slots=True, eq=False)
class SubImages:
    """Sub-images around the K keypoints of B crops.

    Attributes:
        corner: (B, K, 2) upper left corners in unit coordinates of the crop.
        side: (B, 1, 1) sides, one for all sub-images of a crop.
    """

    corner: torch.Tensor
    side: torch.Tensor

    @classmethod
    def around(cls, keypoints: torch.Tensor, side: torch.Tensor) -> "SubImages":
        """Place sub-images of sides (B,) with the keypoints (B, K, 2) in their middle."""
        side = side.clamp(SMALLEST, LARGEST)[:, None, None]
        return cls(keypoints - side / 2, side)

    def to_unit(self, points: torch.Tensor) -> torch.Tensor:
        """Convert points (B, K, 2) of the crop to unit coordinates of their sub-images."""
        return (points - self.corner) / self.side

    def to_crop(self, points: torch.Tensor) -> torch.Tensor:
        """Convert points (B, K, 2), each in unit coordinates of its sub-image, to the crop."""
        return self.corner + self.side * points

    def sample(self, image: torch.Tensor, size_px: int) -> torch.Tensor:
        """Cut the sub-images out, bilinear, grey (114) outside the crop.

        One that shrinks by two or more is sampled from the crop halved by area averaging, as often
        as needed: `convpose.geometry.warp` for a batch.

        Args:
            image: (B, 3, S, S) crops.
            size_px: side of the sub-images.

        Returns:
            (B·K, 3, size_px, size_px) float32, the K of the first crop first.
        """
        batch, count = self.corner.shape[:2]
        centre = (torch.arange(size_px, device=image.device) + 0.5) / size_px
        along = 2 * (self.corner[..., None] + self.side[..., None] * centre) - 1  # (B, K, 2, size)
        shape = (-1, -1, size_px, -1), (-1, -1, -1, size_px)
        x, y = along[:, :, 0, None, :].expand(shape[0]), along[:, :, 1, :, None].expand(shape[1])
        grid = torch.stack([x, y], dim=-1).flatten(1, 2)
        full_px = image.shape[-1]
        step = self.side[..., None] * full_px / size_px  # crop pixels a sub-image pixel
        pixels = image.float() - GREY  # so that the zeros of the padding are grey
        sampled = F.grid_sample(pixels, grid, align_corners=False)
        halvings = 1
        while 2**halvings <= LARGEST * full_px / size_px:
            pixels = F.interpolate(pixels, size=full_px // 2**halvings, mode="area")
            coarse = F.grid_sample(pixels, grid, align_corners=False)
            sampled = torch.where(step >= 2**halvings, coarse, sampled)
            halvings += 1
        pixels = (sampled + GREY).view(batch, 3, count, size_px, size_px)
        return pixels.transpose(1, 2).flatten(0, 1)


def pose_diameter(keypoints: torch.Tensor, skeleton: Skeleton) -> torch.Tensor:
    """Measure the size (B,) of poses (B, K, 2): the longer torso diagonal, if there is a torso.

    It is at least a quarter of the pose's extent: a torso seen from above, or an estimate that has
    folded up, has hardly a diagonal.
    """
    diagonals = [
        (keypoints[:, skeleton.index(a)] - keypoints[:, skeleton.index(b)]).norm(dim=-1)
        for a, b in skeleton.reference_pairs
    ]
    extent = (keypoints.amax(dim=1) - keypoints.amin(dim=1)).amax(dim=-1)
    return torch.stack([*diagonals, TORSO_SHARE * extent]).amax(dim=0)


class Resized(nn.Module):
    """Trained network, frozen, that sees larger crops resized to the size it was trained on.

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
        """Estimate the keypoints of (B, 3, S, S) crops; unit coordinates do not depend on S."""
        if image.shape[-1] != self.input_size_px:
            size = (self.input_size_px, self.input_size_px)
            image = F.interpolate(image.float(), size, mode="bilinear", antialias=True)
        output: PoseOutput = self.model(image)
        return output


class Cascade(PoseModel):
    """One more stage over a trained network (DeepPose; Toshev and Szegedy, CVPR 2014).

    `start` estimates the pose from the crop, resized for it. Around each of its joints a sub-image
    is cut out of the full crop. Backbone and head see all of them in one batch and locate the K
    joints in each; in the sub-image of joint k only joint k counts. So one backbone learns from K
    sub-images a person, and only the output layer is specific to a joint. With a network for each
    joint, each would learn from one sub-image a person.

    It trains on errors of its start, drawn anew in every epoch. ``simulated`` puts a sub-image at
    the ground truth plus a Gaussian error, fitted to the start's errors on the validation subset.
    ``real`` takes the start's estimate of the augmented crop; on images that the start was trained
    on, its errors are smaller than on new ones. A joint outside its sub-image does not count: it
    cannot be seen there.

    The odds of the score are the head's times the start's: a head with a constant score of a half
    leaves the start's.

    Args:
        start: the network that is refined, perhaps a cascade itself; it is not trained.
        backbone: of the sub-images.
        head: to keypoints, scores and whatever else its loss needs, each (N, K, …).
        skeleton: of the keypoints.
        subimage_px: side of a sub-image as backbone and head see it.
        side: of a sub-image, in diameters of the pose (see `pose_diameter`).
        starts: errors to train on, ``simulated`` or ``real``.
        channels_last: see `PoseModel`.
    """

    error_mean: torch.Tensor
    error_std: torch.Tensor

    def __init__(
        self,
        start: Resized,
        backbone: nn.Module,
        head: nn.Module,
        skeleton: Skeleton,
        subimage_px: Count = 64,
        side: Annotated[float, Ge(0.1), Le(10)] = 1.0,
        starts: Literal["simulated", "real"] = "simulated",
        channels_last: bool = True,
    ) -> None:
        super().__init__(backbone, head, skeleton.num_keypoints, channels_last)
        self.start = start
        self.skeleton = skeleton
        self.subimage_px = subimage_px
        self.side = side
        self.starts = starts
        self.register_buffer("error_mean", torch.zeros(skeleton.num_keypoints, 2))
        self.register_buffer("error_std", torch.full((skeleton.num_keypoints, 2), side / 8))

    def train(self, mode: bool = True) -> "Cascade":
        """Set the mode; the start stays in evaluation and keeps its batch-norm statistics."""
        super().train(mode)
        self.start.eval()
        return self

    def set_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Do nothing: a cascade is standardised by `set_start_errors`, not by crop statistics."""

    def set_start_errors(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Take the start's errors: mean and deviation (K, 2) in diameters of the pose.

        The head then predicts in units of the errors that it has to repair.
        """
        self.error_mean.copy_(mean)
        self.error_std.copy_(std.clamp(min=SMALLEST_STD))
        super().set_statistics(0.5 - self.error_mean / self.side, self.error_std / self.side)

    def forward(self, image: torch.Tensor) -> PoseOutput:
        """Estimate the keypoints of (B, 3, S, S) uint8 RGB crops."""
        first = self.start(image)
        points = first["keypoints"]
        sub_images = SubImages.around(points, self.side * pose_diameter(points, self.skeleton))
        return self.calibrate(self._in_crop(self._refine(image, sub_images), sub_images, first))

    def forward_with_loss(
        self, image: torch.Tensor, keypoints: torch.Tensor, visibility: torch.Tensor, loss: Loss
    ) -> tuple[PoseOutput, torch.Tensor]:
        """Compute the output of a batch, and the loss in unit coordinates of the sub-images."""
        first = self.start(image)
        points, size = first["keypoints"], pose_diameter(first["keypoints"], self.skeleton)
        if self.training and self.starts == "simulated":
            points = self.simulate(keypoints, points, size)
        sub_images = SubImages.around(points, self.side * size)
        output = self._refine(image, sub_images)
        target = sub_images.to_unit(keypoints)
        inside = ((target >= 0) & (target < 1)).all(dim=-1)  # false for NaN
        value = loss(output, target, torch.where(inside, visibility, 0))
        return self.calibrate(self._in_crop(output, sub_images, first)), value

    def simulate(
        self, keypoints: torch.Tensor, estimate: torch.Tensor, size: torch.Tensor
    ) -> torch.Tensor:
        """Draw start points (B, K, 2): truth plus a random error, the estimate where unlabelled.

        Args:
            keypoints: (B, K, 2) truth, NaN where unlabelled.
            estimate: (B, K, 2) of the start.
            size: (B,) diameters of the poses.
        """
        error = self.error_mean + self.error_std * torch.randn_like(keypoints)
        return torch.where(keypoints.isnan(), estimate, keypoints + size[:, None, None] * error)

    def compile(self, *args: object, **kwargs: object) -> None:
        """Compile the networks, which `forward_with_loss` calls as well as `forward`."""
        for part in (self.start, self.backbone, self.head):
            part.compile(*args, **kwargs)

    def _refine(self, image: torch.Tensor, sub_images: SubImages) -> PoseOutput:
        """Run backbone and head on all sub-images: output (B, K, …) in their coordinates."""
        count = sub_images.corner.shape[1]
        joint = torch.arange(count, device=image.device)
        pixels = sub_images.sample(image, self.subimage_px)
        output = cast(dict[str, torch.Tensor], self.forward_uncalibrated(pixels))
        split = {name: v.view(-1, count, *v.shape[1:]) for name, v in output.items()}
        own = {name: v[:, joint, joint] for name, v in split.items()}
        return cast(PoseOutput, own)

    def _in_crop(self, output: PoseOutput, sub_images: SubImages, first: PoseOutput) -> PoseOutput:
        """Convert the output to the crop; add the keypoints of all stages and the joined score."""
        keypoints = sub_images.to_crop(output["keypoints"])
        before = first.get("stage_keypoints", first["keypoints"][None])
        odds = output["scores"].float().logit(eps=1e-4) + first["scores"].logit(eps=1e-4)
        joined: PoseOutput = {
            **output,
            "keypoints": keypoints,
            "scores": odds.sigmoid(),
            "stage_keypoints": torch.cat([before, keypoints[None]]),
        }
        return joined


def fit_start_errors(errors: torch.Tensor, side: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Fit a Gaussian to the start's errors, for each joint and coordinate.

    Only errors that leave the joint in its sub-image count. The others, such as an exchange of left
    and right, cannot be repaired there, and a few of them would widen the Gaussian for all.

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
