"""Read the result of a run from its folder, whatever state the folder is in."""

import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convpose.bounded import load_json, load_yaml
from convpose.errors import DataError
from convpose.history import Row, best_row, read_history
from convpose.run import Value, flat

RUN_FILES = ("config.yaml", "run.json", "splits.json", "metrics.csv", "error.txt", "checkpoints")
DEPTH = 2  # folders from runs/ to a run: runs/STUDY/RUN


@dataclass(frozen=True)
class RunResult:
    """Holds what came out of a run that has validated at least one epoch.

    Attributes:
        folder: of the run.
        config: its configuration, nested.
        facts: content of ``run.json``; empty if that cannot be read.
        rows: its history, one row an epoch.
        state: ``finished``, ``pruned after 3 epochs``, ``unfinished: …`` or ``failed: …``.
        parameters: their number in the network; None without ``layers.md``.
        evaluations: PCK@0.2 of each joint, by the SUBSET of each ``evaluate_SUBSET/``.
        scores: totals of ``evaluate_test/``, as ``test/pck@0.2``.
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
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def monitor(self) -> str:
        """Name the metric that chose the best epoch."""
        return str(self.config["monitor"])

    @property
    def mode(self) -> str:
        """Return ``max`` or ``min``, the better end of the monitor."""
        return str(self.config["monitor_mode"])

    @property
    def complete(self) -> bool:
        """Return True if the run ended as planned, or was pruned by its search."""
        return self.state.startswith(("finished", "pruned"))

    @property
    def finished(self) -> bool:
        """Return True if the run trained to its end, so that it may enter a mean."""
        return self.state.startswith("finished")

    @property
    def seconds(self) -> float:
        """Sum the seconds of all epochs, validation included."""
        return sum(row.get("seconds", 0.0) for row in self.rows)

    @property
    def images_per_s(self) -> float:
        """Return the median training speed of the epochs."""
        return statistics.median(row.get("images_per_s", 0.0) for row in self.rows)

    @property
    def overridden(self) -> frozenset[str]:
        """List the keys that the command line of the run set."""
        given = self.facts.get("overrides", ())
        return frozenset(str(override).partition("=")[0].lstrip("+~") for override in given)

    def best(self, monitor: str, mode: str) -> Row:
        """Return the row of the best epoch by a metric; empty if the metric was never measured."""
        return best_row(self.rows, monitor, mode)

    def flat(self, by_choice: bool) -> dict[str, Value]:
        """Flatten the configuration to dotted keys.

        Args:
            by_choice: a group's value is the name of its yaml, else that of its class.
        """
        return flat(self.config, self.facts.get("choices", {}) if by_choice else {})


def run_folders(path: Path, depth: int = DEPTH) -> list[Path]:
    """List the run folders in a folder, in order of name; the folder itself if it is one.

    Empty folders count: a run was to be written there.
    """
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError:
        return [path]  # reading it will say why
    if not names or names.intersection(RUN_FILES):
        return [path]
    below = [path / name for name in sorted(names) if name[0] != "."] if depth else []
    return [run for folder in below if folder.is_dir() for run in run_folders(folder, depth - 1)]


def read_run_result(folder: Path) -> RunResult:
    """Read all that a comparison needs of a run folder.

    Raises:
        DataError: the folder is empty or broken, or the run failed before its first validated
            epoch.
        OSError: a file that may not be read.
    """
    if not (folder / "config.yaml").is_file():
        raise DataError(_failure(folder) or "no config.yaml; the run never started")
    config = _read_mapping(folder / "config.yaml")
    has_mode = config.get("monitor_mode") in ("max", "min")
    has_trainer = isinstance(config.get("trainer"), Mapping)
    if not (isinstance(config.get("monitor"), str) and has_mode and has_trainer):
        raise DataError("config.yaml: no monitor, monitor_mode or trainer; of another program?")
    if not (folder / "metrics.csv").is_file():
        raise DataError(_failure(folder) or "no epoch yet: still in its first, or killed in it")
    try:
        rows = read_history(folder / "metrics.csv")
    except DataError as error:
        raise DataError(str(error).removeprefix(f"{folder}/")) from error
    notes: list[str] = []
    facts = _read_optional(folder / "run.json", notes)
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
    scores = _scores(folder / "evaluate_test" / "metrics.json")
    parameters = _parameters(folder)
    return RunResult(folder, config, facts, rows, state, parameters, evaluations, notes, scores)


def _scores(path: Path) -> dict[str, float]:
    """Read the totals of an evaluation; `_joints` notes a broken file."""
    measures = _read_optional(path, [])
    found = {f"test/{name}": measures.get(name) for name in ("pck@0.2", "epe_px")}
    return {k: float(v) for k, v in found.items() if isinstance(v, int | float)}


def _joints(path: Path, notes: list[str]) -> dict[str, float]:
    """Read PCK@0.2 of each joint from an evaluation's measures; leave out joints never counted."""
    measures = _read_optional(path, notes)
    try:
        found = {name: joint["pck@0.2"] for name, joint in measures.get("per_joint", {}).items()}
        return {name: float(value) for name, value in found.items() if value is not None}
    except (AttributeError, KeyError, TypeError, ValueError):
        where = f"{path.parent.name}/{path.name}"
        notes.append(f"{where} is broken: no per_joint as convpose.evaluate writes it")
        return {}


def _state(folder: Path, epochs: int, config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Describe how a run ended, see `RunResult`; a search notes its pruned runs in ``run.json``."""
    noted = str(facts.get("state", ""))
    if "seconds" in facts:
        return noted if noted.startswith("pruned") else "finished"
    of = f"{epochs} of {config['trainer'].get('max_epochs', '?')} epochs"
    failed = _failure(folder)
    return f"{failed} ({of})" if failed else f"unfinished: {of}, still running or killed"


def _failure(folder: Path) -> str:
    """Return the first line of ``error.txt``, or that the folder is empty, else an empty text."""
    error = folder / "error.txt"
    if error.is_file():
        return "failed: " + (error.read_text("utf-8", "replace").splitlines() or ["unknown"])[0]
    return "" if any(folder.iterdir()) else "an empty folder"


def _parameters(folder: Path) -> int | None:
    """Read the number of parameters from ``layers.md``; None if it is not there."""
    layers = folder / "layers.md"
    text = layers.read_text("utf-8", "replace") if layers.is_file() else ""
    total = re.search(r"layers, ([\d,]+) parameters", text)
    return int(total[1].replace(",", "")) if total else None


def _read_optional(path: Path, notes: list[str]) -> Mapping[str, Any]:
    """Read a file that may be missing; note one that is broken, and go on without it."""
    try:
        return _read_mapping(path) if path.is_file() else {}
    except DataError as error:
        evaluation = path.parent.name + "/" if path.name == "metrics.json" else ""
        notes.append(f"{evaluation}{error}")
        return {}


def _read_mapping(path: Path) -> Mapping[str, Any]:
    """Read a yaml or JSON file that holds a mapping.

    Raises:
        DataError: broken, or not a mapping.
    """
    try:
        content = load_json(path) if path.suffix == ".json" else load_yaml(path)
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ").splitlines()[0]
        raise DataError(f"{path.name} is broken: {reason}") from error
    if not isinstance(content, Mapping):
        raise DataError(f"{path.name} is broken: it holds no keys")
    return content
