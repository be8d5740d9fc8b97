"""Name the folders of runs, studies and jobs, as resolvers that Hydra's configuration calls.

A run is called by its number in the study and by what was varied, ``003_lr-0.01+bs-32``, so
that names differ at their beginning and fit into one line of TensorBoard. The full command is in
``run.json``. Version 0.1.0 wrote ``<time>_003_<all overrides>``, which is still found.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import Container, DictConfig, OmegaConf

from convpose.bounded import load_json
from convpose.errors import ConfigError, DataError

NON_RESULT_KEYS = ("study", "ckpt_path", "paths", "logger")  # keys that change no result
LONGEST_NAME = 60
SHORT = {"batch_size": "bs", "max_epochs": "epochs", "weight_decay": "wd", "input_size_px": "px"}
LONGEST_OLD_NAME = 120
_NUMBER = re.compile(r"(?:[\d-]{10}_[\d-]{8}_)?(\d{3,})_")


def run_folder(
    runs: str, study: object, override_dirname: str, ckpt_path: str | None, task: Container
) -> str:
    """Name the folder of a run, ``<runs>/<study>/<number>_<overrides>``, for ``hydra.run.dir``.

    With ``ckpt_path=last`` it is the newest folder of the same overrides that has a last
    checkpoint, so that the same command continues where it was interrupted.

    Raises:
        ConfigError: ``ckpt_path=last`` and there is nothing to continue.
    """
    folder, typed = Path(runs) / str(study or "single"), _typed(task)
    if ckpt_path != "last":
        return str(folder / _numbered(folder, short_name(typed)))
    before = [f.parent.parent for f in folder.glob("*/checkpoints/last.ckpt")]
    name = old_name(override_dirname)
    same = sorted((run for run in before if _is_of(run, typed, name, 2)), key=begun)
    if not same:
        found = "".join(f"\n  hydra.run.dir={run}" for run in sorted(before, key=begun)[-5:])
        raise ConfigError(
            f"ckpt_path=last: no run of these overrides to continue (*_{short_name(typed)} with "
            f"checkpoints/last.ckpt) in {folder}; name the run folder, hydra.run.dir=FOLDER, or a "
            "checkpoint, ckpt_path=FILE" + (f"\nruns there:{found}" if found else "")
        )
    return str(same[-1])


def study_folder(
    runs: str, study: object, start: str, ckpt_path: str | None, plan: Sequence[Any]
) -> str:
    """Name the folder of a multirun, by default after its start, for ``hydra.sweep.dir``.

    Args:
        runs: folder of all studies.
        study: its name; None for one after `start`.
        start: time.
        ckpt_path: of the configuration.
        plan: see `sweep_plan`; named here so that it is made before the first job.

    Raises:
        ConfigError: ``ckpt_path=last`` without the name of a study.
    """
    if ckpt_path == "last" and study is None:
        raise ConfigError(
            "ckpt_path=last: which multirun is to be continued? Type study=NAME, its folder under "
            "paths.runs"
        )
    return str(Path(runs) / str(study or f"sweep_{start}"))


def sweep_plan(runs: str, study: object, *, _root_: DictConfig) -> list[Any]:
    """Return the number of a multirun's first job, and the keys that it varies.

    Hydra copies what a configuration remembers to every job: a job knows its own overrides alone.
    """
    remembered = OmegaConf.get_cache(_root_).setdefault("sweep_plan", {})
    if not remembered:
        task = OmegaConf.select(_root_, "hydra.overrides.task")
        parsed = OverridesParser.create().parse_overrides(_typed(task))
        varied = [override.key_or_group for override in parsed if override.is_sweep_override()]
        varied += map(str, OmegaConf.select(_root_, "hydra.sweeper.params") or ())
        known = study is not None and bool(varied)
        first = _next_number(Path(runs) / str(study)) if known else 0
        remembered["plan"] = [first, *varied]
    plan: list[Any] = remembered["plan"]
    return plan


def varied_keys(cfg: DictConfig) -> list[str]:
    """List what a multirun varies, from the configuration of its job; empty outside of one."""
    remembered = OmegaConf.get_cache(cfg).get("sweep_plan") or {"plan": [0]}
    return list(remembered["plan"][1:])


def vary(cfg: DictConfig, keys: Iterable[str]) -> None:
    """Note what a search varies, as a multirun does."""
    OmegaConf.get_cache(cfg)["sweep_plan"] = {"plan": [0, *keys]}


def job_folder(
    plan: Sequence[Any],
    number: int,
    override_dirname: str,
    study: str,
    ckpt_path: str | None,
    task: Container,
) -> str:
    """Name the folder of a job, ``<number>_<what was varied>``, for ``hydra.sweep.subdir``.

    With ``ckpt_path=last`` it is the study's folder of the same overrides that has a last
    checkpoint; a job without one starts anew.

    Raises:
        ConfigError: several such folders.
    """
    typed = _typed(task)
    if ckpt_path == "last":
        runs = [file.parent.parent for file in Path(study).glob("*/checkpoints/last.ckpt")]
        same = sorted(run for run in runs if _is_of(run, typed, old_name(override_dirname), 3))
        if len(same) > 1:
            listed = "".join(f"\n  hydra.run.dir={run} ckpt_path=last" for run in same)
            raise ConfigError(
                f"ckpt_path=last: {len(same)} runs of the same overrides in {study}; continue one "
                f"of them without -m, with{listed}"
            )
        if same:
            return same[0].name
    first, *varied = plan
    return f"{first + number:03d}_{short_name(typed, varied)}"


def short_name(overrides: Iterable[str], varied: Collection[str] = ()) -> str:
    """Name a run by its overrides, ``lr-0.01+bs-32``; text that can be typed as a value.

    Args:
        overrides: as they are typed.
        varied: the keys to name; empty for all that change a result.
    """
    split = [override.partition("=") for override in _typed(list(overrides))]
    pairs = [(key.lstrip("+~"), mark, value) for key, mark, value in split]
    pairs = [pair for pair in pairs if not varied or pair[0] in varied]
    texts = [value.rpartition("/")[2] if mark else "none" for _, mark, value in pairs]
    titles = [SHORT.get(title, title) for title in short_titles([key for key, _, _ in pairs])]
    items = [_plain(f"{title}-{text}") for title, text in zip(titles, texts, strict=True)]
    shown = items
    while len("+".join(shown)) > LONGEST_NAME and len(shown) > 1:
        shown = [*shown[: -2 if shown[-1] == "more" else -1], "more"]
    return "+".join(shown)[:LONGEST_NAME] or "defaults"


def short_titles(keys: Sequence[str]) -> list[str]:
    """Shorten each key to its last word, or to more words where another key ends in the same."""
    titles = []
    for key in keys:
        words = key.split(".")
        ends = [".".join(words[-count:]) for count in range(1, len(words) + 1)]
        others = [f".{other}" for other in keys if other != key]
        unique = [end for end in ends if not any(o.endswith(f".{end}") for o in others)]
        titles.append((unique or [key])[0])
    return titles


def old_name(override_dirname: str) -> str:
    """Name a run by all its overrides as version 0.1.0 did, in order to find its folder."""
    name = _plain(override_dirname)
    if len(name) > LONGEST_OLD_NAME:  # two names may differ in the part cut off
        cut = LONGEST_OLD_NAME - 9
        name = f"{name[:cut]}-{sha256(name.encode()).hexdigest()[:8]}"
    return name or "defaults"


def free_name(folder: Path, name: str) -> str:
    """Return a name that nothing in a folder has: ``name``, ``name-2``, ``name-3``."""
    names = (name if i == 1 else f"{name}-{i}" for i in count(1))
    return next(found for found in names if not (folder / found).exists())


def named_like(path: Path) -> list[Path]:
    """Find the runs that a path means: their number, or a name with other marks between words."""
    words = re.sub(r"[^A-Za-z0-9.]+", " ", path.name)
    there = [folder for folder in path.parent.glob("[!.]*") if folder.is_dir()]
    if words.isdecimal():
        return [folder for folder in there if _number(folder) == int(words)]
    return [folder for folder in there if re.sub(r"[^A-Za-z0-9.]+", " ", folder.name) == words]


def begun(folder: Path) -> tuple[str, int, str]:
    """Return what sorts runs by age: start, number of the job, name.

    The start is in the folder's name as version 0.1.0 wrote it, else in ``run.json``. A copy keeps
    both, but not the times of files.
    """
    named = re.match(r"[\d-]{10}_[\d-]{8}", folder.name)
    started = named[0] if named else str(_facts(folder).get("started", ""))
    return started.replace(" ", "_").replace(":", "-"), _number(folder), folder.name


def remove_if_empty(folder: Path) -> None:
    """Remove a run folder that nothing was written to, so that a refused run leaves no trace.

    Its study and the folder of all runs go with it where they are empty.
    """
    for empty in (folder, *folder.parents[:2]):
        if empty.resolve() == Path.cwd():
            return  # also that of an application that makes no run folder
        try:
            empty.rmdir()
        except OSError:
            return  # not empty: somebody's results


def _is_of(run: Path, typed: Sequence[str], name: str, words: int) -> bool:
    """Tell if a run has the same overrides: by ``run.json``, else by a name of version 0.1.0."""
    given = _facts(run).get("overrides")
    # a run begun from Python lists none, either, but has a name of its own
    if isinstance(given, list) and (given or run.name.endswith("_defaults")):
        return sorted(_typed(given)) == sorted(typed)
    return run.name.split("_", words)[words:] == [name]


def _typed(task: Any) -> list[str]:
    """List the overrides that change a result, interpolations as they were typed."""
    plain = OmegaConf.to_container(task, resolve=False) if OmegaConf.is_config(task) else task
    texts = [str(override) for override in plain or ()]
    return [t for t in texts if re.split(r"[.=]", t.lstrip("+~"))[0] not in NON_RESULT_KEYS]


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text).strip("_")


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = load_json(folder / "run.json")
    except (OSError, DataError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _number(folder: Path) -> int:
    found = _NUMBER.match(folder.name)
    return int(found[1]) if found else -1


@cache  # a process asks for its folder again when that exists
def _numbered(folder: Path, name: str) -> str:
    return f"{_next_number(folder):03d}_{name}"


def _next_number(folder: Path) -> int:
    return 1 + max((_number(path) for path in folder.glob("[!.]*")), default=-1)


# at import, because a launcher composes the configuration of a job in another process
for _resolver in (run_folder, study_folder, sweep_plan, job_folder):
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)
