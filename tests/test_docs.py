"""The documentation: its examples run, its messages are the real ones, its site builds."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from own_keypoints import own_folder
from PIL import Image as PillowImage
from test_layers import ROOMS
from tiny import composed

from convpose.__main__ import COMMANDS
from convpose.evaluate.__main__ import main as evaluate
from convpose.predict.__main__ import as_overrides

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "convpose"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
TEXTS = {page: BLOCK.findall(page.read_text("utf-8")) for page in PAGES}
EXTEND = TEXTS[ROOT / "docs" / "extend.md"]
TINY = (
    *("data.sources.synthetic.num_images=40", "data.sources.synthetic.image_size_px=48"),
    *("model.depth=11", "model.width=0.0625", "data.input_size_px=32"),
    *("data.batch_size=8", "data.num_workers=0", "trainer=cpu", "trainer.max_epochs=1"),
)


def commands(blocks, application: str) -> list[list[str]]:
    """The arguments of each command of an application in shell blocks, comments left out."""
    shell = "".join(text for kind, _, text in blocks if kind == "bash").replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in shell.splitlines()]
    starts = ["-m", f"convpose.{application}"], ["convpose", application]
    return [
        words[i + 2 :] for words in lines for i in range(len(words)) if words[i : i + 2] in starts
    ]


SHOWN = [(p, a) for p, blocks in TEXTS.items() for a in COMMANDS if commands(blocks, a)]


@pytest.mark.parametrize(("page", "application"), SHOWN, ids=lambda x: getattr(x, "stem", x))
def test_the_commands_of_the_documents_compose(page, application):
    for words in commands(TEXTS[page], application):
        if {"--config-dir", "--help"} & set(words):
            continue  # the former are run below
        words = [word for word in words if word not in ("-m", "…")]
        if application == "predict":
            words = as_overrides(words)
        parsed = OverridesParser.create().parse_overrides(words)
        firsts = [
            f"{p.get_key_element()}={next(iter(p.sweep_string_iterator()))}"
            if p.is_sweep_override()
            else w
            for p, w in zip(parsed, words, strict=True)
        ]
        assert composed(application, *firsts).paths.runs == "runs"


def test_the_tree_of_the_readme_is_that_of_the_package():
    """Every room in one line, each above those that it imports."""
    tree = (ROOT / "README.md").read_text("utf-8").partition("\nconvpose/\n")[2]
    shown = re.findall(r"^  ([\w.]+)/? ", tree.partition("\nexperiments/")[0], re.MULTILINE)
    rooms = [f"{room}.py" if (PACKAGE / f"{room}.py").is_file() else room for room in ROOMS[::-1]]
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) > 140 and not line.startswith("|")] == []
    assert shown == [*(room for room in rooms if room != "__init__.py"), "weights"]


def test_links_to_files_are_right():
    for page in [*PAGES, *ROOT.glob("experiments/**/*.md"), ROOT / "CHANGELOG.md"]:
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the files of "Adding your own", and the data that its example writes."""
    folder = tmp_path_factory.mktemp("project")
    for kind, path, text in EXTEND:
        if path and kind in ("python", "yaml"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    (example,) = [text for kind, path, text in EXTEND if kind == "python" and not path]
    joints = ("head_top", "neck", "right_hip", "left_wrist", "right_wrist", "left_ankle")
    dog = next(text for _, path, text in EXTEND if path == "conf/skeleton/dog.yaml")
    names = yaml.safe_load(dog)["keypoints"]
    own_folder(folder, names=dict(zip((*joints, "right_ankle"), names, strict=True)))
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(compile(example, "extend.md", "exec"), {})
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def of_mine(project, command, monkeypatch):
    """The training application in that folder, as ``python -m`` starts it there."""
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    monkeypatch.setenv("CONVPOSE_PACKAGES", "mine")
    yield command
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


ADDED = [  # the experiment has all of them; one after the other they take a while
    pytest.param(words, marks=() if "experiment=mine" in words else pytest.mark.slow)
    for words in commands(EXTEND, "train")
]


@pytest.mark.parametrize("arguments", ADDED, ids=lambda words: " ".join(words[2:]))
def test_what_one_adds_is_trained(of_mine, arguments, tmp_path, monkeypatch):
    own = {word.partition("=")[0] for word in arguments}
    tiny = [t for t in TINY if not (own & {"model", "experiment"} and "model." in t)]
    tiny = [t for t in tiny if not (own & {"data.source", "experiment"} and "synthetic" in t)]
    run = tmp_path / "run"
    ended = of_mine(*arguments, *tiny, f"hydra.run.dir={run}")
    assert ended.code == 0, ended.err
    own = "tail_base" if "data=coco" in arguments else "mine."
    assert own in (run / "config.yaml").read_text("utf-8")
    assert (run / "checkpoints" / "best.ckpt").is_file()
    if "experiment=mine" in arguments:  # evaluated as the page says, without --config-dir
        monkeypatch.setattr(sys, "argv", ["evaluate", f"run={run}", "gallery=0"])
        evaluate()
        assert (run / "evaluate_test" / "metrics.json").is_file()


def test_without_the_packages_one_message_says_what_to_type(of_mine, monkeypatch):
    monkeypatch.delenv("CONVPOSE_PACKAGES")
    ended = of_mine("--config-dir", "conf", "model=tiny", "data=synthetic", *TINY[:2], *TINY[4:])
    assert ended.code == 2
    assert "if mine is yours, put CONVPOSE_PACKAGES=mine before the command" in ended.err


MESSAGES = [
    (title.partition("convpose.train ")[2], text)
    for blocks in TEXTS.values()
    for kind, title, text in blocks
    if kind == "text" and title.startswith("python -m convpose.train ")
]


@pytest.mark.parametrize(("arguments", "message"), MESSAGES, ids=[a for a, _ in MESSAGES])
def test_messages_are_quoted_as_they_are(command, arguments, message):
    ended = command(*shlex.split(arguments))
    assert (ended.code, ended.err) == (2, message)


def test_the_python_of_the_metrics_page_runs(capsys):
    (example,) = [text for kind, _, text in TEXTS[ROOT / "docs" / "metrics.md"] if kind == "python"]
    exec(compile(example, "metrics.md", "exec"), {})
    assert capsys.readouterr().out.startswith("tensor(5.0000")


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    for module in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed; type pip install 'convpose[docs]'")
    config = str(ROOT / "docs" / "mkdocs" / "mkdocs.yml")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", str(tmp_path)]
    done = subprocess.run(
        build, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    pages = {str(p.relative_to(tmp_path)): p.read_text("utf-8") for p in tmp_path.rglob("*.html")}
    studies = [path.parent.name for path in ROOT.glob("experiments/[0-9]*/README.md")]
    assert {f"experiments/{study}/index.html" for study in studies} < set(pages)
    assert "<math" in pages["metrics/index.html"]
    assert 'id="convpose.predict.predictor.PosePredictor"' in pages["api/predict/index.html"]
    loaded = re.compile(
        r"<(?:script|img|iframe|source)[^>]*src=\"?(?:https?:)?//|<link[^>]*https?://"
    )
    foreign = {name: found[0] for name, text in pages.items() if (found := loaded.search(text))}
    assert foreign == {}


@pytest.mark.slow
def test_the_picture_of_the_readme_is_drawn_from_any_run(tmp_path, unbroken, monkeypatch):
    run, picture = tmp_path / "run", tmp_path / "picture.png"
    shutil.copytree(unbroken, run)
    spec = importlib.util.spec_from_file_location("figure", ROOT / "docs" / "figure.py")
    figure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figure)
    monkeypatch.setattr(sys, "argv", ["figure.py", str(run), "--output", str(picture)])
    with pytest.raises(SystemExit, match=r"metrics\.json: no such file; type python -m convpose\."):
        figure.main()
    assert not picture.exists()
    monkeypatch.setattr(sys, "argv", ["evaluate", f"run={run}", "gallery=0"])
    evaluate()
    monkeypatch.setattr(sys, "argv", ["figure.py", str(run), "--output", str(picture)])
    figure.main()
    with PillowImage.open(picture) as drawn:
        assert drawn.width > 1500
        assert len(drawn.convert("RGB").getcolors(drawn.width * drawn.height)) > 100
