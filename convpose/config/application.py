"""Run a task as a command line: Hydra, with clear errors and exit codes.

`application` wraps a task in `hydra.main`. An error that a user can cause ends in one message and
exit code 2, an interruption in 130 or 143. A failed job of a multirun ends in 1, after all other
jobs have run. Every other error is a defect and keeps its traceback. HYDRA_FULL_ERROR=1 shows the
traceback of all errors.
"""

import atexit
import contextlib
import functools
import gc
import io
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from convpose import __version__
from convpose.config.arguments import (
    all_keys,
    arranged,
    defaults_of,
    meant,
    overrides,
    suggest,
    unknown_key,
)
from convpose.config.help_text import groups_of, help_text
from convpose.config.run_dirs import remove_if_empty
from convpose.errors import ConfigError, ConvposeError, reader_may_leave
from convpose.files import conf_folder, disk_trouble, shown
from convpose.hardware import share_devices

log = logging.getLogger(__name__)
Task = Callable[[DictConfig], Any]
USER_ERRORS = (ConvposeError, HydraException, OmegaConfBaseException)
# launchers that pip installs with an extra: convpose[search], convpose[slurm]
EXTRA_OF_LAUNCHER = {"hydra/launcher/joblib": "search", "hydra/launcher/submitit_slurm": "slurm"}
USER_WANTS_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR", "0") == "1"
OmegaConf.register_new_resolver("help_text", help_text, replace=True)


def output_folder() -> Path:
    """Return the folder that Hydra made for this job."""
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
            _let_hydra_raise(False)  # processes started by the task inherit the environment
            try:
                check_added(cfg, config_name)
                share_devices(HydraConfig.get().launcher)
                return task(cfg)
            except Exception as raised:
                error = raised
                own = cfg.get("output")  # of the applications that write elsewhere
                folder = Path(own) if own else output_folder()
                key = "output" if "output" in cfg else "paths.runs"
                key += "=FILE" if config_name in ("export", "benchmark") else "=FOLDER"
                if trouble := disk_trouble(raised, folder, key):
                    error = ConfigError(trouble)
                    error.__cause__ = raised
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    write_error(output_folder(), error)  # the other jobs of the sweep go on
                    return float("nan")
                if not isinstance(error, USER_ERRORS):
                    raise
                refused.append(error)  # raised after Hydra, which would add a message of its own
                return None
            finally:
                _let_hydra_raise(True)
                remove_if_empty(output_folder())

        run = hydra.main(
            version_base="1.3", config_path=str(conf_folder()), config_name=config_name
        )(job)

        @functools.wraps(task)
        def main() -> None:
            nonlocal started
            if isinstance(sys.stdout, io.TextIOWrapper):  # a name may have letters that it has not
                sys.stdout.reconfigure(errors="backslashreplace")
            _let_hydra_raise(True)
            started = False
            refused.clear()
            FailedJobs.names = ()
            # collecting what torch and Lightning have imported would take 1.7 s after the last line
            atexit.register(gc.freeze)
            typed = list(sys.argv)
            try:
                if {"--version", "-V"} & set(typed[1:]):
                    print(f"convpose {__version__}")
                    return
                sys.argv[1:] = arranged(typed[1:], config_name)
                with reader_may_leave():
                    run()
                if refused:
                    raise refused[0]
            except Exception as error:
                # before the task starts, every error is about the configuration
                if USER_WANTS_TRACEBACKS or (started and not isinstance(error, USER_ERRORS)):
                    raise
                print(f"error: {explain(error, config_name)}", file=sys.stderr)
                sys.exit(2)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                sys.exit(128 + signal.SIGINT)
            finally:
                sys.argv = typed
                _let_hydra_raise(False)
            if FailedJobs.names:
                listed = "\n".join(f"  {name}" for name in FailedJobs.names)
                print(f"{len(FailedJobs.names)} jobs failed:\n{listed}", file=sys.stderr)
                sys.exit(1)

        return main

    return decorate


def _let_hydra_raise(on: bool) -> None:
    """Set HYDRA_FULL_ERROR, so that Hydra raises errors; restore the user's value when off."""
    if on or USER_WANTS_TRACEBACKS:
        os.environ["HYDRA_FULL_ERROR"] = "1"
    else:
        os.environ.pop("HYDRA_FULL_ERROR", None)


