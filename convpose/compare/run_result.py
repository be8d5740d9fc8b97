"""What came out of a run: all that a comparison reads of its folder, whatever state that is in."""

import json
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from convpose.errors import DataError
from convpose.history import Row, best_row, read_history
from convpose.run import Value, flat

TRACES = ("config.yaml", "run.json", "splits.json", "metrics.csv", "error.txt", "checkpoints")
DEPTH = 2  # runs/STUDY/RUN


@dataclass(frozen=True)
class Outcome:
    """A run that has validated at least one epoch.

    Attributes:
        folder: of the run.
        config: its configuration, nested.
        facts: of ``run.json``; empty where that cannot be read.
        rows: its history, one row an epoch.
        state: ``finished``, ``pruned after 3 epochs``, ``unfinished: …`` or ``failed: …``.
        parameters: of the network; None if nobody counted them.
        evaluations: PCK@0.2 of each joint, by the split of each ``evaluate_SPLIT/``.
        notes: files that could not be read.
    """

    folder: Path
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    rows: list[Row]
    state: str
    parameters: int | None
    evaluations: Mapping[str, Mapping[str, float]]
    notes: list[str] = field(default_factory=list)

    @property
    def monitor(self) -> str:
        """The metric that chose the best epoch."""
        return str(self.config["monitor"])

    @property
    def mode(self) -> str:
        """``max`` or ``min`` of the monitor."""
        return str(self.config["monitor_mode"])

    @property
    def complete(self) -> bool:
        """Whether it came to the end that it was meant to have."""
        return self.state.startswith(("finished", "pruned"))

    @property
    def seconds(self) -> float:
        """What all epochs took, validation included."""
        return sum(row.get("seconds", 0.0) for row in self.rows)

    @property
    def images_per_s(self) -> float:
        """Median training speed of the epochs."""
        return statistics.median(row.get("images_per_s", 0.0) for row in self.rows)

    @property
    def overridden(self) -> frozenset[str]:
        """Keys that its command line set."""
        given = self.facts.get("overrides", ())
        return frozenset(str(override).partition("=")[0].lstrip("+~") for override in given)

    def best(self, monitor: str, mode: str) -> Row:
        """The row of its best epoch by a metric; empty if it never measured that."""
        return best_row(self.rows, monitor, mode)

    def flat(self, by_choice: bool) -> dict[str, Value]:
        """Its configuration in dotted keys; groups by their yaml's name, else by their class."""
        return flat(self.config, self.facts.get("choices", {}) if by_choice else {})


def run_folders(path: Path, depth: int = DEPTH) -> list[Path]:
    """The run folders in a folder, in order of name; the folder itself if it is one.

    Empty folders count: a run should have been there.
    """
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError:
        return [path]  # reading it will say why
    if not names or names.intersection(TRACES):
        return [path]
    below = [path / name for name in sorted(names) if name[0] != "."] if depth else []
    return [run for folder in below if folder.is_dir() for run in run_folders(folder, depth - 1)]


def read_outcome(folder: Path) -> Outcome:
    """Everything of a run folder.

    Raises:
        DataError: why nothing can be compared: empty, broken, failed early, no validated epoch.
        OSError: a file that may not be read.
    """
    if not (folder / "config.yaml").is_file():
        raise DataError(_failure(folder) or "no config.yaml; the run never started")
    config = _read(folder / "config.yaml")
    judged = isinstance(config.get("monitor"), str) and config.get("monitor_mode") in ("max", "min")
    if not (judged and isinstance(config.get("trainer"), Mapping)):
        raise DataError("config.yaml: no monitor, monitor_mode or trainer; of another program?")
    if not (folder / "metrics.csv").is_file():
        raise DataError(_failure(folder) or "no epoch yet: still in its first, or killed in it")
    try:
        rows = read_history(folder / "metrics.csv")
    except DataError as error:
        raise DataError(str(error).removeprefix(f"{folder}/")) from error
    notes: list[str] = []
    facts = _read_if_there(folder / "run.json", notes)
    if not isinstance(facts.get("choices", {}), dict):
        notes.append("run.json is broken: choices are no keys with values")
        facts = {}
    if not best_row(rows, config["monitor"], config["monitor_mode"]):
        raise DataError(_failure(folder) or f"no epoch gave a finite {config['monitor']}")
    evaluations = {}
    for file in sorted(folder.glob("evaluate_*/metrics.json")):
        if found := _joints(file, notes):
            evaluations[file.parent.name.removeprefix("evaluate_")] = found
    state = _state(folder, len(rows), config, facts)
    return Outcome(folder, config, facts, rows, state, _parameters(folder), evaluations, notes)


def _joints(path: Path, notes: list[str]) -> dict[str, float]:
    """PCK@0.2 of each joint from an evaluation's measures; what was not counted is left out."""
    measures = _read_if_there(path, notes)
    try:
        found = {name: joint["pck@0.2"] for name, joint in measures.get("per_joint", {}).items()}
        return {name: float(value) for name, value in found.items() if value is not None}
    except (AttributeError, KeyError, TypeError, ValueError):
        where = f"{path.parent.name}/{path.name}"
        notes.append(f"{where} is broken: no per_joint as convpose.evaluate writes it")
        return {}


def _state(folder: Path, epochs: int, config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """How a run ended, as `Outcome.state` says it; a search notes what it pruned."""
    noted = str(facts.get("state", ""))
    if "seconds" in facts:
        return noted if noted.startswith("pruned") else "finished"
    of = f"{epochs} of {config['trainer'].get('max_epochs', '?')} epochs"
    failed = _failure(folder)
    return f"{failed} ({of})" if failed else f"unfinished: {of}, still running or killed"


def _failure(folder: Path) -> str:
    """The first line of ``error.txt``; what an empty folder is; else nothing."""
    error = folder / "error.txt"
    if error.is_file():
        return "failed: " + (error.read_text("utf-8", "replace").splitlines() or ["unknown"])[0]
    return "" if any(folder.iterdir()) else "an empty folder"


def _parameters(folder: Path) -> int | None:
    """The total of ``layers.md``."""
    layers = folder / "layers.md"
    text = layers.read_text("utf-8", "replace") if layers.is_file() else ""
    total = re.search(r"layers, ([\d,]+) parameters", text)
    return int(total[1].replace(",", "")) if total else None


def _read_if_there(path: Path, notes: list[str]) -> Mapping[str, Any]:
    """A file that a comparison can do without; a broken one becomes a note."""
    try:
        return _read(path) if path.is_file() else {}
    except DataError as error:
        evaluation = path.parent.name + "/" if path.name == "metrics.json" else ""
        notes.append(f"{evaluation}{error}")
        return {}


def _read(path: Path) -> Mapping[str, Any]:
    """A yaml or JSON file that holds a mapping.

    Raises:
        DataError: it holds something else.
    """
    try:
        text = path.read_text("utf-8")
        # OmegaConf's loader is written in Python: 8 ms a file, where libyaml takes half of one
        content = json.loads(text) if path.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path.name} is broken: {reason}") from error
    if not isinstance(content, Mapping):
        raise DataError(f"{path.name} is broken: it holds no keys")
    return content
