"""A pruned trial is an ordinary run that ended early."""

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import ThresholdPruner
from optuna.trial import TrialState
from tiny import QUIET, history, saved, tiny_config

from convpose.search.space import Pruning
from convpose.train.command import train

NEVER = optuna.pruners.NopPruner()
AT_2 = ThresholdPruner(upper=0.0, n_warmup_steps=2)  # EPE is above 0: prunes at step 2
MONITOR = ("monitor=val/epe_px", "monitor_mode=min", "trainer.max_epochs=4", *QUIET)


def trial_of(pruner) -> optuna.Trial:
    return optuna.create_study(pruner=pruner).ask()


def run(folder, trial, *overrides):
    pruning = Pruning(trial, "val/epe_px")
    value = train(tiny_config(*MONITOR, *overrides), folder, [pruning])
    return value, pruning


def test_it_ends_early_with_all_files(tmp_path):
    trial = trial_of(AT_2)
    value, pruning = run(tmp_path, trial)
    rows = history(tmp_path)
    assert pruning.epoch == 2
    assert len(rows) == 2
    assert trial.study.trials[0].intermediate_values == {
        int(row["epoch"]) + 1: pytest.approx(row["val/epe_px"]) for row in rows
    }
    assert value == min(row["val/epe_px"] for row in rows)
    assert saved(tmp_path)["epoch"] == 1
    assert (tmp_path / "metrics.json").is_file()


def test_it_does_not_end_early_after_the_last_epoch(tmp_path):
    _, pruning = run(tmp_path, trial_of(AT_2), "trainer.max_epochs=2")
    assert pruning.epoch is None


def test_epochs_without_a_validation_report_nothing(tmp_path):
    trial = trial_of(NEVER)
    run(tmp_path, trial, "trainer.check_val_every_n_epoch=2")
    assert list(trial.study.trials[0].intermediate_values) == [2, 4]


def test_a_trial_that_was_taken_away_writes_no_further_epoch(tmp_path):
    trial = trial_of(NEVER)
    trial.report(10.0, 1)  # a first epoch, which is repeated: no second report
    report = trial.report

    def lose(value, step):
        trial.study.tell(trial, state=TrialState.FAIL)  # as another worker does
        report(value, step)

    trial.report = lose
    with pytest.raises(UpdateFinishedTrialError):
        run(tmp_path, trial)
    assert len(history(tmp_path)) == 1
    assert trial.study.trials[0].intermediate_values == {1: 10.0}
