"""Predict on the workers of a Ray cluster, for many pictures.

The inputs are cut into shards. A worker predicts a whole shard, writes its Parquet file and then a
summary, which marks the shard as done. So a killed process costs unfinished shards only: Ray gives
those of a dead worker to another, and the same command typed again does those without a summary.
The output folder holds:

``prediction.json``           what was asked for; a folder takes shards of nothing else
``keypoints/000000.parquet``  people, as ``format=parquet`` has them; no file without a frame
``done/000000.json``          summary of a shard: frames, people, failures, notes
``failures.csv``              inputs that could not be read, of all shards
"""

import contextlib
import csv
import hashlib
import importlib
import io
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convpose import files
from convpose.bounded import UNEXPECTED, load_json
from convpose.config.schema import Count
from convpose.errors import ConfigError, ConvposeError, DataError, require_extra
from convpose.predict import pipeline
from convpose.predict.command import build_clip_smoother, build_predictor, limits_of
from convpose.predict.people import BoxFile
from convpose.predict.predictor import PosePredictor
from convpose.predict.sources import Failure, Source, open_again
from convpose.predict.writers import ParquetFile
from convpose.progress import progress
from convpose.run import Run, Value, flat

REQUEST_FILE = "prediction.json"
# disable Ray's telemetry, its advice on environment variables, and its logs
RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
# keys that do not change the keypoints, so that a begun prediction may be continued with others
NON_RESULT_KEYS = (
    *("source", "output", "engine", "format", "draw", "show", "max_frames"),
    *("batch_size", "accelerator", "threads", "cluster.workers"),
)


