"""Pruning: a trial that promises nothing ends early, as an ordinary run."""

from lightning import Callback, LightningModule, Trainer
from optuna import Trial


class Pruning(Callback):
    """Reports the monitored metric after every validation and asks whether to go on.

    The training then ends as after its last epoch, with checkpoints and all files.

    Args:
        trial: to report to. An epoch is step 1 and up.
        monitor: validation metric.

    Attributes:
        epoch: after which the trial was pruned, counted from 1; None if it was not.

    Raises:
        UpdateFinishedTrialError: another worker has taken the trial for dead.
    """

    def __init__(self, trial: Trial, monitor: str) -> None:
        self.trial = trial
        self.monitor = monitor
        self.epoch: int | None = None
        # a trial that is taken up again may repeat its last epoch, with the same result
        self._reported = set(trial.study.trials[trial.number].intermediate_values)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report before the epoch is written, so that a lost trial writes nothing any more."""
        step = trainer.current_epoch + 1
        if trainer.sanity_checking:
            return
        if step not in self._reported:
            self.trial.report(float(trainer.callback_metrics[self.monitor]), step)
        if step != trainer.max_epochs and self.trial.should_prune():
            self.epoch = step
            trainer.should_stop = True
