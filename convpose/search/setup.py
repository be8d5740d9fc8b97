"""Check what a search is going to do, before its first trial; print what it has found."""

import math
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from convpose import run
from convpose.config.application import USER_ERRORS, explain
from convpose.config.arguments import overrides as all_overrides
from convpose.config.instantiate import build
from convpose.config.schema import Count, Natural, NotNegative, check_table
from convpose.data.build import build_datamodule
from convpose.data.datamodule import LOCATION_KEYS
from convpose.errors import ConfigError
from convpose.files import shown
from convpose.models.build import build_model
from convpose.plot.tables import Table, metric_of
from convpose.run import Value
from convpose.search.space import (
    Space,
    corners,
    grid,
    importance,
    is_grid,
    overrides,
    read_space,
    sampler,
    short,
)
from convpose.search.storage import Heartbeats, open_storage
from convpose.search.trial_queue import TrialQueue, open_study, repeats
from convpose.train import request
from convpose.train.build import build_module, check_monitor, check_parts

KEYS = {
    "trials": Count | None,
    "timeout_s": NotNegative | None,
    "storage": str | None,
    "workers": Count,
    "worker": Annotated[int, Gt(0), "workers=N sets it"] | None,
    "heartbeat_s": Count,
    "retries": Natural,
}
SEARCH_ONLY_KEYS = {*KEYS, "search", "sampler", "pruner", "study"}  # keys that no training has
MACHINE_KEYS = (  # keys in which the machines of a study may differ
    *("data.source", "data.num_workers", "data.cache", "trainer.accelerator", "trainer.devices"),
    *("trainer.precision", "trainer.enable_progress_bar"),
)
BEST = 10  # trials in the table


@dataclass(frozen=True)
class SearchSetup:
    """Checked settings of a search, the same for every worker.

    Attributes:
        cfg: of ``conf/search.yaml``.
        name: of the study.
        folder: of the study, where its runs go.
        typed: overrides of the training, as on the command line.
        space: searched keys.
        queue: its trials.
    """

    cfg: DictConfig
    name: str
    folder: Path
    typed: list[str]
    space: Space
    queue: TrialQueue

    def overrides(self, values: dict[str, Value]) -> list[str]:
        """List the overrides with which `convpose.train` repeats a trial."""
        return [*self.typed, *overrides(values)]


def prepare(cfg: DictConfig) -> SearchSetup:
    """Check the command, open the study, enqueue its trials.

    Raises:
        ConfigError, DataError, ModelError: nothing was written.
    """
    check_settings(cfg)
    typed = typed_overrides()
    space = read_space(cfg.search.parameters)
    check_space(space, typed)
    total = number_of_trials(cfg, space)
    sampler(cfg.sampler, space, cfg.seed, 0)
    pruner = build(cfg.pruner, "pruner")
    if cfg.worker is None:  # else whoever started this worker has done it
        with composed([*typed, *overrides(corners(space)[0])]) as first:
            check_training(first)
    with composed(typed) as base:
        settings = common_settings(base, space)
    name = str(cfg.study or HydraConfig.get().runtime.choices["search"])
    folder = Path(cfg.paths.runs) / name
    url = cfg.storage or f"sqlite:///{folder / 'study.db'}"
    storage = open_storage(url, cfg.heartbeat_s, cfg.retries)
    study = open_study(storage, name, cfg.monitor_mode, settings)
    study.pruner = pruner
    queue = TrialQueue(study, Heartbeats(storage, cfg.heartbeat_s, cfg.retries), total)
    queue.enqueue()
    return SearchSetup(cfg, name, folder, typed, space, queue)


def check_settings(cfg: DictConfig) -> None:
    """Check the keys of the search.

    Raises:
        ConfigError: a value of another type, or a key that makes no sense in a search.
    """
    check_table(cfg, KEYS)
    if cfg.ckpt_path is not None:
        raise ConfigError(f"ckpt_path={cfg.ckpt_path}: trials start anew; leave it out")
    if str(cfg.trainer.devices) != "1" or cfg.trainer.strategy != "auto":
        raise ConfigError(
            f"trainer.devices={cfg.trainer.devices} trainer.strategy={cfg.trainer.strategy}: each "
            "worker of a search has one device; type trainer=gpu workers=N, or tune on one device "
            "and train the best setting on several"
        )


def typed_overrides() -> list[str]:
    """List the overrides of the command line that are about the training."""
    parsed = OverridesParser.create().parse_overrides(all_overrides())
    return [
        str(o.input_line) for o in parsed if o.key_or_group.split(".")[0] not in SEARCH_ONLY_KEYS
    ]


