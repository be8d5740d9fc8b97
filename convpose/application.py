"""What all applications share: Hydra with clear errors.

`application` wraps a task in `hydra.main`. What a user can cause ends in one message and exit code
2, an interruption in 130 or 143, a failed job of a multirun in 1 after all others have run;
everything else is a defect and keeps its traceback. Setting HYDRA_FULL_ERROR=1 shows every
traceback.
"""

import difflib
import functools
import hashlib
import logging
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from convpose.errors import ConfigError, ConvposeError

log = logging.getLogger(__name__)
Task = Callable[[DictConfig], Any]
LONGEST_NAME = 120
BY_USER = (ConvposeError, HydraException, OmegaConfBaseException)
WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"


def conf_folder() -> Path:
    """The configuration: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).parent
    beside = package.parent / "conf"
    return beside if (beside / "train.yaml").is_file() else package / "conf"


def output_folder() -> Path:
    """The folder that Hydra made for this job."""
    return Path(HydraConfig.get().runtime.output_dir)


def application(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Decorate a task ``(cfg) → value`` into a command-line application."""

    def decorate(task: Task) -> Callable[[], None]:
        refused: list[Exception] = []
        started = False

        @functools.wraps(task)
        def job(cfg: DictConfig) -> Any:
            nonlocal started
            started = True
            try:
                return task(cfg)
            except Exception as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    write_error(output_folder(), error)  # the other jobs of the sweep go on
                    return float("nan")
                if not isinstance(error, BY_USER):
                    raise
                refused.append(error)  # raised below: Hydra would add a message of its own
                return None
            finally:
                remove_if_empty(output_folder())

        run = hydra.main(
            version_base="1.3", config_path=str(conf_folder()), config_name=config_name
        )(job)

        @functools.wraps(task)
        def main() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on to us
            nonlocal started
            started = False
            refused.clear()
            FailedJobs.names = ()
            OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
            OmegaConf.register_new_resolver("study_folder", study_folder, replace=True)
            OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
            try:
                run()
                if refused:
                    raise refused[0]
            except Exception as error:
                # before the task starts, everything is about the configuration
                if WANTS_TRACEBACK or (started and not isinstance(error, BY_USER)):
                    raise
                print(f"error: {explain(error)}", file=sys.stderr)
                sys.exit(2)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)
            if FailedJobs.names:
                listed = "\n".join(f"  {name}" for name in FailedJobs.names)
                print(f"{len(FailedJobs.names)} jobs failed:\n{listed}", file=sys.stderr)
                sys.exit(1)

        return main

    return decorate


def explain(error: BaseException) -> str:
    """The message for the user: our own error if one is the cause, else Hydra's with the choice."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for link in chain:
        if isinstance(link, ConvposeError):
            return str(link)
    for link in chain:
        parent = getattr(link, "parent_node", None)
        if isinstance(link, ConfigAttributeError | ConfigKeyError) and parent is not None:
            keys = sorted(str(key) for key in parent if str(key)[0] != "_")
            return f"unknown key {link.full_key}{choice('keys', str(link.key), keys)}"
        if isinstance(link, MissingConfigException) and link.options:
            group, _, option = str(link.missing_cfg_file).rpartition("/")
            return f"{group}={option}: no such option{choice('options', option, link.options)}"
    if str(error).startswith("Config group override must be"):
        return "GROUP=null: a group is left out by ~GROUP, or by its option none, as in logger=none"
    return str(error).strip()


def choice(what: str, word: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown word: a near match and what there is."""
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{hint}\n{what} there: {', '.join(known)}"


def folder_name(override_dirname: str) -> str:
    """Overrides as a folder name that pastes back on a command line: no ``=``, ``,`` or ``/``."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "_", override_dirname).strip("_")
    if len(name) > LONGEST_NAME:  # what is cut off must still tell two runs apart
        name = f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name or "defaults"


def run_folder(runs: str, study: object, override_dirname: str, ckpt_path: str | None) -> str:
    """``hydra.run.dir``: a new ``<runs>/<study>/<time>_<overrides>``.

    With ``ckpt_path=last`` it is the newest folder of the same overrides that has a last
    checkpoint, so that the same command goes on where it was interrupted.

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


def study_folder(runs: str, study: object) -> str:
    """``hydra.sweep.dir``: the folder of a multirun, by default named after the time."""
    return str(Path(runs) / str(study or f"sweep_{_now()}"))


def job_folder(number: int, override_dirname: str) -> str:
    """``hydra.sweep.subdir``: ``<time>_<number>_<overrides>`` of one job of a multirun."""
    return f"{_now()}_{number:03d}_{folder_name(override_dirname)}"


class FailedJobs(Callback):
    """Hydra callback that collects the failed jobs of a multirun from their ``error.txt``."""

    names: tuple[str, ...] = ()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the time: older errors in the same study are known."""
        self.start_s = time.time()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read the errors of this multirun."""
        found = Path(config.hydra.sweep.dir).glob("*/error.txt")
        FailedJobs.names = tuple(
            f"{path.parent}: {path.read_text('utf-8').splitlines()[0]}"
            for path in sorted(found)
            if path.stat().st_mtime >= self.start_s - 1
        )


def write_error(folder: Path, error: Exception) -> None:
    """Keep a failed job's message (first line) and traceback in its folder."""
    message = explain(error).splitlines()[0] if str(error) else type(error).__name__
    text = f"{message}\n\n{''.join(traceback.format_exception(error))}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(text, encoding="utf-8")
    log.error("%s failed: %s", folder, message)


def remove_if_empty(folder: Path) -> None:
    """Take away a run folder that nothing was written to, so that a refused run leaves no trace."""
    try:
        folder.rmdir()
        folder.parent.rmdir()
    except OSError:
        return  # not empty: somebody's results


@functools.cache
def _now() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
