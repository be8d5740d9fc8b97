"""`python -m convpose.search` in this process; trainings that take no time."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig
from tiny import TINY, Command, Ended

from convpose.search import main

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


class Trainings:
    """Stands for `convpose.training.fit.train`: the value is the learning rate.

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
    """Trainings that take no time, and a start without building the network."""
    fake = Trainings()
    monkeypatch.setattr("convpose.training.fit.train", fake)
    monkeypatch.setattr("convpose.searching.plan.check_training", lambda cfg: None)
    return fake
