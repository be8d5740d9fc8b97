"""Load the network of a run or of TorchScript, and call it once a crop or several times.

The other engines are apart: they answer before torch is imported.
"""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import nn

from convpose.config.schema import check_table
from convpose.data.crop import Mode, Scale
from convpose.errors import ConfigError
from convpose.hardware import AUTOCAST, autocast, resolve_precision, want_gpu
from convpose.models.build import NETWORK_KEYS, build_model, drop_weights
from convpose.models.pose_model import PoseModel, PoseOutput
from convpose.models.weights import load_checkpoint, no_larger_than
from convpose.run import Run
from convpose.runtime import KEY, CropSpec, Runtime, check_file, read_spec, reading
from convpose.skeleton import LSP14, Skeleton

CROP_KEYS = {"data.crop": Mode | Mapping[str, Mode], "data.box_scale": Scale}
APART = 0.05  # unit: two estimates further apart than this mean two places


class TorchRuntime:
    """Run a network in PyTorch.

    Args:
        model: a `PoseModel` with its weights, or a module that answers like one.
        spec: see `CropSpec`.
        device: where to compute.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    """

    def __init__(
        self, model: nn.Module, spec: CropSpec, device: str = "cpu", precision: str = "32-true"
    ) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.model: Any = model.eval().to(self.device)
        self.precision = precision

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute keypoints; see `Runtime`."""
        with torch.inference_mode(), autocast(self.device, self.precision):
            output = self.model(torch.from_numpy(crops).to(self.device))
        keypoints, scores = output["keypoints"].float().cpu(), output["scores"].float().cpu()
        return keypoints.numpy(), scores.numpy()


class AsModule(nn.Module):
    """Wrap a runtime as a module that answers like a `PoseModel` on the CPU."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Answer crops (B, 3, S, S) as the runtime does."""
        keypoints, scores = self._runtime(image.contiguous().numpy())
        return {"keypoints": torch.from_numpy(keypoints), "scores": torch.from_numpy(scores)}


def with_tta(runtime: Runtime, mirror: bool, quarter_turns: bool) -> TorchRuntime:
    """Return a runtime with test-time augmentation; another engine's is augmented in PyTorch."""
    if not isinstance(runtime, TorchRuntime):
        runtime = TorchRuntime(AsModule(runtime), runtime.spec)
    other = copy.copy(runtime)
    other.model = TestTimeAugmentation(other.model, runtime.spec.skeleton, mirror, quarter_turns)
    return other


