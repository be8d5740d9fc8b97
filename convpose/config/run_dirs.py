"""Name the folders of runs, studies and jobs, as resolvers that Hydra's configuration calls."""

import functools
import hashlib
import re
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from convpose.errors import ConfigError

LONGEST_NAME = 120


def folder_name(override_dirname: str) -> str:
    """Turn overrides into a folder name that can be typed as a value: no ``=``, ``,`` or ``/``."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", override_dirname).strip("_")
    if len(name) > LONGEST_NAME:  # two names may differ in the part cut off
        name = f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name or "defaults"


def run_folder(runs: str, study: object, override_dirname: str, ckpt_path: str | None) -> str:
    """Name the folder of a run, ``<runs>/<study>/<time>_<overrides>``, for ``hydra.run.dir``.

    With ``ckpt_path=last`` it is the newest folder of the same overrides that has a last
    checkpoint, so that the same command continues where it was interrupted.

    Raises:
        ConfigError: ``ckpt_path=last`` and there is nothing to continue.
    """
    folder, name = Path(runs) / str(study or "single"), folder_name(override_dirname)
    if ckpt_path != "last":
        return str(folder / f"{_now()}_{name}")
    before = [f.parent.parent for f in folder.glob("*/checkpoints/last.ckpt")]
    same = sorted(run for run in before if run.name.partition("_")[2].partition("_")[2] == name)
    if not same:
        found = "".join(f"\n  hydra.run.dir={run}" for run in sorted(before)[-5:])
        raise ConfigError(
            f"ckpt_path=last: no run of these overrides to continue (*_{name} with "
            f"checkpoints/last.ckpt) in {folder}; name the run folder, hydra.run.dir=FOLDER, or a "
            "checkpoint, ckpt_path=FILE" + (f"\nruns there:{found}" if found else "")
        )
    return str(same[-1])


def study_folder(runs: str, study: object, start: str, ckpt_path: str | None = None) -> str:
    """Name the folder of a multirun, by default after its start, for ``hydra.sweep.dir``.

    Raises:
        ConfigError: ``ckpt_path=last`` without the name of a study.
    """
    if ckpt_path == "last" and study is None:
        raise ConfigError(
            "ckpt_path=last: which multirun is to be continued? Type study=NAME, its folder under "
            "paths.runs"
        )
    return str(Path(runs) / str(study or f"sweep_{start}"))


def job_folder(
    start: str, number: int, override_dirname: str, study: str, ckpt_path: str | None
) -> str:
    """Name the folder of a job, ``<start>_<number>_<overrides>``, for ``hydra.sweep.subdir``.

    With ``ckpt_path=last`` it is the study's folder of the same overrides that has a last
    checkpoint; a job without one starts anew.

    Raises:
        ConfigError: several such folders.
    """
    name = folder_name(override_dirname)
    if ckpt_path == "last":
        runs = [file.parent.parent for file in Path(study).glob("*/checkpoints/last.ckpt")]
        same = sorted(run for run in runs if run.name.split("_", 3)[3:] == [name])
        if len(same) > 1:
            listed = "".join(f"\n  hydra.run.dir={run} ckpt_path=last" for run in same)
            raise ConfigError(
                f"ckpt_path=last: {len(same)} runs of the same overrides in {study}; continue one "
                f"of them without -m, with{listed}"
            )
        if same:
            return same[0].name
    return f"{start}_{number:03d}_{name}"


def remove_if_empty(folder: Path) -> None:
    """Remove a run folder that nothing was written to, so that a refused run leaves no trace."""
    if folder.resolve() == Path.cwd():
        return  # the working folder of an application that makes no run folder
    try:
        folder.rmdir()
        folder.parent.rmdir()
    except OSError:
        return  # not empty: somebody's results


@functools.cache
def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


# at import, because a launcher composes the configuration of a job in another process
for _resolver in (run_folder, study_folder, job_folder):
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)
