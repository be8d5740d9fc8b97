"""One trial: an ordinary training in an ordinary run folder, with its outcome told to the study."""

import gc
import logging
import os
import platform
from datetime import datetime
from pathlib import Path

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import FrozenTrial, TrialState

from convpose.config.application import explain, write_error
from convpose.config.run_dirs import folder_name
from convpose.run import Run
from convpose.search.samplers import Pruning
from convpose.search.setup import Plan, composed
from convpose.search.space import Value, label, overrides, suggest
from convpose.search.storage import retry
from convpose.train import command as fit

log = logging.getLogger(__name__)


def run_trial(plan: Plan, ticket: FrozenTrial, sampler: optuna.samplers.BaseSampler) -> None:
    """Train with the sampled values; whatever happens is recorded, and the search goes on.

    A trial whose worker died goes on in its folder, from its last checkpoint.

    Raises:
        SystemExit, KeyboardInterrupt: the worker is to stop; the trial is in the queue again.
    """
    study = plan.tickets.study
    study.sampler = sampler
    try:
        with get_heartbeat_thread(ticket._trial_id, plan.tickets.storage):
            _train(plan, optuna.Trial(study, ticket._trial_id))
    except UpdateFinishedTrialError:
        log.warning(
            "trial %d was silent for too long, another worker has taken it up; is this machine "
            "overloaded? Try a larger heartbeat_s",
            ticket.number,
        )
    finally:
        gc.collect()  # a trainer and its network refer to each other
        torch.cuda.empty_cache()


def _train(plan: Plan, trial: optuna.Trial) -> None:
    values = suggest(trial, plan.space)
    named = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{trial.number:03d}_{folder_name(label(values))}"
    resumed = "run" in trial.user_attrs
    folder = plan.folder / trial.user_attrs.get("run", named)
    trial.set_user_attr("run", folder.name)
    trial.set_user_attr("worker", f"{platform.node()}:{os.getpid()}")
    pruning = Pruning(trial, plan.cfg.monitor)
    study = plan.tickets.study
    try:
        more: dict[str, Value] = {"study": plan.name, "ckpt_path": "last" if resumed else None}
        with composed([*plan.overrides(values), *overrides(more)]) as cfg:
            value = fit.train(cfg, folder, [pruning])
    except UpdateFinishedTrialError:
        raise
    except Exception as error:
        write_error(folder, error)
        trial.set_user_attr("error", explain(error).splitlines()[0] or type(error).__name__)
        study.tell(trial, state=TrialState.FAIL)
        _note(plan, trial, folder, "failed")
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        retry(None)(study, study.get_trials(deepcopy=False)[trial.number])
        raise
    else:
        if pruning.epoch is None:
            study.tell(trial, value)
            _note(plan, trial, folder, "complete")
        else:
            trial.set_user_attr("pruned_after_epochs", pruning.epoch)
            study.tell(trial, state=TrialState.PRUNED)
            _note(plan, trial, folder, f"pruned after {pruning.epoch} epochs")


def _note(plan: Plan, trial: optuna.Trial, folder: Path, state: str) -> None:
    if (folder / "run.json").is_file():  # not where the training was refused
        Run(folder).note(search=plan.name, trial=trial.number, state=state)
