"""The networks that the page offers, loaded when they are asked for."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from convpose.errors import ConfigError
from convpose.predict.detectors import Detector
from convpose.predict.predictor import PosePredictor
from convpose.runtime.load import load_run
from convpose.runtime.packaged import load_packaged

PACKAGED = "packaged weights"


class Networks:
    """The packaged weights, and the runs of a folder that have a checkpoint.

    Args:
        runs: folder of studies, where runs are looked for.
        first: run or study folder to offer first; None for the packaged weights.
        detector: finds several people; None if there is none.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Raises:
        ConfigError: `first` is no run.
    """

    def __init__(
        self, runs: Path, first: str | None, detector: Detector | None, accelerator: str
    ) -> None:
        self.runs = runs
        self.first = first
        self.detector = detector
        self.accelerator = accelerator
        self._load = lru_cache(maxsize=4)(self._open)
        self._load(first or PACKAGED)  # fails now, not when a visitor asks

    def names(self) -> Sequence[str]:
        """What can be chosen, the first choice first; runs that were added meanwhile, too."""
        found = self.runs.glob("*/*/checkpoints/best.ckpt")
        newest = sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)
        runs = [str(file.parent.parent) for file in newest]
        return list(dict.fromkeys([self.first or PACKAGED, PACKAGED, *runs]))

    def predictor(self, name: str, several: bool) -> PosePredictor:
        """The network of that name, with or without the detector.

        Raises:
            ConfigError: a name that is not offered: a visitor may not open any folder.
            ModelError: weights that cannot be loaded.
        """
        if name not in self.names():
            raise ConfigError(f"{name}: not one of the networks of this page; choose one from it")
        return PosePredictor(self._load(name).runtime, self.detector if several else None)

    def _open(self, name: str) -> PosePredictor:
        if name == PACKAGED:
            return PosePredictor(load_packaged(accelerator=self.accelerator))
        return PosePredictor(load_run(name, accelerator=self.accelerator))
