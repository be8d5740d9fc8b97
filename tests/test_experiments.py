"""The lab book's scripts type commands that exist, and its pages say what a study has to say."""

import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from tiny import composed

from convpose.data.datamodule import PoseDataModule

pytestmark = pytest.mark.slow
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SCRIPTS = sorted(EXPERIMENTS.glob("*/*.sh"))
STUDIES = sorted(EXPERIMENTS.glob("[0-9]*/"))
IMPORT = re.compile(r"from (convpose[\w.]*) import (\([^)]*\)|[\w, ]+)")
# a python that only tells what it is asked for; scripts compute with `python -c`
RECORDER = f"""#!/bin/sh
case "$1" in -c) exec {sys.executable} "$@";; esac
printf 'COMMAND'; printf '\\037%s' "$@"; echo
"""


def commands(script: Path, folder: Path) -> list[list[str]]:
    """The arguments of all Python commands that a script starts; nothing is run."""
    python = folder / "python"
    python.write_text(RECORDER)
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", str(script)],
        cwd=folder,
        env={**os.environ, "PYTHON": str(python), "OUT": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^COMMAND\x1f(.*)$", done.stdout + done.stderr, re.MULTILINE)
    return [line.split("\x1f") for line in found]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_command_of_a_script_composes(script, tmp_path):
    found = commands(script, tmp_path)
    assert found
    distinct = {}
    for flag, *overrides in found:
        if flag.endswith(".py"):
            assert (EXPERIMENTS.parent / flag).is_file()
            continue
        assert flag == "-m"
        application = overrides.pop(0).removeprefix("convpose.")
        overrides = [o for o in overrides if o != "-m" and not o.startswith("hydra.")]
        OverridesParser.create().parse_overrides(overrides)
        # of a sweep the first values; another number or place makes no other configuration
        firsts = [o if "[" in o else re.sub(r",.*", "", o) for o in overrides]
        firsts = [re.sub(r"=.*/.*", "=x", o) for o in firsts]
        kinds = frozenset(re.sub(r"^(seed|study|run|\w+\..*)=.*", r"\1", o) for o in firsts)
        distinct[application, kinds] = firsts
    for (application, _), firsts in distinct.items():
        composed(application, *firsts)


def code(path: Path) -> str:
    """The Python of a script; of a notebook that of all its cells."""
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def test_what_scripts_and_notebooks_import_is_there():
    folders = (EXPERIMENTS, EXPERIMENTS.parent / "notebooks", EXPERIMENTS.parent / "docs")
    paths = [p for f in folders for p in f.rglob("*") if p.suffix in (".py", ".sh", ".ipynb")]
    found = {
        (module, name.split()[0])
        for path in paths
        for module, names in IMPORT.findall(code(path))
        for name in names.strip("( \n,)").split(",")
    }
    assert ("convpose.runtime.packaged", "pack") in found
    lost = {(m, n) for m, n in found if not hasattr(importlib.import_module(m), n)}
    assert not lost


def test_people_that_travel_to_a_gpu_are_cropped_there_as_here(tmp_path, monkeypatch):
    """Red and blue dots lie on the wrists in the exact crop, and in whatever is drawn of it."""
    for folder in (EXPERIMENTS / "003-models", Path(__file__).parent / "data"):
        monkeypatch.syspath_prepend(str(folder))
    kit, gpu_people, fake = map(importlib.import_module, ("kit", "gpu_people", "fake_source"))
    source = fake.dotted_source(30)
    source.annotations[::3] = [replace(a, dataset="lsp") for a in source.annotations[::3]]
    crop = {"lsp": "letterbox", "lspet": "box"}
    data = PoseDataModule(
        {"both": lambda: source}, "seeded", crop, input_size_px=256, num_workers=0, batch_size=1
    )
    kit.pack(tmp_path / "kit", data)
    kit.unpack(tmp_path / "kit", tmp_path / "canvases")
    people = gpu_people.People(tmp_path / "canvases", torch.device("cpu"))
    assert len(people.val) + len(people.train) == sum(
        len(data.datasets[s]) for s in ("val", "train")
    )
    exact = people.exact(people.val)
    for row, sample in zip(exact, data.datasets["val"], strict=True):
        assert (row - sample["image"]).abs().mean() < 2, sample["image_id"]
    for _ in range(3):
        image, points, visibility = people.moved(people.train)
        for channel, joint in ((0, fake.RED), (2, fake.BLUE)):
            excess = image[:, channel] - image[:, 1]  # the border is grey, all else black
            seen = (excess.amax(dim=(1, 2)) > 150) & (visibility[:, joint] > 0)
            other = (excess.amax(dim=(1, 2)) > 150) & (visibility[:, people.mirror[joint]] > 0)
            place = excess.flatten(1).argmax(dim=1)
            found = (torch.stack([place % 256, place // 256], dim=1) + 0.5) / 256
            away = torch.minimum(
                (found - points[:, joint]).norm(dim=1),
                (found - points[:, people.mirror[joint]]).norm(dim=1),
            )
            inside = ((points > 0.02) & (points < 0.98)).all(dim=2)
            whole = inside[:, joint] & inside[:, people.mirror[joint]] & seen & other
            assert whole.sum() > 5
            assert away[whole].max() < 0.03


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_every_study_has_its_page_and_its_line(study):
    page = (study / "README.md").read_text("utf-8")
    for part in ("**Question.**", "**Verdict.**", "```bash"):
        assert part in page, part
    assert f"({study.name}/README.md)" in (EXPERIMENTS / "README.md").read_text("utf-8")
    verdict = page.partition("**Verdict.** ")[2].partition("\n\n")[0]
    assert len(re.findall(r"[.!?](?=\s+\S|$)", verdict)) <= 2, "a verdict has two sentences"
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
    assert pictures or verdict.startswith("Open: ")
    for picture in pictures:
        assert (study / picture).is_file(), picture
