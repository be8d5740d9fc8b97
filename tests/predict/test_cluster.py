"""Shards on a cluster: the same people as one process finds, whatever breaks or dies."""

import contextlib
import csv
import logging
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet
import pytest
from fake_network import RedDot, dot
from PIL import Image
from tiny import composed

from convpose.errors import ConfigError, ConvposeError, ModelError
from convpose.predict import cluster, command
from convpose.predict.cluster import ShardWorker
from convpose.predict.predictor import PosePredictor


class OneProcess:
    """Stands for the module ray: one worker, in this process, that looks at shard after shard."""

    def __init__(self, **resources):
        self.data = self
        self.resources = resources
        self.numbers = []

    def cluster_resources(self):
        return self.resources

    def from_items(self, items, override_num_blocks):
        assert override_num_blocks == len(items), "a shard is a block, which is given away whole"
        self.items = items
        return self

    def map(self, new_worker, fn_constructor_args, **asked):
        self.asked = asked
        self.worker = new_worker(*fn_constructor_args)
        return self

    def iter_rows(self):
        for item in self.items:
            self.numbers.append(item["number"])
            yield self.worker(item)

    ActorPoolStrategy = SimpleNamespace


@pytest.fixture
def ray(monkeypatch):
    """A cluster without processes and a network without weights."""
    fake = OneProcess(CPU=4.0)
    monkeypatch.setattr(cluster, "_connected", lambda: contextlib.nullcontext(fake))
    for module in (cluster, command):
        monkeypatch.setattr(module, "build_predictor", lambda cfg: PosePredictor(RedDot()))
    return fake


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Seven pictures, the third of which is none, in the working folder."""
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()
    for i in range(7):
        Image.fromarray(dot(at_px=(30.0 + 10 * i, 40.0))).save(f"p/{i}.png")
    Path("p/2.png").write_bytes(b"no picture")


@pytest.fixture
def predict(pictures):
    given = ("source=p", "output=out", "cluster.shard=2")
    return lambda *typed: command.predict(composed("predict", *given, *typed))


def rows(path):
    return pyarrow.parquet.read_table(path).to_pylist()


def test_the_same_people_as_in_one_process(ray, predict):
    one = predict("output=one", "format=parquet", "draw=false")
    many = predict("engine=ray")
    assert (many.inputs, many.frames, many.people) == (7, 6, 6)
    assert many == one
    assert rows("out/keypoints") == rows("one/keypoints.parquet")
    assert ray.numbers == [0, 1, 2, 3]
    with Path("out/failures.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["image", "error"], ["p/2.png", one.failures[0].message]]


def test_the_same_command_does_what_is_missing(ray, predict, monkeypatch):
    look = ShardWorker.predict_shard

    def dies(worker, number, names):
        if number == 2:
            raise SystemExit(143)
        look(worker, number, names)

    monkeypatch.setattr(ShardWorker, "predict_shard", dies)
    with pytest.raises(SystemExit):
        predict("engine=ray")
    done = sorted(path.name for path in Path("out/done").iterdir())
    assert done == ["000000.json", "000001.json"]
    monkeypatch.setattr(ShardWorker, "predict_shard", look)
    ray.numbers.clear()
    summary = predict("engine=ray", "batch_size=3")
    assert ray.numbers == [2, 3]
    assert (summary.frames, len(summary.failures)) == (6, 1), "those of the first command count"
    assert [row["image"] for row in rows("out/keypoints")] == [
        f"p/{i}.png" for i in (0, 1, *range(3, 7))
    ]
    ray.numbers.clear()
    assert predict("engine=ray") == summary
    assert ray.numbers == []


def test_a_shard_of_nothing_readable(ray, predict):
    Path("p/3.png").unlink()
    Path("p/3.png").symlink_to("nowhere")
    summary = predict("engine=ray", "source=[p/2.png,p/0.png]", "cluster.shard=1")
    assert (summary.frames, len(summary.failures)) == (1, 1)
    assert [path.name for path in Path("out/keypoints").iterdir()] == ["000001.parquet"]


def test_a_file_that_has_gone_is_one_failure(ray, predict):
    ray.iter_rows = lambda: (Path("p/6.png").unlink(), *OneProcess.iter_rows(ray))[1:]
    assert [f.message for f in predict("engine=ray").failures][1:] == ["p/6.png: no such file"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("box_scale=1.5", "output=out was begun with box_scale=None, not 1.5; type output=ANOTHER"),
        ("cluster.shard=3", "output=out was begun with cluster.shard=2, not 3"),
        ("source=p/0.png", r"output=out was begun with inputs=7 \(\w{12}\), not 1 \(\w{12}\)"),
    ],
)
def test_a_folder_takes_shards_of_one_prediction(typed, message, ray, predict):
    predict("engine=ray")
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    with pytest.raises(ConfigError, match=message):
        predict("engine=ray", typed)
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before


def test_ray_is_an_extra(predict, monkeypatch):
    monkeypatch.setattr("convpose.errors.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"ray is not installed; type pip install 'convpose\[ray\]'"
    ):
        predict("engine=ray")


def test_an_error_of_a_worker_is_for_the_user(ray, predict, monkeypatch):
    class Diverged(RedDot):
        def __call__(self, crops):
            raise ModelError("the network answers with NaN")

    monkeypatch.setattr(cluster, "build_predictor", lambda cfg: PosePredictor(Diverged()))
    with pytest.raises(ConvposeError, match=r"^the network answers with NaN$"):
        predict("engine=ray")
    assert not list(Path("out").rglob("*.parquet*"))


def test_a_machine_without_the_storage():
    with pytest.raises(ConfigError, match="/nowhere: not there on a machine of the cluster"):
        ShardWorker({"output": "out"}, "/nowhere").predict_shard(0, [])


@pytest.mark.parametrize(
    ("resources", "typed", "workers", "gpus"),
    [
        ({"CPU": 3.0}, [], 3, None),
        ({"CPU": 16.0}, [], 4, None),
        ({"CPU": 5.0}, ["threads=2"], 2, None),
        ({"CPU": 5.0, "GPU": 2.0}, [], 2, 1),
        ({"CPU": 3.0, "GPU": 1.0}, ["accelerator=cpu"], 3, None),
    ],
    ids=str,
)
def test_workers_fill_the_cluster(resources, typed, workers, gpus, ray, predict):
    ray.resources = resources
    predict("engine=ray", *typed)
    pool = ray.asked["compute"]
    assert (pool.min_size, pool.max_size, pool.initial_size) == (1, workers, workers)
    assert ray.asked["num_gpus"] == gpus
    assert ray.asked["num_cpus"] == (2 if typed == ["threads=2"] else 1)


def test_no_cluster_at_the_address(predict, monkeypatch):
    real = pytest.importorskip("ray")

    def refuse(address, **options):
        raise ConnectionError(address)

    monkeypatch.setattr(real, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(cluster, "build_predictor", lambda cfg: PosePredictor(RedDot()))
    with pytest.raises(ConfigError, match=r"^RAY_ADDRESS=10\.0\.0\.1:6379: no cluster answers"):
        predict("engine=ray")
    assert not Path("out").exists()


@pytest.mark.filterwarnings("ignore")  # Ray warns of its own keys
def test_ray_tells_errors_alone_and_handlers_of_others_keep_their_level(monkeypatch, caplog):
    pytest.importorskip("ray.data")
    monkeypatch.setattr("ray.init", lambda *address, **options: None)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    logger = logging.getLogger("ray.data")
    monkeypatch.setattr(logger, "handlers", [caplog.handler])
    with cluster._connected():
        logger.warning("slow")
        logger.error("broken")
    logging.getLogger("another").warning("still heard")
    assert caplog.messages == ["broken", "still heard"]