def check_space(space: Space, typed: Sequence[str]) -> None:
    """Compose the corners of the space and check them against the constructors.

    Raises:
        ConfigError: a key that is searched and typed, that does not exist, or of another type.
    """
    for line in typed:
        key = line.partition("=")[0].lstrip("+~")
        if key in space:
            raise ConfigError(
                f"{line}: the search chooses {key}; leave it out, or type ~search.parameters.{key}"
            )
    for values in corners(space):
        try:
            with composed([*typed, *overrides(values)]) as cfg:
                check_keys(cfg)
        except USER_ERRORS as error:
            raise ConfigError(f"search.parameters: {explain(error)}") from error


def check_keys(cfg: DictConfig) -> None:
    """Check all keys of a training, without reading or building much."""
    request.check_keys(cfg)
    check_monitor(cfg)
    build_datamodule(cfg)
    check_parts(cfg)


def check_training(cfg: DictConfig) -> None:
    """Build once what all trials have in common; downloads and caches are written here."""
    datamodule = build_datamodule(cfg)
    build_module(cfg, build_model(cfg))
    datamodule.prepare_data()
    datamodule.setup()


def common_settings(cfg: DictConfig, space: Space) -> dict[str, Any]:
    """Collect what all trials have in common: the keys that are not searched, and the space."""
    keys: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = {key: value for key, value in run.flat(keys, {}).items() if not is_machine_key(key)}
    return settings | {key: str(distribution) for key, distribution in space.items()}


def is_machine_key(key: str) -> bool:
    """Tell if the machines of a study may differ in a key, such as the folder of their data."""
    where = key.startswith("data.sources.") and key.rpartition(".")[2] in (*LOCATION_KEYS, "images")
    return where or key in MACHINE_KEYS


def number_of_trials(cfg: DictConfig, space: Space) -> int:
    """Return ``trials``, or 50; for a grid not more than its points."""
    if not is_grid(cfg.sampler):
        return int(cfg.trials or 50)
    points = math.prod(map(len, grid(space).values()))
    return min(points, cfg.trials or points)


@contextmanager
def composed(overrides: Sequence[str]) -> Iterator[DictConfig]:
    """Compose a configuration of `convpose.train`, with Hydra in the state of that application."""
    hydra = HydraConfig.instance()
    before = hydra.cfg
    cfg = compose("train", list(overrides), return_hydra_config=True)
    try:
        hydra.set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        yield cfg
    finally:
        hydra.cfg = before


def trial_line(setup: SearchSetup, trial: FrozenTrial) -> str:
    """Describe a finished trial in one line."""
    metric = metric_of(setup.cfg.monitor)
    value = f"  {metric.sentence(trial.value)}" if trial.value is not None else ""
    values = "  ".join(f"{key}={short(value)}" for key, value in trial.params.items())
    error = trial.user_attrs.get("error") or "interrupted, or its worker died"
    why = f"  ({error})" if trial.state == TrialState.FAIL else ""
    return f"trial {trial.number}  {trial.state.name.lower()}{value}  {values}{why}"


def print_summary(setup: SearchSetup) -> None:
    """Print everything about the search as it stands."""
    complete = setup.queue.in_state(TrialState.COMPLETE)
    console = Console()
    if complete:
        console.print(best_trials(setup).to_rich())
        if importances := importance(setup.queue.study, setup.cfg.monitor, setup.cfg.seed):
            console.print(importances.to_rich())
        best = setup.queue.study.best_trial
        print(f"best run {shown(setup.folder / best.user_attrs['run'])}; to train it again")
        print(f"  {command(setup, best)}")
    print(counts(setup))


def best_trials(setup: SearchSetup) -> Table:
    """Make the table of the best completed trials."""
    sign = -1 if setup.cfg.monitor_mode == "max" else 1
    complete = setup.queue.in_state(TrialState.COMPLETE)
    best = sorted(complete, key=lambda t: (sign * float(t.value or 0), t.number))[:BEST]
    metric = metric_of(setup.cfg.monitor)
    rows = [
        (
            str(t.number),
            metric.write(float(t.value or 0)),
            *(short(t.params[key]) for key in setup.space),
        )
        for t in best
    ]
    title = f"{setup.name}: the best {len(rows)} of {len(complete)} completed trials"
    return Table(title, ("trial", metric.title, *setup.space), rows)


def command(setup: SearchSetup, trial: FrozenTrial) -> str:
    """Write the command line that trains a trial's setting again."""
    again = setup.overrides({**trial.params, "study": f"{setup.name}_best"})
    return f"python -m convpose.train {shlex.join(again)}"


def counts(setup: SearchSetup) -> str:
    """Count the trials of each kind."""
    found = {state: len(setup.queue.in_state(state)) for state in TrialState}
    histories = [t.system_attrs["retry_history"] for t in filter(repeats, setup.queue.trials())]
    taken_up = len({number for numbers in histories for number in numbers})
    found[TrialState.FAIL] -= taken_up
    words = ", ".join(f"{n} {state.name.lower()}" for state, n in found.items() if n)
    again = f"; interrupted or lost, and taken up again: {taken_up}" if taken_up else ""
    return f"study {setup.name}: {words}{again}"
