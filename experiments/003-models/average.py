"""Average the weights of checkpoints of one network: ``average.py RUN TARGET CHECKPOINT…``.

TARGET becomes a run folder with the settings of RUN, so that it can be evaluated, teach, be
continued from and be packed. Networks that were trained from the same weights can be averaged
(Wortsman et al., Model soups, 2022); of one checkpoint it makes a run folder.
"""

import shutil
import sys
from pathlib import Path

import torch

SETTINGS = ("config.yaml", "splits.json", "run.json", "metrics.csv")


def average(run: Path, target: Path, checkpoints: list[Path]) -> None:
    """Write the run folder; weights with two or more axes in half precision, as gpu.py does."""
    states = [torch.load(path, "cpu", weights_only=True)["state_dict"] for path in checkpoints]
    mean = {}
    for name, first in states[0].items():
        if name.startswith("model."):
            value = sum(state[name].double() for state in states) / len(states)
            mean[name] = value.half() if first.ndim > 1 else value.to(first.dtype)
    (target / "checkpoints").mkdir(parents=True, exist_ok=True)
    for file in SETTINGS:
        shutil.copy(run / file, target)
    torch.save({"state_dict": mean}, target / "checkpoints/best.ckpt")


if __name__ == "__main__":
    average(*map(Path, sys.argv[1:3]), list(map(Path, sys.argv[3:])))
