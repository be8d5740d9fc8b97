"""Write the numbers, pictures and texts of a run to every logger it has, under the same names.

A name is that of ``metrics.csv`` with a section before it. TensorBoard sorts sections by name:
losses and PCK come first, so that they are on its first screen.
"""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.fabric.loggers.tensorboard import TensorBoardLogger as EventsOnly
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image as PillowImage
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch.utils.tensorboard.summary import hparams

from convpose.errors import require_extra
from convpose.files import replacing
from convpose.geometry import Image

MAIN = ("train/loss", "val/loss", "val/pck@0.2")  # beside the monitor
LAYOUT = {  # of TensorBoard's Custom Scalars; tags are regular expressions
    "training": {
        "loss, train and val": ["Multiline", [r"^main/train/loss$", r"^main/val/loss$"]],
        "PCK@0.2": ["Multiline", [r"^main/val/pck@0\.2$"]],
    }
}
SESSION_START, SESSION_END = 1, 2  # of the summaries that torch makes of hyperparameters


def chart_names(
    row: Mapping[str, float], best: Mapping[str, float], monitor: str
) -> dict[str, float]:
    """Name the numbers of an epoch as loggers show them, the most important first.

    Args:
        row: of ``metrics.csv``.
        best: the row of the best epoch so far.
        monitor: the metric that chose it.

    Returns:
        ``main/*`` for the losses, PCK and the monitor, ``main-best/*`` for the monitor's best so
        far, which is last of these among charts and first in HParams, ``of_best_epoch/*`` for the
        other metrics there, ``metrics/*``, ``pck_of_joints/*``, ``training/*``: rate and speed.
    """
    main = (*MAIN, monitor)
    named = {_name(key, main): value for key, value in row.items() if key != "epoch"}
    if monitor in row and best:
        for key in (key for key in best if key.startswith("val/")):
            named[f"{'main-best' if key == monitor else 'of_best_epoch'}/{key}"] = best[key]
        named["of_best_epoch/epoch"] = best["epoch"] + 1
    return named


def _name(key: str, main: tuple[str, ...]) -> str:
    if key in main:
        return f"main/{key}"
    if key.startswith("joint/"):
        return f"pck_of_joints/{key.removeprefix('joint/')}"
    return f"metrics/{key}" if "/" in key else f"training/{key}"


def loggers_of(trainer: Trainer) -> Iterator[Any]:
    """List the loggers, in the process that writes; none in the others."""
    if trainer.is_global_zero:
        yield from trainer.loggers


def log_numbers(trainer: Trainer, numbers: Mapping[str, float], step: int) -> None:
    """Write numbers to every logger."""
    for logger in loggers_of(trainer):
        logger.log_metrics(dict(numbers), step)
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()


def log_text(trainer: Trainer, name: str, markdown: str) -> None:
    """Write a text to every logger that takes texts."""
    for logger in loggers_of(trainer):
        if hasattr(logger, "log_markdown"):
            logger.log_markdown(name, markdown)


def log_picture(trainer: Trainer, name: str, image: Image, step: int) -> None:
    """Write a picture, (H, W, 3) uint8 RGB, to every logger that takes pictures."""
    for logger in loggers_of(trainer):
        if hasattr(logger, "log_picture"):
            logger.log_picture(name, image, step)


def takes_pictures(trainer: Trainer) -> bool:
    """Tell if a logger takes pictures; all processes give the same answer."""
    return any(hasattr(logger, "log_picture") for logger in trainer.loggers)


