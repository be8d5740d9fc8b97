"""Commands that are killed at random moments: what is there is whole, and the same command ends."""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forked import Forker
from PIL import Image
from safetensors.numpy import load_file
from tiny import QUIET, tiny_run

from convpose.export.request import SUFFIXES
from convpose.runtime.engines import ENGINE_OF, OPENERS

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("CONVPOSE_KILLS", "6"))  # of each command


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
def test_killed_at_random_moments(command, given, tmp_path):
    module, *arguments = command.split()
    line = [*arguments, *(key.format(**given) for key in COMMANDS[command])]
    (tmp_path / "whole").mkdir()
    forker = Forker(tmp_path / "whole", f"convpose.{module}")
    try:
        start_s = time.monotonic()
        assert forker.train(*line).ended() == 0, (tmp_path / "whole" / "01.log").read_text()
        took_s = time.monotonic() - start_s
        expected = check_whole(tmp_path / "whole" / "out")
        assert expected
        dice, hits = random.Random(0), 0
        folder = tmp_path / "killed"  # one folder: an older result is there and stays whole
        folder.mkdir()
        forker.within(folder)
        for _ in range(KILLS):
            life = forker.train(*line)
            time.sleep(dice.uniform(0, took_s))
            if life.alive():
                life.kill()
                hits += 1
            life.ended()
            if (folder / "out").exists():
                assert check_whole(folder / "out") <= expected
        assert forker.train(*line).ended() == 0
        assert check_whole(folder / "out") == expected
        assert hits > KILLS // 3
        print(f"{command}: {hits} kills in {KILLS} lives of {took_s:.1f} s")
    finally:
        forker.close()


@pytest.mark.filterwarnings("ignore")  # Ray leaves files open
def test_a_prediction_on_a_cluster_is_killed_between_its_shards(given, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    pyarrow = pytest.importorskip("pyarrow.parquet")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve them
    monkeypatch.setenv("HOME", str(tmp_path))  # for the token of the cluster
    (tmp_path / "p").mkdir()
    names = [f"p/{i:03d}.png" for i in range(200)]
    for i, name in enumerate(names):
        Image.new("RGB", (400, 300), (i, 50, 90)).save(tmp_path / name)
    line = ["engine=ray", "source=p", "output=out", f"run={given['run']}", "accelerator=cpu"]
    line += ["cluster.shard=2", "cluster.workers=2"]
    done, dice, hits = tmp_path / "out" / "done", random.Random(0), 0
    forker = Forker(tmp_path, "convpose.predict")
    try:
        for _ in range(max(2, KILLS // 2)):  # a cluster takes long to start
            before, life = len([*done.glob("*.json")]), forker.train(*line)
            while life.alive() and len([*done.glob("*.json")]) == before:
                time.sleep(0.01)
            time.sleep(dice.uniform(0, 0.3))
            if life.alive():
                life.kill()
                hits += 1
            life.ended()
            for path in done.glob("*.json"):
                assert json.loads(path.read_text())["frames"] == 2
                assert len(pyarrow.read_table(done.parent / "keypoints" / f"{path.stem}.parquet"))
        assert forker.train(*line).ended() == 0, forker.life.log.read_text()
    finally:
        forker.close()
    rows = pyarrow.read_table(tmp_path / "out" / "keypoints").to_pylist()
    assert sorted(row["image"] for row in rows) == names, "none is lost, none is there twice"
    assert hits > 1
    print(f"engine=ray: {hits} kills")
