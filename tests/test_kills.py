"""Commands that are killed at random moments: what is there is whole, and the same command ends."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from attack import tries
from forked import Forker, Life
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
def test_killed_at_random_moments(command, given, tmp_path):
    module, *arguments = command.split()
    line = [*arguments, *(key.format(**given) for key in COMMANDS[command])]
    whole, killed = (Forker(tmp_path / name) for name in ("whole", "killed"))

    def begin(forker: Forker) -> Life:
        forker.folder.mkdir(exist_ok=True)
        return forker.begin(*line, module=f"convpose.{module}")

    start_s = time.monotonic()
    assert (life := begin(whole)).ended() == 0, life.log.read_text()
    took_s = time.monotonic() - start_s
    expected = check_whole(whole.folder / "out")
    assert expected
    dice, hits = random.Random(0), 0
    while hits < KILLS:  # in one folder: an older result is there and stays whole
        assert len(killed.lives) < 8 * KILLS, f"{hits} kills came before the end"
        life = begin(killed)
        time.sleep(dice.uniform(0, took_s))
        if life.alive():
            life.kill()
            hits += 1
        life.ended()
        if (killed.folder / "out").exists():
            assert check_whole(killed.folder / "out") <= expected
    assert begin(killed).ended() == 0
    assert check_whole(killed.folder / "out") == expected
    print(f"{command}: {hits} kills in {len(killed.lives) - 1} lives of {took_s:.1f} s")


@pytest.mark.filterwarnings("ignore")  # Ray leaves files open
def test_a_prediction_on_a_cluster_is_killed_between_its_shards(given, forker, monkeypatch):
    pytest.importorskip("ray")
    pyarrow = pytest.importorskip("pyarrow.parquet")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would starve them
    monkeypatch.setenv("HOME", str(forker.folder))  # for the token of the cluster
    (forker.folder / "p").mkdir()
    names = [f"p/{i:03d}.png" for i in range(200)]
    for i, name in enumerate(names):
        Image.new("RGB", (400, 300), (i, 50, 90)).save(forker.folder / name)
    line = ["engine=ray", "source=p", "output=out", f"run={given['run']}", "accelerator=cpu"]
    line += ["cluster.shard=2", "cluster.workers=2"]
    done, dice, hits = forker.folder / "out" / "done", random.Random(0), 0
    for _ in range(tries(1, 3)):  # a cluster takes long to start
        before = len([*done.glob("*.json")])
        life = forker.begin(*line, module="convpose.predict")
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
    life = forker.begin(*line, module="convpose.predict")
    assert life.ended() == 0, life.log.read_text()
    rows = pyarrow.read_table(forker.folder / "out" / "keypoints").to_pylist()
    assert sorted(row["image"] for row in rows) == names, "none is lost, none is there twice"
    assert hits
    print(f"engine=ray: {hits} kills")
