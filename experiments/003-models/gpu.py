"""Train ``large`` or ``small`` on one GPU that holds photographs, augmentation and networks.

A GPU waits for processes that decode and augment. kit.py has them decode once, into canvases;
scale, rotation, mirror, light, noise and the rest of ``augment=gentle`` happen on the GPU.

``python experiments/003-models/gpu.py CANVASES OUT NAME KEY=VALUE…``, see `Settings`, writes
OUT/NAME.ckpt, the moving average at its best validation, and OUT/NAME.json, what was measured.
"""

import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_people import People
from torch import Tensor, nn
from torch.nn import functional as F

from convpose.geometry import transform
from convpose.metrics.pose_metrics import PoseMetrics
from convpose.models.keypoints import visibility_loss
from convpose.models.keypoints.distill import Distillation
from convpose.models.pose_model import PoseModel, PoseOutput
from convpose.models.weights import load_checkpoint
from convpose.runtime.packaged import rebuild
from convpose.skeleton import LSP14

SIDES = {"large": 256, "small": 192}
FROZEN = 3  # blocks
SETS = ("lsp", "lspet")


@dataclass
class Settings:
    """Keys of the command line."""

    network: str = "large"  # or small: packaged weights, from which it starts
    teacher: str = ""  # a checkpoint of large; else packaged weights
    refresh: float = 2.0  # share of the time after which the pupil teaches, where it is better
    lr: float = 5e-4  # the highest rate of AdamW; it falls with the time, as a cosine
    decay: float = 0.02  # of the weights
    batch: int = 128
    ema: float = 0.998
    lsp: int = 3  # times that an epoch shows each person of LSP
    seed: int = 0
    until: float = 60.0  # seconds after `since`
    since: float = 0.0  # seconds since 1970; 0: now
    checks: int = 8  # validations


