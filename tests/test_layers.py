"""The plan of the house: rooms in order, and imports that only go down."""

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

import convpose

ROOT = Path(convpose.__file__).parent
# lowest first: a room imports from the rooms before it
ROOMS = (
    *("errors", "bounded", "files", "skeleton", "geometry", "progress", "hardware", "config"),
    *("run", "history", "metrics", "plot", "data", "models", "runtime", "evaluate", "train"),
    *("compare", "search", "export", "predict", "app", "benchmark", "__init__", "__main__"),
)
COMMANDS = (
    *("train", "evaluate", "compare", "search", "predict", "export", "app", "benchmark", "data"),
)


def room(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path: Path) -> list[tuple[int, str]]:
    """Lines and rooms of all imports of convpose in a file, those inside functions as well."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "convpose":
            found += [(node.lineno, alias.name) for alias in node.names if alias.name in ROOMS]
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("convpose."):
            found.append((node.lineno, str(node.module).split(".")[1]))
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("convpose.")]
            found += [(node.lineno, name.split(".")[1]) for name in names]
    return found


def test_every_room_has_its_place():
    assert {room(path) for path in ROOT.rglob("*.py")} == set(ROOMS)


def test_no_file_is_longer_than_a_few_screens():
    lines = {str(path): len(path.read_text("utf-8").splitlines()) for path in ROOT.rglob("*.py")}
    assert {path: number for path, number in lines.items() if number > 300} == {}


def test_imports_go_down():
    up = [
        f"{path.relative_to(ROOT)}:{line} imports {other}"
        for path in sorted(ROOT.rglob("*.py"))
        for line, other in imported(path)
        if other != room(path) and ROOMS.index(other) > ROOMS.index(room(path))
    ]
    assert not up


def test_no_circle_between_files_of_a_room():
    """Files of one room may use each other, in one direction."""
    graph: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        name = ".".join(("convpose", *path.relative_to(ROOT).with_suffix("").parts))
        name = name.removesuffix(".__init__")
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        needs: set[str] = set()
        for node in (n for n in nodes if isinstance(n, ast.ImportFrom)):
            inside = node.module == "convpose"
            needs |= {f"convpose.{a.name}" for a in node.names} if inside else {str(node.module)}
        graph[name] = needs - {name, "convpose"}
    left = dict(graph)
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left


def test_a_command_is_a_room():
    for command in COMMANDS:
        assert (ROOT / command / "__main__.py").is_file()
        assert (ROOT / command / "command.py").is_file()


def test_one_opencv():
    """A second one overwrites the files of the first, and that of windows wants libGL."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(want for extra in extras for want in extra)]
    needed: dict[str, str] = {}
    while asked:
        name = re.split(r"[^\w.-]", asked.pop())[0].lower().replace("_", "-")
        try:
            wants = [] if name in needed or name == "convpose" else requires(name) or []
        except PackageNotFoundError:  # of another system, or an extra that is not installed
            wants = []
        needed[name] = ", ".join(wants)
        asked += [want for want in wants if "extra ==" not in want]
    assert "numpy" in needed, "packages of packages are looked at"
    assert [name for name in needed if name.startswith("opencv")] == ["opencv-python-headless"]


_ALL = """
import importlib, pkgutil, sys, warnings
import convpose
warnings.simplefilter("ignore")
for module in pkgutil.walk_packages(convpose.__path__, "convpose."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for extra in ("onnxruntime", "openvino", "pyarrow", "gradio", "optuna", "albumentations"):
    importlib.import_module(extra)
print(sorted({line.split("/")[-1] for line in open("/proc/self/maps") if "libGL" in line}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what is loaded")
def test_everything_imports_without_libgl(forker):
    """A slim Debian has none; where there is one, it must not be asked for."""
    life = forker.begin(before=_ALL + "sys.exit()")
    assert (life.ended(), life.log.read_text().splitlines()[-1:]) == (0, ["[]"])