class Board(TensorBoardLogger):
    """Write TensorBoard's events, without ``hparams.yaml``: the run has its ``config.yaml``.

    HParams lists a run from its start on. TensorBoard finds out itself which hyperparameters
    differ between the runs that it was given: an ``Experiment`` summary, of which it reads one
    run's only, would hide the others' keys. Before the metrics it shows five, for which a screen
    of 1400 pixels is too narrow: a run enters what `convpose.run.compared` chooses.

    Args:
        run_folder: of the run.
        resumed: whether the run is continued.
        save_dir: a folder for the events of all runs, as SAVE_DIR/STUDY/RUN; None: the run's own.
    """

    def __init__(self, run_folder: str, resumed: bool = False, save_dir: str | None = None) -> None:
        super().__init__(_place(run_folder, save_dir), name="", version="", default_hp_metric=False)

    @rank_zero_only
    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Enter the run into HParams, and lay out the Custom Scalars."""
        self.experiment.add_custom_scalars(LAYOUT)
        # TensorBoard would show a boolean as 0 or 1
        self._values = {k: str(v).lower() if isinstance(v, bool) else v for k, v in params.items()}
        self._enter(SESSION_START)

    def forget_from(self, step: int) -> None:
        """Tell TensorBoard to forget what was written of a step and of later ones."""
        start = Event(step=step, session_log=SessionLog(status=SessionLog.START))
        self.experiment._get_file_writer().add_event(start, step)

    def log_success(self) -> None:
        """Tell HParams that the run succeeded."""
        self._enter(SESSION_END)
        self.experiment.flush()

    def log_markdown(self, name: str, markdown: str) -> None:
        """Write a text."""
        self.experiment.add_text(name, markdown)

    def log_picture(self, name: str, image: Image, step: int) -> None:
        """Write a picture."""
        self.experiment.add_image(name, image, step, dataformats="HWC")

    def save(self) -> None:
        """Write the remaining events."""
        EventsOnly.save(self)

    def _enter(self, part: int) -> None:
        summary = hparams(self._values, {})[part]  # type: ignore[no-untyped-call]
        self.experiment._get_file_writer().add_summary(summary)


class CsvTable(CSVLogger):
    """Write ``csv/metrics.csv`` and the pictures as PNG, for other programs.

    Args:
        run_folder: of the run.
        save_dir: a folder for the tables of all runs, as SAVE_DIR/STUDY/RUN; None: the run's own.
    """

    def __init__(self, run_folder: str, resumed: bool = False, save_dir: str | None = None) -> None:
        where = Path(_place(run_folder, save_dir)) / "csv"
        before = where / "metrics.csv"
        if resumed and before.is_file():  # Lightning would write over it
            number = len(list(where.glob("metrics_before_*.csv"))) + 1
            before.replace(before.with_name(f"metrics_before_{number}.csv"))
        super().__init__(str(where.parent), name="csv", version="")

    def log_picture(self, name: str, image: Image, step: int) -> None:
        """Write a picture as a file, with the epoch in its name."""
        path = Path(self.log_dir) / f"{name.replace('/', '_')}_{step:04d}.png"
        with replacing(path) as file:
            PillowImage.fromarray(image).save(file, "PNG")


class Wandb(WandbLogger):
    """Write to Weights & Biases, by default into a folder that ``wandb sync`` sends.

    Args:
        run_folder: of the run; its name is the run's, the study's is the group.
        resumed: whether the run is continued.
        project: of Weights & Biases.
        offline: write files alone.
        save_dir: where the folder ``wandb`` is made.
        entity: user or team; None for the user's default.
    """

    def __init__(
        self,
        run_folder: str,
        resumed: bool = False,
        project: str = "convpose",
        offline: bool = True,
        save_dir: str = ".",
        entity: str | None = None,
    ) -> None:
        require_extra("wandb", "wandb")
        folder = Path(run_folder).resolve()
        place = Path(save_dir).resolve()  # W&B's service writes, from a folder of its own
        place.mkdir(parents=True, exist_ok=True)
        super().__init__(
            folder.name,
            save_dir=str(place),
            offline=offline,
            project=project,
            group=folder.parent.name,
            entity=entity,
            id=_identity(folder),
            settings={"silent": True, "console": "off"},
        )

    def log_markdown(self, name: str, markdown: str) -> None:
        """Write a text as a table of one cell."""
        self.log_text(name, columns=[name], data=[[markdown]])

    def log_picture(self, name: str, image: Image, step: int) -> None:
        """Write a picture."""
        self.log_image(name, [image], step)

    def finalize(self, status: str) -> None:
        """End the run, so that the next one of a sweep is another."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(0 if status == "success" else 1)


class Mlflow(MLFlowLogger):
    """Write to MLflow, by default into ``mlflow.db``, which ``mlflow ui`` shows.

    MLflow takes no ``@`` in a name: ``val/pck@0.2`` is ``val/pck_0.2`` there.

    Args:
        run_folder: of the run; its name is the run's, the study's is the experiment.
        resumed: whether the run is continued.
        tracking_uri: a database or a server.
        save_dir: folder for pictures and texts of a database.
    """

    def __init__(
        self,
        run_folder: str,
        resumed: bool = False,
        tracking_uri: str = "sqlite:///mlflow.db",
        save_dir: str | None = None,
    ) -> None:
        require_extra("mlflow", "mlflow")
        for noisy in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        # MLflow 3.17 asks SQLAlchemy 2.1 in the old way
        warnings.filterwarnings("ignore", ".*loader strategy is deprecated")
        folder = Path(run_folder).resolve()
        place = None if save_dir is None else Path(save_dir).resolve().as_uri()
        if tracking_uri.startswith("sqlite:///"):  # MLflow would keep the first working folder
            database = Path(tracking_uri.removeprefix("sqlite:///")).resolve()
            tracking_uri = f"sqlite:///{database}"
            place = place or (database.parent / "mlruns" / folder.parent.name).as_uri()
        tags = {"convpose.run": _identity(folder)}
        study = folder.parent.name
        super().__init__(study, folder.name, tracking_uri, tags, artifact_location=place)
        if resumed and (found := self._mlflow_client.get_experiment_by_name(study)):
            tag = f"tags.`convpose.run` = '{tags['convpose.run']}'"
            runs = self._mlflow_client.search_runs([found.experiment_id], tag)
            self._run_id = runs[0].info.run_id if runs else None

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Write the settings; of a continued run those that are new, for MLflow changes none."""
        known = self.experiment.get_run(self.run_id).data.params
        super().log_hyperparams({k: v for k, v in params.items() if k not in known})
        for key in known.keys() & params.keys():
            if known[key] != str(params[key])[:250]:  # Lightning writes no more
                self.experiment.set_tag(self.run_id, f"continued.{key}", str(params[key]))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write numbers under names that MLflow takes."""
        super().log_metrics({k.replace("@", "_"): v for k, v in metrics.items()}, step)

    def log_markdown(self, name: str, markdown: str) -> None:
        """Write a text as an artifact."""
        self.experiment.log_text(self.run_id, markdown, f"{name}.md")

    def log_picture(self, name: str, image: Image, step: int) -> None:
        """Write a picture as an artifact, with the epoch in its name."""
        self.experiment.log_image(self.run_id, image, f"{name}_{step:04d}.png")


OURS = (Board, CsvTable, Wandb, Mlflow)


def _place(run_folder: str, save_dir: str | None) -> str:
    folder = Path(run_folder).resolve()
    return str(Path(save_dir) / folder.parent.name / folder.name) if save_dir else run_folder


def _identity(folder: Path) -> str:
    """Identify a run by its folder, so that one which is continued stays one run."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", folder.name)[:30]
    return f"{name}-{sha256(str(folder).encode()).hexdigest()[:10]}"
