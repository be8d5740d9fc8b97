"""A run is a folder: what was asked for, what came out, and all that is needed to rebuild it.

``config.yaml`` (resolved), ``splits.json`` (lists of ids), ``run.json`` (command, revision,
versions, hardware, seconds), ``metrics.csv``, ``metrics.json`` (the best epoch),
``layers.md``, ``checkpoints/best.ckpt`` and ``last.ckpt``, TensorBoard events.
"""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from convpose.data.splits import Split
from convpose.errors import ConfigError, ModelError

PACKAGES = ("convpose", "torch", "torchvision", "lightning", "hydra-core", "albumentations")
GROUPS = ("data", "augment", "model", "head", "loss", "optimizer", "scheduler")  # HParams


class Run:
    """Reads and writes a run folder.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def find(cls, path: Path) -> "Run":
        """The run in a folder, or the newest run in a study's folder.

        Raises:
            ConfigError: no run there.
        """
        if (path / "config.yaml").is_file():
            return cls(path)
        found = sorted(path.glob("*/config.yaml"), key=lambda file: file.stat().st_mtime)
        if not found:
            what = "holds no config.yaml" if path.is_dir() else "does not exist"
            raise ConfigError(
                f"run={path}: the folder {what}; type run=FOLDER, a run or study that "
                "convpose.train wrote (by default under runs/)"
            )
        return cls(found[-1].parent)

    @property
    def config(self) -> DictConfig:
        """The resolved configuration of the training."""
        cfg = OmegaConf.load(self.folder / "config.yaml")
        if not isinstance(cfg, DictConfig):
            raise ConfigError(f"{self.folder / 'config.yaml'}: not a configuration")
        return cfg

    def checkpoint(self, which: str) -> Path:
        """Path of the ``best`` or ``last`` checkpoint, or of another file; ModelError if none."""
        named = self.folder / "checkpoints" / f"{which}.ckpt"
        path = named if which in ("best", "last") else Path(which)
        if not path.is_file():
            raise ModelError(
                f"{path}: no such checkpoint; type checkpoint=last for a run that was interrupted, "
                "or checkpoint=FILE"
            )
        return path

    def write_start(self, cfg: DictConfig, split: Split) -> None:
        """Write what is known before the first step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = OmegaConf.to_yaml(cfg, resolve=True)
        (self.folder / "config.yaml").write_text(config, encoding="utf-8")
        self._write_json("splits.json", split)
        self._write_json("run.json", describe())

    def write_end(self, best: dict[str, float], seconds: float) -> None:
        """Write the best epoch to ``metrics.json``, and what all epochs took to ``run.json``."""
        self._write_json("metrics.json", best)
        facts = json.loads((self.folder / "run.json").read_text("utf-8"))
        self._write_json("run.json", facts | {"seconds": round(seconds, 1)})

    def _write_json(self, name: str, content: Any) -> None:
        partial = self.folder / f"{name}.part"
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
        partial.replace(self.folder / name)


def describe() -> dict[str, Any]:
    """What is needed to judge or repeat a run: command, revision, versions, hardware."""
    return {
        "command": " ".join([Path(sys.executable).name, "-m", "convpose.train", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "revision": revision(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
    }


def revision() -> str:
    """Git revision of the code, with ``-dirty`` if it was changed; ``unknown`` outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.strip() or "unknown"


def hardware() -> str:
    """GPU name if there is one, else the processor and its cores."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{model}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


def hyperparameters(cfg: DictConfig) -> dict[str, float | str | bool]:
    """Flat names and plain values of what runs differ in, for TensorBoard's HParams."""
    flat: dict[str, float | str | bool] = {"seed": cfg.seed}
    for group in GROUPS:
        node: Any = OmegaConf.to_container(cfg.get(group) or OmegaConf.create(), resolve=True)
        for key, value in node.items():
            if key == "_target_":
                flat[group] = str(value).rpartition(".")[2]
            elif isinstance(value, bool | int | float | str) and key[0] != "_":
                flat[f"{group}.{key}"] = value
    for key in ("max_epochs", "precision"):
        flat[f"trainer.{key}"] = cfg.trainer[key]
    return flat
