"""Fixtures that all tests share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hypothesis import settings
from tiny import RANDOM, Command, tiny_run

# A busy machine is no failure, and the same examples every time make a failure repeatable.
settings.register_profile("convpose", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("convpose")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Networks this small are slower on several threads, and much slower on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four epochs with all that is random."""
    folder = tmp_path_factory.mktemp("unbroken")
    tiny_run(folder, *RANDOM)
    return folder


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator["Command"]:
    """`python -m convpose.train` in this process, in an empty folder; Hydra's traces removed."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.chdir(tmp_path)
    yield Command(monkeypatch, capsys)
    for added in set(root.handlers) - set(handlers):
        if isinstance(added, logging.FileHandler):  # absl's would close the stream of pytest
            added.close()
    root.handlers[:], root.level = handlers, level
    HydraConfig.instance().cfg = None
