"""The search: check, work through the trials, say what came out."""

import os
import time

import optuna
from omegaconf import DictConfig
from optuna.trial import TrialState

from convpose.errors import ModelError
from convpose.hardware import lease_gpu
from convpose.search.samplers import sampler
from convpose.search.setup import Plan, prepare
from convpose.search.storage import close_storage
from convpose.search.summary import print_summary, trial_line
from convpose.search.trial import run_trial
from convpose.search.workers import run_workers
from convpose.train.command import keep_console_clean

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
    plan = prepare(cfg)
    try:
        if cfg.workers > 1:
            run_workers(plan)
        else:
            work(plan)
        return outcome(plan)
    finally:
        close_storage(plan.tickets.storage)


def outcome(plan: Plan) -> float:
    """The best value so far, after the summary.

    Raises:
        ModelError: no trial was completed.
    """
    complete = plan.tickets.of(TrialState.COMPLETE)
    if plan.cfg.worker is None:
        print_summary(plan)
        if not complete:
            errors = [t.user_attrs.get("error") for t in plan.tickets.of(TrialState.FAIL)]
            last = next((f"; the last error: {e}" for e in reversed(errors) if e), "")
            raise ModelError(f"study={plan.name}: no trial was completed{last}")
    return plan.tickets.study.best_value if complete else float("nan")


def work(plan: Plan) -> None:
    """Run trials until none is left, and wait for other workers': one may die."""
    lease_gpu()
    cfg, parent = plan.cfg, os.getppid()
    deadline = time.monotonic() + (cfg.timeout_s or float("inf"))
    while time.monotonic() < deadline:
        if cfg.worker is not None and os.getppid() != parent:
            return  # whoever started this worker was killed, and may be started again
        if ticket := plan.tickets.claim():
            run_trial(plan, ticket, sampler(cfg.sampler, plan.space, cfg.seed, ticket.number))
            if cfg.worker is None:
                print(trial_line(plan, plan.tickets.trials()[ticket.number]), flush=True)
        elif plan.tickets.of(TrialState.RUNNING):
            time.sleep(POLL_S)
        else:
            return
