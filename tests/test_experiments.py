"""The lab book's scripts type commands that exist, and its pages say what a study has to say."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from convpose.config.application import conf_folder

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SCRIPTS = sorted(EXPERIMENTS.glob("*/*.sh"))
STUDIES = sorted(EXPERIMENTS.glob("[0-9]*/"))
IMPORT = re.compile(r"from (convpose[\w.]*) import (\([^)]*\)|[\w, ]+)")
RECORDER = "import json, sys; print('COMMAND ' + json.dumps(sys.argv[1:]))"


def commands(script: Path, folder: Path) -> list[list[str]]:
    """The arguments of all Python commands that a script starts; nothing is run."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\ncase "$1" in -c) exec {sys.executable} "$@";; esac\n')
    with python.open("a") as file:
        file.write(f'exec {sys.executable} -c "{RECORDER}" "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["bash", str(script), *(["heads"] if script.parent.name == "003-models" else [])],
        cwd=folder,
        env={**os.environ, "PYTHON": str(python), "OUT": str(folder)},
        capture_output=True,
        text=True,
    )
    # a gpu.sh looks at what the first trainings left, of which there is nothing here
    assert done.returncode == 0 or script.name == "gpu.sh", done.stderr
    found = re.findall(r"^COMMAND (.*)$", done.stdout + done.stderr, re.MULTILINE)
    return [json.loads(line) for line in found]


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
        # of a sweep the first values; the seed and the run's place make no other configuration
        keys = [o if "[" in o else re.sub(r",.*", "", o) for o in overrides if o != "-m"]
        keys = [re.sub(r"=.*/.*", "=x", o) if "/" in o else o for o in keys]
        keys = [
            o for o in keys if not re.match(r"seed=|hydra\.|study=|run=|latency\.run=|output=", o)
        ]
        distinct[application, tuple(keys)] = keys
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        for (application, _), keys in distinct.items():
            compose(application, keys)


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
    assert ("convpose.models.weights", "read_weights") in found  # in kit.sh
    lost = {(m, n) for m, n in found if not hasattr(importlib.import_module(m), n)}
    assert not lost


def test_no_training_starts_when_the_time_is_over(tmp_path, monkeypatch):
    """And the pace is not that of an earlier call."""
    earlier = tmp_path / "runs/003-heads-pace/run/metrics.csv"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    monkeypatch.setenv("END_S", "0")
    assert commands(EXPERIMENTS / "003-models" / "gpu.sh", tmp_path) == []
    assert not earlier.exists()


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