def explain(error: BaseException, config_name: str = "train") -> str:
    """Write the message of an error: of convpose's own if one is the cause, else of Hydra's.

    Args:
        error: what was raised.
        config_name: of the application, for the keys that it has.
    """
    text = str(error).strip()
    typed = re.match(r"Could not override '(.+?)'", text)
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for link in chain:
        if isinstance(link, ConvposeError):
            # a loading process puts its traceback before
            name = f"{type(link).__module__}.{type(link).__name__}: "
            return str(link).rpartition(name)[2].strip()
        if trouble := disk_trouble(link):
            return trouble
    for link in chain:
        parent = getattr(link, "parent_node", None)
        if isinstance(link, ConfigAttributeError | ConfigKeyError) and parent is not None:
            return unknown_key(typed.group(1) if typed else str(link.full_key), parent._get_root())
        if isinstance(link, MissingConfigException) and link.missing_cfg_file in EXTRA_OF_LAUNCHER:
            launcher = "=".join(link.missing_cfg_file.rsplit("/", 1))
            extra = EXTRA_OF_LAUNCHER[link.missing_cfg_file]
            return f"{launcher} is not installed; type pip install 'convpose[{extra}]'"
        if isinstance(link, MissingConfigException) and link.options:
            group, _, option = str(link.missing_cfg_file).rpartition("/")
            return f"{group}={option}: no such option{suggest('options', option, link.options)}"
    if text.startswith("Config group override must be"):
        return "GROUP=null: a group is left out by ~GROUP, or by its option none, as in logger=none"
    if typed:  # Hydra's advice, to append +, would not help
        group = typed.group(1)
        if found := meant(group, all_keys(defaults_of(config_name))):
            return f"unknown group {group}; did you mean {' or '.join(found)}?"
        return f"unknown group {group}: this application has none; leave {group}=… out"
    if text.startswith("Ambiguous value for"):
        override = text.partition("'")[2].partition("'")[0]
        key, _, values = override.partition("=")
        return (
            f"{override}: several values; type -m {override} to run one after the other, or "
            f"{key}=[{values}] for a list"
        )
    if text.startswith("Multiple values for"):
        group = text.split(".")[0].rpartition(" ")[2]
        return f"{group}: chosen twice; type {group}=… once, without +"
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: not KEY=VALUE as Hydra reads it; a value with other letters than "
            "a-z, such as spaces and brackets, wants quotes of its own, \"KEY='VALUE'\""
        )
    return text


@contextlib.contextmanager
def at_sigterm(end: Callable[[int, Any], object]) -> Iterator[None]:
    """Call a handler at SIGTERM, for as long as the context lasts; a thread cannot handle any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def sigterm_exits() -> Iterator[None]:
    """Raise SystemExit at SIGTERM, once, so that what was begun is ended in order."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would break what ends
        print("stopped by SIGTERM", file=sys.stderr)
        sys.exit(128 + number)

    with at_sigterm(end):
        yield


def check_added(cfg: DictConfig, config_name: str) -> None:
    """Refuse a ``+KEY`` that nothing reads; Hydra takes any, and a misspelt one has no effect.

    Raises:
        ConfigError: no such key; the message lists the keys.
    """
    typed = overrides()
    parsed = OverridesParser.create().parse_overrides(typed)
    added = [o.key_or_group.split(".")[0] for o in parsed if o.is_add() or o.is_force_add()]
    if not added:
        return
    known = {*compose(config_name), *groups_of(conf_folder() / f"{config_name}.yaml")}
    values = " ".join([*typed, OmegaConf.to_yaml(cfg)])
    for key in added:
        read = f"${{{key}}}" in values or f"${{{key}." in values  # by an interpolation
        if key in cfg and key not in known and not read:
            raise ConfigError(unknown_key(key, cfg))


class FailedJobs(Callback):
    """Collects the failed jobs of a multirun from their ``error.txt``, as a callback of Hydra."""

    names: tuple[str, ...] = ()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note the time, to tell older errors in the same study."""
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
    """Write a failed job's message (first line) and traceback into its folder."""
    message = explain(error).splitlines()[0] if str(error) else type(error).__name__
    text = f"{message}\n\n{''.join(traceback.format_exception(error))}"
    with contextlib.suppress(OSError):  # the disk may be full
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(text, encoding="utf-8")
    log.error("%s failed: %s", shown(folder), message)