class Teacher(nn.Module):
    """Large, packaged: the mean of the logits of a crop and of its mirror image, decoded."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.model = rebuild("large")[0].to(device).requires_grad_(False).eval()
        self.swap = torch.tensor(LSP14.mirror, device=device)

    @torch.no_grad()
    def forward(self, image: Tensor) -> PoseOutput:
        """Estimate the keypoints of crops (B, 3, S, S)."""
        seen, mirrored = look(self.model, torch.cat([image, image.flip(3)]))[0].chunk(2)
        logits = (seen + mirrored.flip(3)[:, self.swap]) / 2
        keypoints, scores = self.model.head.decode(logits)
        output: PoseOutput = {"keypoints": keypoints, "scores": scores, "heatmap_logits": logits}
        return self.model.calibrate(output)


def look(model: PoseModel, image: Tensor) -> tuple[Tensor, Tensor]:
    """Compute heatmap logits (B, K, S, S) and visibility logits (B, K) without decoding."""
    pixels = (image - model.pixel_mean) / model.pixel_std
    features = model.backbone(pixels.contiguous(memory_format=model.memory_format))
    return model.head.heatmaps(features), model.head.probe(features)


def shrunk(image: Tensor, side: int) -> Tensor:
    """Resize crops for a network that sees smaller ones."""
    return image if side == image.shape[-1] else F.interpolate(image, (side, side), mode="bilinear")


@torch.no_grad()
def validate(model: PoseModel, people: People, side: int) -> dict[str, float]:
    """Measure PCK@0.2 and @0.1 of all joints and PCK@0.2 of the limbs, by data set."""
    out: dict[str, float] = {}
    for name in SETS:
        metrics = PoseMetrics(LSP14).to(people.device)
        rows = people.val[people.dataset[people.val] == name]
        for some in np.array_split(rows, math.ceil(len(rows) / 100)):
            here, framed = people.put(some), people.put(people.framed[some].astype(np.int64))
            with torch.autocast(people.device.type, torch.bfloat16):
                logits, _ = look(model, shrunk(people.exact(some), side))
            points, _ = model.head.decode(logits)
            pixels = transform(people.unit_to_px[here], points)
            truth = people.keypoints_px[here], people.visibility[here]
            unit = people.keypoints[here, framed]
            metrics.update(pixels, *truth, points, unit, people.box_px[here])
        measures = metrics.compute()
        out[f"{name}/limbs"] = float(measures["limbs"]["pck@0.2"])
        out |= {f"{name}/pck@{t}": float(measures[f"pck@{t}"]) for t in (0.2, 0.1)}
    return out


class Training:
    """One network, its moving average and its teacher."""

    def __init__(self, people: People, s: Settings) -> None:
        self.people, self.s, self.side = people, s, SIDES[s.network]
        self.model = rebuild(s.network)[0].to(people.device).train()
        self.mean = rebuild(s.network)[0].to(people.device).requires_grad_(False).eval()
        for part in (self.model.backbone.stem, *self._blocks()[:FROZEN]):
            part.requires_grad_(False).eval()
        self.teacher = Teacher(people.device)
        if s.teacher:
            load_checkpoint(self.teacher.model, Path(s.teacher))
        self.loss = Distillation(network=self.teacher)
        self.learned = [p for p in self.model.parameters() if p.requires_grad]
        weights = [p for p in self.learned if p.ndim > 1]
        others = [p for p in self.learned if p.ndim <= 1]
        groups = [{"params": weights, "weight_decay": s.decay}, {"params": others}]
        fused = people.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(groups, lr=s.lr, weight_decay=0.0, fused=fused)
        new, mean = self.model.state_dict(), self.mean.state_dict()
        floats = [name for name, value in new.items() if value.is_floating_point()]
        self.averaged = [mean[name] for name in floats], [new[name] for name in floats]
        lsp = people.train[people.dataset[people.train] == "lsp"]
        self.epoch = np.concatenate([people.train, *[lsp] * (s.lsp - 1)])
        self.order, self.steps = self.epoch[:0], 0

    def _blocks(self) -> list[nn.Module]:
        return list(self.model.backbone.blocks.values())

    def backward(self) -> Tensor:
        """Compute loss and gradients of the next batch."""
        if len(self.order) < self.s.batch:
            shuffled = self.people.rng.permutation(self.epoch)
            self.order = np.concatenate([self.order, shuffled])
        rows, self.order = np.split(self.order, [self.s.batch])
        image, keypoints, visibility = self.people.augmented(rows)
        with torch.autocast(self.people.device.type, torch.bfloat16):
            logits, seen = look(self.model, shrunk(image, self.side))
            loss = self.loss({"heatmap_logits": logits}, keypoints, visibility, image)
        (loss + visibility_loss(seen, visibility)).backward()
        return loss.detach()

    def step(self, share: float) -> Tensor:
        """Take one step, `share` of the time being over."""
        rate = self.s.lr * min(1, share / 0.03 + 0.01) * (1 + math.cos(math.pi * share)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.backward()
        nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        with torch.no_grad():
            keep = min(self.s.ema, self.steps / (self.steps + 10))
            torch._foreach_lerp_(*self.averaged, 1 - keep)
        return loss


def train(people: People, out: Path, name: str, s: Settings) -> None:
    """Train until the time is over; write weights and measures."""
    since = s.since or time.time()
    torch.manual_seed(s.seed)
    torch.backends.cudnn.benchmark = True
    job, rows, best = Training(people, s), [], -1.0
    for _ in range(2):  # choose the kernels before the clock runs
        job.backward()
    job.optimizer.zero_grad(set_to_none=True)

    def note(share: float) -> bool:
        nonlocal best
        measures = validate(job.mean, people, job.side)
        limbs = sum(measures[f"{name}/limbs"] for name in SETS) / len(SETS)
        rows.append({"s": time.time() - begun, "share": share, "steps": job.steps, **measures})
        print(name, json.dumps(rows[-1]), flush=True)
        (out / f"{name}.json").write_text(json.dumps({**asdict(s), "rows": rows}, indent=1))
        if limbs > best:
            best, mean = limbs, job.mean.state_dict()
            half = {f"model.{k}": (v.half() if v.ndim > 1 else v).cpu() for k, v in mean.items()}
            torch.save({"state_dict": half}, out / f"{name}.part")
            (out / f"{name}.part").replace(out / f"{name}.ckpt")
        return limbs > sum(rows[0][f"{name}/limbs"] for name in SETS) / len(SETS)

    begun = time.time()
    note(0.0)
    begun, noted, teaches = time.time(), 0, False
    length = max(1.0, since + s.until - begun)
    while (share := (time.time() - begun) / length) < 1:
        loss = job.step(share)
        if job.steps % 10 == 0:
            loss.item()  # waits for the GPU, so that the clock is right
        if share * s.checks >= noted + 1:
            noted = int(share * s.checks)
            if note(share) and share >= s.refresh and not teaches:
                teaches = True
                job.teacher.model.load_state_dict(job.mean.state_dict())
    seen = job.steps * s.batch
    print(
        f"{name}: {seen / len(job.epoch):.1f} epochs, {seen / (time.time() - begun):.0f} images/s"
    )
    note(1.0)


def main(canvases: str, out: str, name: str, *words: str) -> None:
    """Read the command line."""
    settings: dict[str, Any] = {}
    for word in words:
        key, value = word.split("=")
        settings[key] = type(getattr(Settings, key))(value)
    s = Settings(**settings)
    Path(out).mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train(People(Path(canvases), device, s.seed), Path(out), name, s)


if __name__ == "__main__":
    main(*sys.argv[1:])
