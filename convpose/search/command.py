"""Search: check, train trial after trial, print what came out.

Several workers on this machine are processes of the same command.
"""

import gc
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import torch
from omegaconf import DictConfig
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from convpose.config.application import explain, sigterm_exits, write_error
from convpose.config.run_dirs import free_name, short_name, vary
from convpose.errors import ConvposeError, ModelError
from convpose.files import shown
from convpose.hardware import lease_gpu
from convpose.run import Run, Value
from convpose.search.setup import SearchSetup, composed, prepare, print_summary, trial_line
from convpose.search.space import Pruning, overrides, sampler, short, suggest
from convpose.search.storage import close_storage, find_trial_id, requeue
from convpose.train import command as training
from convpose.train.command import keep_console_clean

log = logging.getLogger(__name__)
POLL_S = 1.0


def search(cfg: DictConfig) -> float:
    """Search as configured, or join a search.

    Args:
        cfg: of ``conf/search.yaml``.

    Returns:
        The monitored metric of the best trial; NaN if a worker of many found none.

    Raises:
        ConfigError, DataError, ModelError: before the first trial; or no trial was completed.
        SystemExit, KeyboardInterrupt: interrupted; the same command continues.
    """
    keep_console_clean()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    setup = prepare(cfg)
    try:
        if cfg.workers > 1:
            run_workers(setup)
        else:
            work(setup)
        return outcome(setup)
    finally:
        close_storage(setup.queue.heartbeats.storage)


def outcome(setup: SearchSetup) -> float:
    """Print the summary and return the best value so far.

    Raises:
        ModelError: no trial was completed.
    """
    complete = setup.queue.in_state(TrialState.COMPLETE)
    if setup.cfg.worker is None:
        print_summary(setup)
        if not complete:
            errors = [t.user_attrs.get("error") for t in setup.queue.in_state(TrialState.FAIL)]
            last = next((f"; the last error: {e}" for e in reversed(errors) if e), "")
            raise ModelError(f"study={setup.name}: no trial was completed{last}")
    return setup.queue.study.best_value if complete else float("nan")


def work(setup: SearchSetup) -> None:
    """Run trials until none is left, and wait for other workers': one may die."""
    lease_gpu()
    cfg, parent = setup.cfg, os.getppid()
    deadline = time.monotonic() + (cfg.timeout_s or float("inf"))
    while time.monotonic() < deadline:
        if cfg.worker is not None and os.getppid() != parent:
            return  # whoever started this worker was killed, and may be started again
        if trial := setup.queue.pop():
            run_trial(setup, trial.number)
            if cfg.worker is None:
                print(trial_line(setup, setup.queue.trials()[trial.number]), flush=True)
        elif setup.queue.in_state(TrialState.RUNNING):
            time.sleep(POLL_S)
        else:
            return


def run_trial(setup: SearchSetup, number: int) -> None:
    """Train a trial with the values that it draws; record whatever happens.

    A trial whose worker died goes on in its folder, from its last checkpoint.

    Raises:
        SystemExit, KeyboardInterrupt: the worker is to stop; the trial is in the queue again.
    """
    study, heartbeats = setup.queue.study, setup.queue.heartbeats
    study.sampler = sampler(setup.cfg.sampler, setup.space, setup.cfg.seed, number)
    try:
        with heartbeats.beating(study, number):
            trial_id = find_trial_id(heartbeats.storage, study, number)
            _train(setup, optuna.Trial(study, trial_id))
    except UpdateFinishedTrialError:
        log.warning(
            "trial %d was silent for too long, another worker has taken it up; is this machine "
            "overloaded? Try a larger heartbeat_s",
            number,
        )
    finally:
        gc.collect()  # a trainer and its network refer to each other
        torch.cuda.empty_cache()