class Cluster:
    """Settings of ``engine=ray``: the cluster of RAY_ADDRESS, or one that is started here.

    Args:
        engine: engine of each worker, see `convpose.predict.predictor.open_network`.
        shard: number of pictures and clips in one Parquet file.
        workers: largest number of workers; None for one per GPU, or without GPUs one per
            ``threads`` processors.

    Raises:
        ConfigError: Ray is not installed.
    """

    def __init__(
        self, engine: str = "auto", shard: Count = 250, workers: Count | None = None
    ) -> None:
        require_extra("ray", "ray", "pyarrow")
        self.engine = engine
        self.shard = shard
        self.workers = workers

    def predict(self, cfg: DictConfig, sources: Sequence[Source]) -> pipeline.Summary:
        """Predict the shards that are not done yet, and sum up all of them.

        Args:
            cfg: ``conf/predict.yaml``, composed.
            sources: files and URLs.

        Raises:
            ConfigError: a camera, a folder of another prediction, or no cluster.
            ConvposeError: what stopped a worker.
        """
        if unfit := [s.name for s in sources if s.live or s.name == "stdin"]:
            raise ConfigError(
                f"source={unfit[0]} engine=ray: other machines cannot see it; leave engine=ray out"
            )
        names = [source.name for source in sources]
        settings: Any = OmegaConf.to_container(cfg, resolve=True)
        settings |= {"engine": self.engine, "threads": cfg.threads or 1}
        if cfg.run is not None:  # a study may get a newer run in the meantime
            settings["run"] = str(Run.find(Path(cfg.run)).folder)
        folder, size = Path(cfg.output), self.shard
        request = _request(names, settings)
        _check_folder(folder, request)
        shards = {i: names[i * size :][:size] for i in range(math.ceil(len(names) / size))}
        missing = {i: shard for i, shard in shards.items() if read_summary(folder, i) is None}
        if missing:
            # an error of the configuration is better told before the cluster starts
            build_predictor(OmegaConf.create(settings | {"accelerator": "cpu"}))
            with _connected() as ray:
                folder.mkdir(parents=True, exist_ok=True)
                files.write(
                    folder / REQUEST_FILE, json.dumps(request, indent=1, ensure_ascii=False)
                )
                rows = self._rows(ray, missing, settings)
                for row in progress(rows, "predicting", len(missing)):
                    if row["error"]:
                        raise ConvposeError(row["error"])
        return _sum_up(folder, len(names), len(shards))

    def _rows(
        self, ray: Any, shards: Mapping[int, Sequence[str]], settings: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        """Run the workers, and yield the row that they return for each shard."""
        there, threads = ray.cluster_resources(), settings["threads"]
        gpus = 0 if settings["accelerator"] == "cpu" else int(there.get("GPU", 0))
        room = max(1, gpus or int(there.get("CPU", 1)) // threads)
        most = min(self.workers or room, len(shards))
        items = [{"number": i, "names": list(shard)} for i, shard in shards.items()]
        rows: Iterator[Mapping[str, Any]] = (
            ray.data.from_items(items, override_num_blocks=len(items))
            .map(
                ShardWorker,
                fn_constructor_args=(settings, str(Path.cwd())),
                num_cpus=threads,
                num_gpus=1 if gpus else None,
                compute=ray.data.ActorPoolStrategy(  # a cluster may grow
                    min_size=1, max_size=most, initial_size=min(most, room)
                ),
            )
            .iter_rows()
        )
        return rows


class ShardWorker:
    """Predict shards in a process of the cluster; Ray starts another if it dies.

    Args:
        settings: ``conf/predict.yaml``, resolved.
        home: folder that paths are relative to, on storage that all machines share.
    """

    def __init__(self, settings: Mapping[str, Any], home: str) -> None:
        self._cfg = OmegaConf.create(dict(settings))
        self._home = home

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Predict the shard of a row; ``error`` in the result is empty or for the user."""
        error = ""
        try:
            self.predict_shard(int(row["number"]), row["names"])
        except ConvposeError as refused:  # Ray would wrap it in a traceback
            error = str(refused)
        return {"number": row["number"], "error": error}

    def predict_shard(self, number: int, names: Sequence[str]) -> None:
        """Predict the inputs of a shard and write its files.

        Raises:
            ConvposeError: an error that every other worker would meet, too.
        """
        try:
            os.chdir(self._home)
        except OSError as error:
            raise ConfigError(
                f"{self._home}: not there on a machine of the cluster ({error.strerror}); start "
                "the command in a folder on storage that all machines share"
            ) from error
        folder = Path(self._cfg.output)
        skeleton = self._predictor.skeleton
        file = folder / "keypoints" / f"{number:06d}.parquet"
        file.unlink(missing_ok=True)  # without a summary it is of a worker that died
        people = ParquetFile(file, skeleton)
        summary = pipeline.run(
            [open_again(name, limits_of(self._cfg)) for name in names],
            self._predictor,
            pipeline.Outputs(skeleton, people),
            build_clip_smoother(self._cfg),
            self._boxes,
        )
        done = summary_path(folder, number)
        done.parent.mkdir(exist_ok=True)
        files.write(done, json.dumps(asdict(summary), ensure_ascii=False))

    @cached_property
    def _predictor(self) -> PosePredictor:
        return build_predictor(self._cfg)

    @cached_property
    def _boxes(self) -> BoxFile | None:
        return None if self._cfg.boxes is None else BoxFile(self._cfg.boxes)


def summary_path(folder: Path, number: int) -> Path:
    """Return the path of the summary that marks a shard as done."""
    return folder / "done" / f"{number:06d}.json"


def read_summary(folder: Path, number: int) -> pipeline.Summary | None:
    """Read the summary of a shard; None of one that is not done, or whose summary is damaged."""
    with contextlib.suppress(DataError, FileNotFoundError, *UNEXPECTED):
        facts = load_json(summary_path(folder, number))
        failures = [Failure(**failure) for failure in facts["failures"]]
        frames, people = (int(facts[key]) for key in ("frames", "people"))
        notes, crowded = ([*map(str, facts.get(key, ()))] for key in ("notes", "crowded"))
        return pipeline.Summary(1, frames, people, failures, notes, crowded)
    return None


@contextlib.contextmanager
def _connected() -> Iterator[Any]:
    """Connect to the cluster of RAY_ADDRESS, or start one on this machine."""
    for key, value in RAY_SETTINGS.items():
        os.environ.setdefault(key, value)
    ray: Any = importlib.import_module("ray")  # an extra
    data: Any = importlib.import_module("ray.data")
    address = os.environ.get("RAY_ADDRESS", "local")
    try:
        ray.init(address, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    except ConnectionError as error:
        raise ConfigError(
            f"RAY_ADDRESS={address}: no cluster answers there; type ray status to see, or leave "
            "RAY_ADDRESS unset for the processors of this machine"
        ) from error
    try:
        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # its handlers may serve others, too
        yield ray
    finally:
        ray.shutdown()


def _request(names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Value]:
    """Collect what determines the result: the inputs, and the keys that change it."""
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    keys = {key: value for key, value in flat(settings, {}).items() if key not in NON_RESULT_KEYS}
    return {"inputs": f"{len(names)} ({digest})", **keys}


def _check_folder(folder: Path, request: Mapping[str, Value]) -> None:
    """Refuse a folder that holds the shards of another prediction."""
    path = folder / REQUEST_FILE
    before = load_json(path, f"type output=ANOTHER than {folder}") if path.is_file() else request
    if not isinstance(before, dict):
        raise DataError(f"{path}: no request of a prediction; type output=ANOTHER")
    for key in dict.fromkeys((*request, *before)):
        if request.get(key) != before.get(key):
            raise ConfigError(
                f"output={folder} was begun with {key}={before.get(key)}, not {request.get(key)}; "
                "type output=ANOTHER, or remove it"
            )


def _sum_up(folder: Path, inputs: int, shards: int) -> pipeline.Summary:
    """Add up the summaries of all shards, and write the list of failures."""
    total = pipeline.Summary(inputs)
    for number in range(shards):
        shard = read_summary(folder, number)
        if shard is None:
            raise DataError(f"{summary_path(folder, number)}: gone or damaged; type it again")
        total.frames += shard.frames
        total.people += shard.people
        total.failures += shard.failures
        total.notes += shard.notes
        total.crowded += shard.crowded
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerows([("image", "error"), *((f.name, f.message) for f in total.failures)])
    files.write(folder / "failures.csv", text.getvalue())
    return total
