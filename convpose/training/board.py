"""Board: TensorBoard's events in the run folder, and nothing beside them."""

from lightning.fabric.loggers.tensorboard import TensorBoardLogger as EventsOnly
from lightning.pytorch.loggers import TensorBoardLogger


class Board(TensorBoardLogger):
    """Lightning's logger without its ``hparams.yaml``: the run has its ``config.yaml``."""

    def save(self) -> None:
        """Write what is left of the events."""
        EventsOnly.save(self)
