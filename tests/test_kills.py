"""Commands that are killed at random moments: what is there is whole, and the same command ends."""

import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from attack import tries
from forked import Life
from PIL import Image
from safetensors.numpy import load_file
from tiny import QUIET, tiny_run

from convpose.export.request import SUFFIXES
from convpose.runtime.engines import ENGINE_OF, OPENERS

pytestmark = pytest.mark.slow
KILLS = tries(1, 6)  # of each command


def opened(path: Path) -> object:
    return OPENERS[ENGINE_OF[path.suffix]](path, "cpu", 1)


WHOLE: dict[str, Callable[[Path], object]] = {  # reads a file to its end
    ".json": lambda path: json.loads(path.read_text()),
    ".npz": lambda path: dict(np.load(path)),
    ".png": lambda path: Image.open(path).load(),
    ".md": lambda path: path.read_text().index("|"),
    ".safetensors": load_file,
    **dict.fromkeys((".onnx", ".xml", ".torchscript"), opened),
}
COMMANDS = {
    "evaluate": ("run={run}", "accelerator=cpu", "gallery=4", "split=val", "output=out"),
    "data": (
        *("data=synthetic", "data.sources.synthetic.num_images=300", "data.split=seeded"),
        *("data.sources.synthetic.image_size_px=64", "data.cache=out/crops.safetensors"),
        *("data.gallery=out/gallery.png", "coco=out/people.json"),
    ),
    **{
        f"export format={form}": ("run={run}", f"output=out/network{suffix}", "report=out/r.json")
        for form, suffix in SUFFIXES.items()
        if form in ("onnx", "openvino", "torchscript")
    },
}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    tiny_run(folder / "run", "trainer.max_epochs=1", *QUIET)
    return {"run": folder / "run"}


def check_whole(folder: Path) -> set[str]:
    """The names of the files; each can be read to its end."""
    there = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.relative_to(folder) for path in there}
    final = {name for name in names if name.suffix != ".part" and str(name)[0] != "."}
    for path in (folder / name for name in final):
        WHOLE.get(path.suffix, Path.read_bytes)(path)
    return set(map(str, final))


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_random_moments(command, given, forker):
    module, *arguments = command.split()
    line = [*arguments, *(key.format(**given) for key in COMMANDS[command])]
    out, begin = forker.folder / "out", partial(forker.begin, *line, module=f"convpose.{module}")
    dice, hits, seen, took_s = random.Random(0), 0, set(), 3.0
    while hits < KILLS:  # in one folder: an older result is there and stays whole
        assert len(forker.lives) < 8 * KILLS, f"{hits} kills came before the end"
        start_s, life = time.monotonic(), begin()
        moment_s = start_s + dice.uniform(0, took_s)
        while life.alive() and time.monotonic() < moment_s:
            time.sleep(0.005)
        if life.alive():
            life.kill()
            hits += 1
        else:
            assert life.ended() == 0, life.log.read_text()
            took_s = min(took_s, time.monotonic() - start_s)
        life.ended()
        seen |= check_whole(out)
    life = begin()
    assert life.ended() == 0, life.log.read_text()
    made = check_whole(out)
    assert made
    assert seen <= made
    print(f"{command}: {hits} kills in {len(forker.lives) - 1} lives of {took_s:.1f} s")


# in the process of a prediction: one of its workers dies when it has read a picture
MORTAL = """
import contextlib, os, pathlib, signal
import convpose.predict.cluster

class Mortal:
    def __init__(self, settings, home):
        self.given = settings, home

    def __call__(self, row):
        from convpose.predict import cluster, pipeline  # those of the worker
        frames = pipeline.read_frames

        def killed(sources):
            yield next(frames(sources))
            os.kill(os.getpid(), signal.SIGKILL)

        with contextlib.suppress(FileExistsError):
            (pathlib.Path(self.given[1]) / "died").touch(exist_ok=False)
            pipeline.read_frames = killed
        return cluster.ShardWorker(*self.given)(row)

convpose.predict.cluster.ShardWorker = Mortal
"""


@pytest.mark.filterwarnings("ignore")  # Ray leaves files open
def test_a_prediction_on_a_cluster_is_killed_and_then_one_of_its_workers(
    given, forker, monkeypatch
):
    """The same people as one process finds, and what was done is not done again."""
    pytest.importorskip("ray")
    pyarrow = pytest.importorskip("pyarrow.parquet")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve them
    monkeypatch.setenv("HOME", str(forker.folder))  # for the token of the cluster
    (forker.folder / "p").mkdir()
    names = [f"p/{i:03d}.png" for i in range(48)]
    for i, name in enumerate(names):
        Image.new("RGB", (400, 300), (i, 50, 90)).save(forker.folder / name)
    (forker.folder / "p" / "no.png").write_bytes(b"no picture")

    def begin(*typed: str, **more: str) -> Life:
        line = ("source=p", f"run={given['run']}", "accelerator=cpu", *typed)
        return forker.begin(*line, module="convpose.predict", **more)

    def rows(path: str) -> dict[str, dict]:
        found = pyarrow.read_table(forker.folder / path).to_pylist()
        assert [row["image"] for row in found] == names, "none is lost, none is there twice"
        return {row["image"]: row for row in found}

    shards = ("engine=ray", "output=out", "cluster.shard=4")
    done, dice, hits = forker.folder / "out" / "done", random.Random(0), 0
    for _ in range(tries(1, 3)):  # a cluster takes long to start, and each worker imports all
        before = len([*done.glob("*.json")])
        life = begin(*shards, "cluster.workers=1")
        while life.alive() and len([*done.glob("*.json")]) == before:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.3))
        if life.alive():
            life.kill()
            hits += 1
        life.ended()
        for path in done.glob("*.json"):
            assert json.loads(path.read_text())["frames"] == 4
            assert len(pyarrow.read_table(done.parent / "keypoints" / f"{path.stem}.parquet"))
    assert hits
    written = {path: path.stat().st_mtime_ns for path in done.glob("*.json")}
    for life in (
        begin(*shards, "cluster.workers=2", before=MORTAL),
        begin("output=one", "format=parquet", "draw=false"),
    ):
        assert life.ended() == 1, life.log.read_text()  # for what is no picture
    assert (forker.folder / "died").exists()
    assert written.items() <= {p: p.stat().st_mtime_ns for p in done.glob("*.json")}.items()
    assert not list(done.parent.rglob("*.part"))
    found = rows("out/keypoints")
    for name, row in rows("one/keypoints.parquet").items():
        assert found[name] == pytest.approx(row, abs=1e-2)
    assert "p/no.png" in (done.parent / "failures.csv").read_text()
    print(f"engine=ray: {hits} kills")