def load_torchscript(
    path: str | Path, accelerator: str = "auto", threads: int | None = None
) -> TorchRuntime:
    """Load a ``.torchscript`` file of `convpose.export`.

    Such a file holds a program: open none from people whose programs you would not run.

    Args:
        path: the file.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where there is one.
        threads: number of processor threads; None for PyTorch's own choice.

    Raises:
        ConfigError: no such accelerator.
        ModelError: no such file, or one that cannot be read.
    """
    path = Path(path)
    check_file(path)
    on_gpu = want_gpu(accelerator, torch.cuda.is_available(), "PyTorch sees no GPU here")
    device = "cuda" if on_gpu else "cpu"
    extra = {KEY: ""}
    with reading(path, "TorchScript"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, but the user asked for it
        jit: Any = torch.jit  # its functions have no types
        module = jit.load(path, map_location=device, _extra_files=extra)
    spec = read_spec(path, extra[KEY])
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchRuntime(module, spec, device)


def network_config(trained: DictConfig) -> DictConfig:
    """Pick the part of a training's configuration from which its network is rebuilt.

    It holds no path of the training machine, and no weights are downloaded again.

    Raises:
        ConfigError: a key that is missing or out of its range; the file may come from anybody.
    """
    check_table(trained, {**NETWORK_KEYS, **CROP_KEYS, "trainer.precision": str})
    plain: Any = OmegaConf.to_container(trained, resolve=True)
    data = {key: plain["data"][key] for key in ("input_size_px", "crop", "box_scale")}
    data["skeleton"] = plain["data"].get("skeleton", LSP14.name)
    trainer = {"precision": plain["trainer"]["precision"], "accelerator": "auto"}
    parts = {key: plain[key] for key in ("model", "head", "channels_last")}
    drop_weights(parts)
    return OmegaConf.create({"data": data, **parts, "trainer": trainer})


def load_run(
    folder: str | Path, checkpoint: str = "best", accelerator: str = "auto", precision: str = "auto"
) -> TorchRuntime:
    """Load the network of a run folder, or of a study's newest run.

    Args:
        folder: of the run or the study.
        checkpoint: ``best``, ``last`` or a file.
        accelerator: see `to_runtime`.
        precision: see `to_runtime`.

    Raises:
        ConfigError: no run there, or no such accelerator.
        ModelError: no checkpoint, or one of another network.
    """
    return to_runtime(*rebuild_run(folder, checkpoint), accelerator, precision)


def rebuild_run(
    folder: str | Path, checkpoint: str = "best", key: str = "run"
) -> tuple[PoseModel, DictConfig]:
    """Rebuild the network of a run; return it and its `network_config`. See `load_run`, `Run`."""
    run = Run.find(Path(folder), key)
    cfg = network_config(run.config)
    path = run.checkpoint(checkpoint)
    with no_larger_than(path):
        model = build_model(cfg)
    load_checkpoint(model, path)
    return model, cfg


def to_runtime(
    model: PoseModel, cfg: DictConfig, accelerator: str = "auto", precision: str = "auto"
) -> TorchRuntime:
    """Make a network ready to be called.

    Args:
        model: the network with its weights.
        cfg: its `network_config`.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where there is one.
        precision: ``auto`` for the one of `convpose.evaluate`, or see `TorchRuntime`.

    Raises:
        ConfigError: an accelerator that is not there, or an unknown precision.
    """
    on_gpu = want_gpu(accelerator, torch.cuda.is_available(), "PyTorch sees no GPU here")
    if precision not in ("auto", "32-true", *AUTOCAST):
        raise ConfigError(f"precision={precision}: type auto, 32-true, {' or '.join(AUTOCAST)}")
    cfg.trainer.accelerator = accelerator
    kind = resolve_precision(cfg) if precision == "auto" else precision
    return TorchRuntime(model, CropSpec.from_config(cfg.data), "cuda" if on_gpu else "cpu", kind)


class TestTimeAugmentation(nn.Module):
    """Network that is shown each crop several times and answers as `PoseModel` does.

    - Flip test: heatmaps of the crop and of its mirror image, left and right exchanged back, are
      averaged. Of networks without heatmaps the keypoints are, weighted by score. Of two that lie
      apart the one with the higher score is kept: between the left and the right foot there is
      nothing. A left keypoint without a right one keeps the answer to the crop.
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
        self.swap, self.one_sided = list(skeleton.mirror), skeleton.one_sided
        self.mirror = mirror
        self.turns = 4 if quarter_turns else 1

    @property
    def passes(self) -> int:
        """Count how often the network sees each crop."""
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
            logits = output["heatmap_logits"]
            logits = logits + self._exchanged(other["heatmap_logits"].flip(3), logits)
            points, share = self.model.head.decode(logits / 2)
            both = self.model.calibrate({"keypoints": points, "scores": share})
            return both["keypoints"], both["scores"]
        x, y = other["keypoints"].unbind(dim=-1)
        mirrored = self._exchanged(torch.stack([1 - x, y], dim=-1), keypoints)
        other_scores = self._exchanged(other["scores"], scores)
        total = (scores + other_scores).clamp(min=1e-6)
        apart = (keypoints - mirrored).square().sum(dim=-1).sqrt() > APART
        share = torch.where(apart, (scores >= other_scores).float(), scores / total)
        points = torch.lerp(mirrored, keypoints, share.unsqueeze(-1))
        return points, torch.where(apart, torch.maximum(scores, other_scores), total / 2)

    def _exchanged(self, mirrored: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Exchange left and right; a keypoint that has no other side keeps its own answer."""
        back = mirrored[:, self.swap]
        for k in self.one_sided:  # a list of them would be copied to the GPU
            back[:, k] = own[:, k]
        return back


def turn_back(keypoints: torch.Tensor, turns: int) -> torch.Tensor:
    """Move unit keypoints of an image that `torch.rot90` has turned to the image before."""
    for _ in range(turns % 4):
        keypoints = torch.stack([1 - keypoints[..., 1], keypoints[..., 0]], dim=-1)
    return keypoints
