"""Sub-images: squares around keypoints, sampled from a crop in one batch.

A sub-image is axis-aligned and has unit coordinates of its own, as a crop has: 0 and 1 are its
edges.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from convpose.skeleton import Skeleton

GREY = 114.0  # outside the crop, as `convpose.geometry.warp` fills it
SMALLEST, LARGEST = 1 / 32, 1.0  # side of a sub-image over the crop's, whatever the pose
TORSO_SHARE = 0.25  # torso over the pose's extent; 98 of 100 people of LSP and LSPET have more


@dataclass(frozen=True, slots=True, eq=False)
class SubImages:
    """SubImages around the K keypoints of B crops.

    Attributes:
        corner: (B, K, 2) upper left corners in unit coordinates of the crop.
        side: (B, 1, 1) sides, one for all sub-images of a crop.
    """

    corner: torch.Tensor
    side: torch.Tensor

    @classmethod
    def around(cls, keypoints: torch.Tensor, side: torch.Tensor) -> "SubImages":
        """SubImages of sides (B,) with the keypoints (B, K, 2) in their middle."""
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
