"""Share among the tests of training a network and data so small that a run takes seconds."""

import functools
import pickle
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import forked
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from convpose.files import conf_folder
from convpose.history import read_history
from convpose.train.__main__ import main
from convpose.train.command import train

TINY = (
    *("data=synthetic", "data.sources.synthetic.num_images=40"),
    *("data.sources.synthetic.image_size_px=48", "data.input_size_px=32"),
    *("data.batch_size=8", "data.num_workers=0", "model.depth=11", "model.width=0.0625"),
    *("trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=2"),
    *("callbacks.preview.images=1", "callbacks.preview.worst=1"),  # pictures take longer than steps
)
RANDOM = ("augment=default", "model.dropout=0.5", "trainer.max_epochs=4")  # all that is random
QUIET = ("logger=none", "callbacks.preview=null")  # nothing to look at: a third faster
CLOCKS = ("seconds", "images_per_s")


@functools.cache
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


@functools.cache
def _of_groups(name: str, *overrides: str) -> bytes:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return pickle.dumps(compose(name, list(overrides)))  # read again faster than copied


@functools.cache
def _composed(name: str, *overrides: str) -> bytes:
    """Choose groups as Hydra does, once for all tests; then set values as Hydra does after that."""
    values = [
        override
        for override in map(_parsed, overrides)
        if not (conf_folder() / override.key_or_group).is_dir()
        and not override.is_sweep_override()
        and not override.is_hydra_override()
    ]
    lines = {override.input_line for override in values}
    config = pickle.loads(_of_groups(name, *(o for o in overrides if o not in lines)))
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    return pickle.dumps(config)


def composed(name: str, *overrides: str) -> DictConfig:
    """The configuration of an application, as its command line makes it; the caller's own."""
    config: DictConfig = pickle.loads(_composed(name, *overrides))
    return config


def tiny_config(*overrides: str, name: str = "train") -> DictConfig:
    """The composed configuration of a tiny run, as `convpose.train` gets it."""
    return composed(name, *TINY, *overrides)


def tiny_run(folder: Path, *overrides: str) -> float:
    """Train in a folder, in this process."""
    return train(tiny_config(*overrides), folder)


def history(folder: Path) -> list[dict[str, float]]:
    rows = read_history(folder / "metrics.csv")
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


def saved(folder: Path, name: str = "last") -> dict:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_same(a, b, where: str = "") -> None:
    """Bit-equality of nested containers of tensors."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def assert_same_run(one: Path, other: Path) -> None:
    assert history(one) == history(other)
    for name in ("best", "last"):
        a, b = saved(one, name), saved(other, name)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
            assert_same(a[part], b[part], f"{name}.{part}")


@dataclass(frozen=True)
class Ended:
    """Keep how a command ended."""

    code: int | str | None
    out: str
    err: str


class Command:
    """Calls the training application with a command line.

    Args:
        monkeypatch, capsys: pytest's.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, *arguments: str) -> Ended:
        self.monkeypatch.setattr(sys, "argv", ["train", *arguments])
        self.capsys.readouterr()
        code: int | str | None = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return Ended(code, *self.capsys.readouterr())


def start(folder: Path, *arguments: str, module: str = "convpose.train") -> subprocess.Popen[str]:
    """The real command line in a folder."""
    return subprocess.Popen(
        [forked.server()[1], "-m", module, *arguments],
        cwd=folder,
        env=forked.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a test run in the background ignores Ctrl-C, and its children would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
