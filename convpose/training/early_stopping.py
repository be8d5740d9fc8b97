"""EarlyStopping that stays stopped."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import callbacks

from convpose.training.checkpoints import LAST


class EarlyStopping(callbacks.EarlyStopping):
    """Ends a training whose monitor does not get better; a repeated command leaves it at that.

    Lightning's trains one epoch more whenever its run is continued, and forgets a patience that was
    changed since.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What the run has waited, but the patience that is typed now."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train no further in the folder of a run that has waited long enough."""
        own = Path(trainer.default_root_dir) / "checkpoints" / LAST
        trainer.should_stop |= own.is_file() and self.wait_count >= max(1, self.patience)
