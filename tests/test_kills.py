"""Commands that are killed at random moments: what is there is whole, and the same command ends."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forked import Forker
from PIL import Image
from tiny import QUIET, tiny_run

pytestmark = pytest.mark.slow
KILLS = 10
WHOLE: dict[str, Callable[[Path], object]] = {  # reads a file to its end
    ".json": lambda path: json.loads(path.read_text()),
    ".npz": lambda path: dict(np.load(path)),
    ".png": lambda path: Image.open(path).load(),
    ".md": lambda path: path.read_text().index("|"),
}
COMMANDS = {"evaluate": ("run={run}", "accelerator=cpu", "gallery=4", "split=val", "output=out")}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    tiny_run(folder / "run", "trainer.max_epochs=1", *QUIET)
    return {"run": folder / "run"}


def check_whole(folder: Path) -> set[str]:
    """The names of the files; each can be read to its end."""
    there = [path for path in folder.glob("*") if path.name[0] != "."]
    names = {path.name for path in there if path.suffix != ".part"}
    for path in (folder / name for name in names):
        WHOLE.get(path.suffix, Path.read_bytes)(path)
    return names


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_moments(command, given, tmp_path):
    line = [key.format(**given) for key in COMMANDS[command]]
    (tmp_path / "whole").mkdir()
    forker = Forker(tmp_path / "whole", f"convpose.{command}")
    try:
        start_s = time.monotonic()
        assert forker.train(*line).ended() == 0, (tmp_path / "whole" / "01.log").read_text()
        took_s = time.monotonic() - start_s
        expected = check_whole(tmp_path / "whole" / "out")
        assert len(expected) > 1
        dice, hits = random.Random(0), 0
        folder = tmp_path / "killed"  # one folder: an older result is there and stays whole
        folder.mkdir()
        forker.within(folder)
        for _ in range(KILLS):
            life = forker.train(*line)
            time.sleep(dice.uniform(0, took_s))
            if life.alive():
                life.kill()
                hits += 1
            life.ended()
            if (folder / "out").exists():
                assert check_whole(folder / "out") <= expected
        assert forker.train(*line).ended() == 0
        assert check_whole(folder / "out") == expected
        assert hits > KILLS // 3
        print(f"{command}: {hits} kills in {KILLS} lives of {took_s:.1f} s")
    finally:
        forker.close()
