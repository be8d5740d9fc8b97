"""Read and write the folder of a run: the configuration, the results, all to rebuild it.

``config.yaml`` (resolved), ``splits.json`` (lists of ids), ``run.json`` (command, choices of the
yaml files, revision, versions, hardware, seconds), ``metrics.csv``, ``metrics.json`` (the best
epoch), ``layers.md``, ``checkpoints/best.ckpt`` and ``last.ckpt``, TensorBoard events.
Nothing here imports torch before a training does: `convpose.compare` reads many folders quickly.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from convpose import files
from convpose.bounded import load_json
from convpose.config.allowlist import read_config
from convpose.config.arguments import key_of, overrides
from convpose.config.run_dirs import NON_RESULT_KEYS, begun, named_like, varied_keys
from convpose.config.schema import check_table
from convpose.errors import ConfigError, ModelError
from convpose.hardware import available_cores, describe_hardware

Value = bool | int | float | str | None
PACKAGES = ("convpose", "torch", "torchvision", "lightning", "hydra-core", "albumentations")
COMMON = ("optimizer.lr", "data.batch_size")  # what most sweeps vary
SCORED_KEYS = {  # what an evaluation reads before a part is built
    "data": dict[str, Any],
    "data.sources": dict[str, Any] | None,
    "data.box_scale": float,
    "data.crop": str | dict[str, Any],
    "trainer": dict[str, Any],
    "trainer.precision": str,
    "monitor": str,
    "monitor_mode": Literal["max", "min"],
}


class Run:
    """Read and write a run folder.

    Args:
        folder: of the run.
        key: by which it was named, for messages.
    """

    def __init__(self, folder: Path, key: str = "run") -> None:
        self.folder = folder
        self.key = key

    @classmethod
    def find(cls, path: Path, key: str = "run") -> "Run":
        """Find a run by its folder or its number, ``runs/rates/3``, or the newest run of a study.

        Raises:
            ConfigError: no run there.
        """
        if (path / "config.yaml").is_file():
            return cls(path, key)
        like = [f for f in named_like(path) if (f / "config.yaml").is_file() and not path.exists()]
        if len(like) > 1:
            listed = "".join(f"\n  {key}={folder}" for folder in sorted(like))
            raise ConfigError(f"{key}={path}: {len(like)} runs have this number; type{listed}")
        if like:
            return cls(like[0], key)
        if path.is_file():
            what = "run=RUN checkpoint=FILE or weights=FILE" if key == "run" else f"{key}=FOLDER"
            raise ConfigError(f"{key}={path}: a file; type {what}")
        if not (found := [file.parent for file in path.glob("[!.]*/config.yaml")]):
            what = "holds no config.yaml" if path.is_dir() else "does not exist"
            raise ConfigError(
                f"{key}={path}: the folder {what}; type {key}=FOLDER, a run or study that "
                "convpose.train wrote (by default under runs/)"
            )
        return cls(max(found, key=begun), key)

    @property
    def config(self) -> DictConfig:
        """Read the resolved configuration of the training."""
        return read_config(self.folder / "config.yaml")

    def config_to_score(self, data_folder: str) -> DictConfig:
        """Read the configuration with the run's own split, whole and without augmentation.

        Args:
            data_folder: where the archives lie today.
        """
        config = self.config
        check_table(config, SCORED_KEYS)
        config.pop("augment", None)
        config.data.split = str(self.folder / "splits.json")
        config.data.train_share = 1.0  # its training subset has been reduced
        config.data.pop("repeat", None)
        if isinstance(workers := config.data.get("num_workers"), int):
            config.data.num_workers = min(workers, available_cores())
        if not Path(str(config.data.get("cache"))).is_file():
            config.data.cache = None  # nothing is written where the training's cache was
        for source in (config.data.get("sources") or {}).values():
            if isinstance(source, DictConfig) and "folder" in source:
                source.folder = data_folder
        return config

    def checkpoint(self, which: str) -> Path:
        """Find the ``best`` or ``last`` checkpoint, or another file; else raise ModelError."""
        named = self.folder / "checkpoints" / f"{which}.ckpt"
        path = named if which in ("best", "last") else Path(which)
        if not path.is_file():
            what = f"{self.key}=FOLDER of a run that has trained an epoch"
            if self.key == "run":
                what = "checkpoint=last for a run that was interrupted, or checkpoint=FILE"
            raise ModelError(f"{path}: no such checkpoint; type {what}")
        return path

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep the folder to one process, of all machines that share its disk.

        Two would mix their files. The lock lies in the folder and ends with the process, however
        that ends.

        Raises:
            ConfigError: another process trains in it.
        """
        with contextlib.ExitStack() as stack:
            if sys.platform != "win32":
                with contextlib.suppress(OSError):  # a disk without locks
                    self._lock(stack)
            yield

    def _lock(self, stack: contextlib.ExitStack) -> None:
        import fcntl  # not on Windows

        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / ".lock"
        while True:
            file = stack.enter_context(path.open("w"))
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise ConfigError(
                    f"{self.folder}: another process trains in it; wait for its end, or type "
                    "hydra.run.dir=ANOTHER_FOLDER"
                ) from None
            # another process may have ended, and removed the file, since it was opened
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                stack.callback(path.unlink, missing_ok=True)
                return

    def write_start(self, cfg: DictConfig, split: Mapping[str, Sequence[str]]) -> None:
        """Write what is known before the first step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write(self.folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        self._write_json("splits.json", split)
        self._write_json("run.json", describe_run())

    def write_end(self, best: dict[str, float], seconds: float) -> None:
        """Write the best epoch to ``metrics.json``, and what all epochs took to ``run.json``."""
        self._write_json("metrics.json", best)
        self.note(seconds=round(seconds, 1))

    def note(self, **facts: Any) -> None:
        """Add facts to ``run.json``."""
        known = load_json(self.folder / "run.json")
        self._write_json("run.json", {**known, **facts} if isinstance(known, dict) else facts)

    def _write_json(self, name: str, content: Any) -> None:
        files.write(self.folder / name, json.dumps(content, indent=1))


def describe_run() -> dict[str, Any]:
    """Collect what repeats a run: command, choices, revision, versions, hardware."""
    import torch

    return {
        "command": " ".join([Path(sys.executable).name, "-m", started_module(), *sys.argv[1:]]),
        "choices": choices(),
        "overrides": overrides() if choices() else [],
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "revision": revision(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "hardware": describe_hardware(),
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout that runs where it lies
        return "not installed"


def started_module() -> str:
    """Name the module that was started, as ``convpose.train``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name.removesuffix(".__main__") if spec else ""
    return name if name.startswith("convpose.") else "convpose.train"


