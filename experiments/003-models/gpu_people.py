"""Hold all people on the GPU, and augment batches of them there as ``augment=gentle`` does."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
from kit import REACH, open_canvases, read, regions
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from convpose.geometry import invert, transform
from convpose.skeleton import LSP14

GREY = 114.0
SIDE = 256  # px of a crop
Rows = NDArray[np.int64]
LUMA = (  # ITU-T T.81, table K.1
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 "
    "62 18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 "
    "98 112 100 103 99"
)


class People:
    """Canvases, keypoints and crops of all people, and batches of them.

    Args:
        folder: written by kit.py.
        device: where they are held.
        seed: of what is drawn on the CPU; the rest is PyTorch's.
    """

    def __init__(self, folder: Path, device: torch.device, seed: int = 0) -> None:
        here = np.loadtxt(folder / "here.txt", int, ndmin=1)
        people = {name: values[here] for name, values in read(folder).items()}
        whole = len(here) == len(open_canvases(folder)[0])
        self.canvases = [
            torch.from_numpy(values[:] if whole else values[here]).to(device)
            for values in open_canvases(folder, "c")
        ]
        self.device, self.rng = device, np.random.default_rng(seed)
        self.dataset = people["dataset"]
        self.framed = self.dataset == "lsp"  # their crop is the frame
        self.train = np.flatnonzero(people["train"])
        self.val = np.flatnonzero(~people["train"])
        points = people["keypoints_px"].astype(np.float64)
        crops = [people["unit_to_px"], [regions(people, i)[1] for i in range(len(points))]]
        units = [[transform(invert(a), p) for a, p in zip(c, points, strict=True)] for c in crops]
        self.keypoints = self.put(np.stack(units, axis=1)).float()  # (N, 2, K, 2), crop and frame
        self.keypoints_px = self.put(points).float()
        self.visibility = self.put(people["visibility"]).long()
        self.unit_to_px = self.put(people["unit_to_px"]).float()
        self.box_px = self.put(people["box_px"]).float()
        self.mirror = torch.tensor(LSP14.mirror, device=device)
        line = (torch.arange(SIDE, device=device) + 0.5) / SIDE - 0.5
        self.grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)

    def put(self, values: NDArray[np.generic]) -> Tensor:
        """Copy to the device without waiting for it."""
        return torch.from_numpy(np.asarray(values)).to(self.device, non_blocking=True)

    def look(self, rows: Rows, framed: NDArray[np.bool_], turn: Tensor, shift: Tensor) -> Tensor:
        """Sample crops (B, 3, SIDE, SIDE) of 0 to 255.

        Args:
            rows: (B,) of the people.
            framed: (B,) whether the frame is shown and not the person's crop.
            turn: (B, 2, 2), of the place v in the crop: 0.5 + turn · (v − 0.5) + shift is shown.
            shift: (B, 2).
        """
        u = torch.einsum("bij,yxj->byxi", turn, self.grid) + shift[:, None, None]
        out = torch.empty(len(rows), 3, SIDE, SIDE, device=self.device)
        for canvases, chosen, reach in zip(
            self.canvases, (~framed, framed), (REACH, 1), strict=True
        ):
            if chosen.any():
                where = self.put(np.flatnonzero(chosen))
                pixels = canvases[self.put(rows[chosen])].float() - GREY
                out[where] = GREY + F.grid_sample(pixels, 2 * u[where] / reach, align_corners=False)
        return out

    def exact(self, rows: Rows) -> Tensor:
        """Sample the crops that are evaluated."""
        turn = torch.eye(2, device=self.device).expand(len(rows), 2, 2)
        return self.look(rows, self.framed[rows], turn, torch.zeros_like(turn[:, 0])).round_()

    def moved(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Draw scale, rotation, shift and mirror: crops, unit keypoints, visibility."""
        n = len(rows)
        framed = (self.rng.random(n) < 0.3) | self.framed[rows]
        draw = torch.rand(7, n, device=self.device)
        scale = torch.exp((2 * draw[0] - 1) * 0.35)
        angle = torch.deg2rad((2 * draw[1] - 1) * 40) * (draw[2] < 0.6)
        shift = (2 * draw[3:5].T - 1) * 0.06
        mirrored = draw[5] < 0.5
        sign = 1 - 2 * mirrored.float()
        cos, sin = scale * angle.cos(), scale * angle.sin()
        turn = torch.stack([cos * sign, -sin, sin * sign, cos], dim=1).view(n, 2, 2)
        image = self.look(rows, framed, turn, shift)
        here = self.put(rows)
        points = self.keypoints[here, self.put(framed.astype(np.int64))] - 0.5 - shift[:, None]
        points = torch.einsum("bji,bkj->bki", turn, points) / scale[:, None, None] ** 2 + 0.5
        visibility, swapped = self.visibility[here], mirrored[:, None]
        points = torch.where(swapped[:, None], points[:, self.mirror], points)
        return image, points, torch.where(swapped, visibility[:, self.mirror], visibility)

    def augmented(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Draw everything: crops, unit keypoints, visibility."""
        image, points, visibility = self.moved(rows)
        return disturb(image).round_().clamp_(0, 255), points, visibility


@cache
def constants(device: torch.device) -> list[Tensor]:
    """Make the matrices YIQ of RGB and back, the cosine transform of eight, JPEG's table."""
    yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    k = torch.arange(8).float()
    dct = torch.cos(math.pi * (2 * k[None] + 1) * k[:, None] / 16) / 2
    dct[0] /= math.sqrt(2)
    table = torch.tensor([float(v) for v in LUMA.split()]).view(8, 8)
    return [values.to(device) for values in (yiq, torch.linalg.inv(yiq), dct, table)]


def disturb(x: Tensor) -> Tensor:
    """Change light, colour, sharpness, noise and JPEG of crops (B, 3, S, S), and occlude them."""
    n, device = len(x), x.device

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, device=device) * (high - low) + low

    def often(share: float) -> Tensor:
        return (torch.rand(n, device=device) < share).float()

    def some(share: float) -> Tensor:
        return torch.randperm(n, device=device)[: max(1, round(n * share))]

    yiq, rgb, _, _ = constants(device)
    light, colour = often(0.7), often(0.5)
    hue = draw(-math.pi / 6, math.pi / 6) * colour
    chroma = (1 + draw(-0.35, 0.35) * colour) * (1 - often(0.1))
    cos, sin, zero = chroma * hue.cos(), chroma * hue.sin(), torch.zeros_like(hue)
    rows = [zero + 1, zero, zero, zero, cos, -sin, zero, sin, cos]
    gain = 1 + draw(-0.3, 0.3) * light
    lift = 255 * draw(-0.3, 0.3) * light + draw(-15, 15) * colour
    matrix = rgb @ torch.stack(rows, dim=1).view(n, 3, 3) @ yiq * gain[:, None, None]
    x = torch.einsum("bij,bjyx->biyx", matrix, x) + lift[:, None, None, None]
    x = x.clamp(0, 255)
    rows_ = some(0.1)
    x[rows_] = blurred(x[rows_], torch.rand(len(rows_), device=device) * 1.5 + 0.5)
    noise = 255 * draw(0.02, 0.15) * often(0.2)
    x = (x + torch.randn_like(x) * noise[:, None, None, None]).clamp_(0, 255)
    rows_ = some(0.2)
    x[rows_] = jpeg(x[rows_], torch.randint(15, 71, (len(rows_),), device=device).float())
    cell = (torch.arange(x.shape[-1], device=device) + 0.5) / x.shape[-1]
    holes = torch.randint(1, 6, (n,), device=device) * often(0.5)
    for i in range(5):
        half = draw(0.025, 0.15, 2)
        middle = draw(0, 1, 2) * (1 - 2 * half) + half
        inside = (cell - middle[:, :, None]).abs() < half[:, :, None]  # (B, 2, S)
        inside = inside & (i < holes)[:, None, None]
        hole = inside[:, 0, None, None, :] & inside[:, 1, None, :, None]
        x = torch.where(hole, draw(0, 255, 3)[:, :, None, None], x)
    return x


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur (B, 3, S, S) by Gaussians of `sigma` (B,) px."""
    tap = torch.arange(-6, 7, device=x.device).float()
    kernel = torch.softmax(-(tap**2) / (2 * sigma[:, None] ** 2), dim=1).repeat_interleave(3, 0)
    y = F.pad(x.flatten(0, 1)[None], (6, 6, 6, 6), mode="reflect")
    y = F.conv2d(y, kernel[:, None, None, :], groups=len(kernel))
    return F.conv2d(y, kernel[:, None, :, None], groups=len(kernel)).view_as(x)


def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """Round the cosine transform of 8 × 8 blocks as JPEG of `quality` (B,) rounds the luma."""
    _, _, dct, table = constants(x.device)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None]
    table = ((table * scale + 50) / 100).floor().clamp(1, 255)[:, None, None, None]
    side = x.shape[-1] // 8
    blocks = (x - 128).view(-1, 3, side, 8, side, 8).permute(0, 1, 2, 4, 3, 5)
    rounded = ((dct @ blocks @ dct.T) / table).round() * table
    y = (dct.T @ rounded @ dct + 128).permute(0, 1, 2, 4, 3, 5)
    return y.reshape(x.shape).clamp(0, 255)
