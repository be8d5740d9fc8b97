"""Stop a training early, and keep it stopped when its command is repeated."""

import functools
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import callbacks

from convpose.errors import ConfigError
from convpose.train.checkpoints import LAST


class EarlyStopping(callbacks.EarlyStopping):
    """End a training whose monitor does not get better, also when the command is repeated.

    Lightning's own trains one epoch more whenever its run is continued, and ignores a patience that
    was changed since.

    Raises:
        ConfigError: a negative patience.
    """

    # its names are what a yaml may say
    @functools.wraps(callbacks.EarlyStopping.__init__)  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.patience < 0:
            raise ConfigError(
                f"callbacks.early_stopping.patience={self.patience}: expected a number of epochs "
                "from 0 up; callbacks.early_stopping=null trains all of trainer.max_epochs"
            )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the epochs waited; keep the patience that is typed now."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train no further in the folder of a run that has waited long enough."""
        own = Path(trainer.default_root_dir) / "checkpoints" / LAST
        trainer.should_stop |= own.is_file() and self.wait_count >= max(1, self.patience)
