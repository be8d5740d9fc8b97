"""`python -m convpose.search` in this process; trainings that take no time."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tiny import TINY, Command, Ended

from convpose.files import conf_folder
from convpose.search.__main__ import main
from convpose.search.setup import SearchSetup, prepare

SEARCH = (
    *(o for o in TINY if not o.startswith("data.batch_size")),
    *("search.parameters.data.batch_size.choices=[4,8]", "study=s"),
)


@pytest.fixture
def search(command: Command) -> Callable[..., Ended]:
    """Call the application in an empty folder."""

    def call(*arguments: str, base: Sequence[str] = SEARCH) -> Ended:
        command.monkeypatch.setattr(sys, "argv", ["search", *base, *arguments])
        command.capsys.readouterr()
        code: int | str | None = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return Ended(code, *command.capsys.readouterr())

    return call


@pytest.fixture
def set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SearchSetup]]:
    """Do what the application does before the first trial, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):

        def call(*arguments: str) -> SearchSetup:
            cfg = compose("search", [*SEARCH, *arguments], return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            return prepare(cfg)

        yield call


class Trainings:
    """Stands for `convpose.train.command.train`: the value is the learning rate.

    Attributes:
        configs: of all calls.
        then: called with every configuration first; may raise.
    """

    def __init__(self) -> None:
        self.configs: list[DictConfig] = []
        self.then: Callable[[DictConfig], None] = lambda cfg: None

    def __call__(self, cfg: DictConfig, folder: Path, callbacks: list) -> float:
        self.configs.append(cfg)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text("{}")
        self.then(cfg)
        return float(cfg.optimizer.lr)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """Trainings that take no time, and a start that builds no network and composes no corner."""
    fake = Trainings()
    monkeypatch.setattr("convpose.train.command.train", fake)
    monkeypatch.setattr("convpose.search.setup.check_training", lambda cfg: None)
    monkeypatch.setattr("convpose.search.setup.check_space", lambda space, typed: None)
    nothing = SimpleNamespace(collect=lambda: None)  # no trainer, whose memory has to be found
    monkeypatch.setattr("convpose.search.command.gc", nothing)
    return fake