def _train(setup: SearchSetup, trial: optuna.Trial) -> None:
    values = suggest(trial, setup.space)
    drawn = short_name(f"{key}={short(value)}" for key, value in values.items())
    resumed = "run" in trial.user_attrs
    # a study that was begun again, without its database, leaves the runs of the one before alone
    named = free_name(setup.folder, f"{trial.number:03d}_{drawn}")
    folder = setup.folder / trial.user_attrs.get("run", named)
    trial.set_user_attr("run", folder.name)
    trial.set_user_attr("worker", f"{platform.node()}:{os.getpid()}")
    pruning = Pruning(trial, setup.cfg.monitor)
    study = setup.queue.study
    try:
        more: dict[str, Value] = {"study": setup.name, "ckpt_path": "last" if resumed else None}
        with composed([*setup.overrides(values), *overrides(more)]) as cfg:
            vary(cfg, values)
            value = training.train(cfg, folder, [pruning])
    except UpdateFinishedTrialError:
        raise
    except Exception as error:
        write_error(folder, error)
        trial.set_user_attr("error", explain(error).splitlines()[0] or type(error).__name__)
        study.tell(trial, state=TrialState.FAIL)
        _note(setup, trial, folder, "failed")
    except BaseException:
        requeue(study, study.get_trials()[trial.number])  # before it fails: a kill may come between
        study.tell(trial, state=TrialState.FAIL)
        raise
    else:
        if pruning.epoch is None:
            study.tell(trial, value)
            _note(setup, trial, folder, "complete")
        else:
            trial.set_user_attr("pruned_after_epochs", pruning.epoch)
            study.tell(trial, state=TrialState.PRUNED)
            _note(setup, trial, folder, f"pruned after {pruning.epoch} epochs")


def _note(setup: SearchSetup, trial: optuna.Trial, folder: Path, state: str) -> None:
    if (folder / "run.json").is_file():  # not where the training was refused
        Run(folder).note(search=setup.name, trial=trial.number, state=state)


class Worker:
    """Process that works on a search.

    Args:
        setup: of the search.
        number: of the worker, from 1.
    """

    def __init__(self, setup: SearchSetup, number: int) -> None:
        self.name = f"worker {number}"
        self.log = setup.folder / f"worker-{number}.log"
        self.starts = 0
        self._command = [
            *(sys.executable, "-m", "convpose.search", *sys.argv[1:]),
            *("workers=1", f"worker={number}"),
        ]
        self.start()

    def start(self) -> None:
        """Begin; what it prints goes to its log."""
        self.starts += 1
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            # a session of its own: Ctrl-C on the terminal reaches it once, through `stop`
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def stop(self, how: signal.Signals) -> None:
        """Interrupt the process, which then puts its trial into the queue again."""
        if self.process.poll() is None:
            self.process.send_signal(how)

    def died(self, retries: int) -> bool:
        """Tell if the process is gone for good; start one that was killed again."""
        code = self.process.poll()
        if not code:
            return code == 0
        killed = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        again = code < 0 and self.starts <= retries
        print(f"{self.name} {killed}, see {shown(self.log)}" + ("; started again" if again else ""))
        if again:
            self.start()
        return not again


@sigterm_exits()
def run_workers(setup: SearchSetup) -> None:
    """Start the workers and print what they finish, until they have ended.

    Raises:
        ConvposeError: they ended early.
        SystemExit, KeyboardInterrupt: interrupted, after the workers have put their trials back.
    """
    seen = {t.number for t in setup.queue.trials() if t.state.is_finished()}
    workers = [Worker(setup, number) for number in range(1, setup.cfg.workers + 1)]
    alive = list(workers)
    try:
        while alive:
            time.sleep(POLL_S)
            alive = [worker for worker in alive if not worker.died(setup.cfg.retries)]
            _print_finished(setup, seen)
    except BaseException as end:
        for worker in alive:
            worker.stop(signal.SIGINT if isinstance(end, KeyboardInterrupt) else signal.SIGTERM)
        for worker in alive:
            worker.process.wait()
        raise
    left = setup.queue.in_state(TrialState.WAITING, TrialState.RUNNING)
    if left and not setup.cfg.timeout_s:
        logs = ", ".join(str(worker.log) for worker in workers)
        raise ConvposeError(f"the workers ended with {len(left)} trials left; see {logs}")


def _print_finished(setup: SearchSetup, seen: set[int]) -> None:
    for trial in setup.queue.trials():
        if trial.state.is_finished() and trial.number not in seen:
            seen.add(trial.number)
            print(trial_line(setup, trial), flush=True)