def revision() -> str:
    """Read the git revision of the code, ``-dirty`` if it was changed, ``unknown`` outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.strip() or "unknown"


def choices() -> dict[str, str]:
    """Read the yaml that was chosen of each group, as ``{"model": "vgg_bn"}``.

    Hydra knows them while an application runs, the composed configuration does not. Empty outside
    of Hydra, and in an application that trains with other choices than its own.
    """
    if not HydraConfig.initialized() or HydraConfig.get().job.config_name != "train":
        return {}
    chosen = HydraConfig.get().runtime.choices.items()
    return {str(k): str(v) for k, v in chosen if v and "/" not in str(k) and "@" not in str(k)}


def compared(cfg: DictConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the hyperparameters that are compared with those of other runs.

    They are what was typed without data and trainer; of a job of a sweep or search what that
    varies, and the groups that were typed; up to four also `COMMON`; all of a run from Python.
    """
    if not (chosen := choices()):
        return dict(values)
    typed = [key_of(word) for word in overrides()]
    varied = varied_keys(cfg)
    typed = [k for k in typed if k not in ("data", "trainer") and (k in chosen or not varied)]
    named = [key for key in dict.fromkeys([*varied, *typed]) if key in values]
    shown = list(dict.fromkeys([*named, *COMMON]))[: max(4, len(named))]
    return {key: values[key] for key in shown if key in values}


def flat(config: Mapping[str, Any], chosen: Mapping[str, str]) -> dict[str, Value]:
    """Flatten a configuration to dotted keys and plain values; lists become text.

    A group stands for its class: ``optimizer`` is the chosen yaml, else what ``_target_`` names.
    Keys of `NON_RESULT_KEYS` are left out.
    """
    groups = {key: name for key, name in chosen.items() if key not in NON_RESULT_KEYS}
    return groups | {k: v for k, v in _leaves(config, "") if k not in groups}


def changed_keys(these: Mapping[str, Any], those: Mapping[str, Any]) -> list[str]:
    """Describe the keys in which flat settings differ from others: ``seed=1, not 0`` of those."""
    return [
        f"{key}={these.get(key)}, not {those.get(key)}"
        for key in {**those, **these}
        if these.get(key) != those.get(key)
    ]


def _leaves(node: Mapping[str, Any], parent: str) -> Iterator[tuple[str, Value]]:
    for key, value in node.items():
        if key == "skeleton" and isinstance(value, Mapping):  # one value, however much it holds
            yield f"{parent}.{key}", value.get("name")
        elif key == "_target_":
            yield parent, str(value).rpartition(".")[2]
        elif str(key)[:1] == "_" or (not parent and key in NON_RESULT_KEYS):
            continue
        elif isinstance(value, Mapping):
            yield from _leaves(value, f"{parent}.{key}" if parent else str(key))
        else:
            text = value if isinstance(value, Value) else json.dumps(value, default=str)
            yield f"{parent}.{key}" if parent else str(key), text


def hyperparameters(cfg: DictConfig) -> dict[str, float | str | bool]:
    """List what HParams may show of a run; TensorBoard shows what differs between runs first.

    A loss that follows its head is left out, as nobody varied it.
    """
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    values = {key: value for key, value in flat(config, choices()).items() if value is not None}
    if values.get("loss") == values.get("head"):
        values.pop("loss", None)
    return values
