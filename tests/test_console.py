"""`convpose COMMAND …` does what `python -m convpose.COMMAND …` does."""

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.spawn import get_preparation_data
from pathlib import Path

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _basic_subprocess_cmd
from tiny import TINY

import convpose
from convpose import run
from convpose.__main__ import COMMANDS, main


@pytest.fixture
def console(monkeypatch, capsys):
    """Runs the command in this process; returns its exit code, output and errors."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["convpose", *arguments])
        for name in COMMANDS:  # that another test has imported, which runpy would warn of
            monkeypatch.delitem(sys.modules, f"convpose.{name}.__main__", raising=False)
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_alone_it_lists_the_commands(arguments, console):
    code, out, err = console(*arguments)
    assert (code, err) == (0, "")
    for command, purpose in COMMANDS.items():
        assert f"  {command:<10} {purpose}\n" in out


@pytest.mark.parametrize("module", ["convpose", *(f"convpose.{name}" for name in COMMANDS)])
@pytest.mark.parametrize("file", ["", "__main__.py"])
def test_a_file_that_is_started_says_what_to_type(module, file):
    path = Path(convpose.__file__).parent.parent / module.replace(".", "/") / file
    ended = subprocess.run([sys.executable, "-IS", path], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"type python -m {module}\n"


def test_a_command_ends_without_collecting_what_it_imported():
    code = "import atexit, gc\natexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
    code += "from convpose.compare.__main__ import main\nmain()"
    command = [sys.executable, "-c", code, "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == f"convpose {convpose.__version__}\nTrue\n"


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(flag, console):
    assert console(flag) == (0, f"convpose {convpose.__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("trian", "; did you mean convpose train?"),
        ("xyz", ""),
        (__file__, f"; did you mean convpose predict {__file__} model=vgg_bn?"),
        ("trian.jpg", "; did you mean convpose predict trian.jpg model=vgg_bn?"),
        ("*.jpg", "; did you mean convpose predict '*.jpg' model=vgg_bn?"),
        ("model.width=1", ""),
    ],
)
def test_an_unknown_command_names_the_nearest(typed, nearest, console):
    code, out, err = console(typed, "model=vgg_bn")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {typed}: no such command{nearest}\n")
    assert "train, evaluate, compare, search, predict" in err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("convpose tr", [*COMMANDS]),
        ("convpose train optimizer.l", ["optimizer.lr="]),
        ("convpose train seed=1 model=vg", ["model=vgg_bn", "model=vgg_narrow"]),
        ("convpose predict det", ["detector.", "detector="]),
    ],
)
def test_a_shell_completes(line, words, command, console, monkeypatch):
    monkeypatch.setenv("COMP_LINE", line)
    code, out, _ = console("--complete")
    assert (code, out.split()) == (0, words)
    assert "complete -o default -F _convpose convpose" in console("--completion")[1]


@pytest.mark.parametrize("arguments", ["--help", "train --help"])
def test_a_reader_that_leaves_is_no_error(arguments, tmp_path):
    read, write = os.pipe()
    os.close(read)
    started = subprocess.run(
        [sys.executable, "-m", "convpose", *arguments.split()],
        stdout=write,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(convpose.__file__).parents[1])},
        cwd=tmp_path,
        text=True,
    )
    os.close(write)
    assert (started.returncode, started.stderr) == (141, "")


def test_it_runs_the_module_with_its_name_and_so_do_other_processes(command, console, monkeypatch):
    told = {}

    def train(cfg, folder):
        told["run.json"] = run.describe_run()["command"]
        told["spawned"] = get_preparation_data("child")["init_main_from_name"]
        told["ddp"] = _basic_subprocess_cmd()
        child = multiprocessing.get_context("spawn").Process(target=print, args=("from a child",))
        child.start()
        child.join()
        told["child"] = child.exitcode
        return 0.5

    monkeypatch.setattr("convpose.train.command.train", train)
    code, _, err = console("train", *TINY)
    assert (code, err) == (0, "")
    typed = " ".join(TINY)
    assert told["run.json"].endswith(f" -m convpose.train {typed}")
    assert told["spawned"] == "convpose.train.__main__"
    assert " ".join(told["ddp"][1:]) == f"-m convpose.train.__main__ {typed}"
    assert told["child"] == 0


def test_predict_takes_a_bare_path(command, console):
    code, _, err = console("predict", "no such photo (1).jpg")
    assert code == 2
    assert err.startswith("error: source=no such photo (1).jpg: no such file")
