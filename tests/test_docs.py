"""The documentation: its examples run, its messages are the real ones, its site builds."""

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from compare.fake_runs import fake_run
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from own_keypoints import own_folder
from PIL import Image as PillowImage
from test_layers import ROOMS
from tiny import composed

import convpose
from convpose.__main__ import COMMANDS
from convpose.config.schema import check_table
from convpose.data.synthetic import SyntheticSource
from convpose.evaluate.__main__ import main as evaluate
from convpose.predict.__main__ import as_overrides
from convpose.predict.drawing import VideoFile
from convpose.predict.predictor import PosePredictor
from convpose.runtime.engines import onnx_file

ROOT = Path(__file__).parents[1]
PACKAGE, CONF = ROOT / "convpose", ROOT / "conf"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
TEXTS = {page: BLOCK.findall(page.read_text("utf-8")) for page in PAGES}
EXTEND = TEXTS[ROOT / "docs" / "extend.md"]
TINY = (
    *("data.sources.synthetic.num_images=40", "data.sources.synthetic.image_size_px=48"),
    *("model.depth=11", "model.width=0.0625", "data.input_size_px=32"),
    *("data.batch_size=8", "data.num_workers=0", "trainer=cpu", "trainer.max_epochs=1"),
)


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What is composed and not run, for a run costs minutes or needs what is not there
COMPOSED_ONLY = {
    "train": "those of extend.md are trained below",
    "search": "trials are trainings",
    "evaluate": "an archive, or a run",
    "export": "half a minute",
    "app": "a server that does not end",
    "benchmark": "measures for minutes",
}
# of predict and data: a run, a detector, an engine, an archive, a cluster
WANTING = re.compile(
    r"(run|weights|detector|detector.weights|engine|HTTPS_PROXY)=|data=lsp|format=parquet"
)
# where a command's table of keys is not in its command.py
TABLES = dict.fromkeys(("train", "evaluate", "export", "app"), "request")
TABLES |= {"search": "setup", "benchmark": "measure"}
OF_OTHERS = {  # programs that no test starts
    *(
        "tensorboard",
        "optuna-dashboard",
        "torchrun",
        "srun",
        "sbatch",
        "scontrol",
        "npm",
        "curl",
        "ray",
    ),
    *(
        "docker",
        "conda",
        "nvidia-smi",
        "uv",
        "git",
        "gh",
        "cd",
        "export",
        "exit",
        "jupyter",
        "mkdir",
        "cp",
    ),
    *(
        ".venv/bin/python",
        "python -c",
        "python -m http.server",
        "python -m timeit",
        "python docs/figure.py",
        "code=$?",
        "[",
        "pre-commit",
    ),
}


def shell_lines(page: Path) -> list[list[str]]:
    """The words of each command in the shell blocks of a page and between backticks."""
    text = page.read_text("utf-8")
    shell = "".join(block for kind, _, block in BLOCK.findall(text) if kind == "bash")
    lines = shell.replace("\\\n", " ").splitlines()
    starts = rf"(?:convpose (?:{'|'.join(COMMANDS)})|python -m convpose\.\w+|make \w+|pip install)"
    lines += re.findall(rf"`({starts}\b[^`]*)`", BLOCK.sub("", text))
    split = (shlex.split(line, comments=True) for line in lines)
    return [words for words in split if words]


def commands(page: Path, application: str) -> list[list[str]]:
    """The arguments of each command of an application on a page."""
    starts = ["-m", f"convpose.{application}"], ["convpose", application]
    return [
        words[i + 2 :]
        for words in shell_lines(page)
        for i in range(len(words))
        if words[i : i + 2] in starts
    ]


SHOWN = [(p, a) for p in PAGES for a in COMMANDS if commands(p, a)]


@pytest.mark.parametrize(("page", "application"), SHOWN, ids=lambda x: getattr(x, "stem", x))
def test_the_commands_of_the_documents_compose(page, application):
    for words in commands(page, application):
        if {"--config-dir", "--help"} & set(words):
            continue  # the former are run below
        words = [word for word in words if word not in ("-m", "…", "--cfg", "job")]
        if application == "predict":
            words = as_overrides(words)
        parsed = OverridesParser.create().parse_overrides(words)
        firsts = [
            f"{p.get_key_element()}={next(iter(p.sweep_string_iterator()))}"
            if p.is_sweep_override()
            else w
            for p, w in zip(parsed, words, strict=True)
        ]
        cfg = composed(application, *firsts)
        assert cfg.paths.runs == "runs"
        file = TABLES.get(application, "command")
        module = importlib.import_module(f"convpose.{application}.{file}")
        check_table(cfg, module.KEYS)


def ends(content, first: str) -> Iterator[tuple[str, str]]:
    """The first and last names of all keys of a configuration."""
    for key, value in content.items() if isinstance(content, dict) else ():
        yield first or key, key
        yield from ends(value, first or key)


def test_keys_between_backticks_are_keys():
    """Each ``KEY=VALUE`` in the text is of some command, or of a yaml that a group chooses from."""
    known = {(folder.name, folder.name) for folder in CONF.iterdir() if folder.is_dir()}
    for name in COMMANDS:
        known |= set(ends(OmegaConf.to_container(composed(name)), ""))
    for file in CONF.rglob("*.yaml"):
        folders = file.relative_to(CONF).parts[:-1]
        known |= set(ends(yaml.safe_load(file.read_text("utf-8")), folders[0] if folders else ""))
    for page in PAGES:
        text = BLOCK.sub("", page.read_text("utf-8"))
        if page.stem == "from":  # the left column has the words of others
            text = re.sub(r"^\|[^|]*\|", "", text, flags=re.MULTILINE)
        code = " ".join(re.findall(r"`([^`\n]+)`", text))
        for key in re.findall(r"(?<!\S)([a-z_]+(?:\.[a-z_]+)*)=(?!True)", code):
            parts = key.split(".")
            assert (parts[0], parts[-1]) in known or parts[0] == "hydra", (page.name, key)


def test_every_line_of_the_shell_blocks_is_a_command_that_is_known():
    """Targets of make and extras exist; what neither is ours nor checked is in `OF_OTHERS`."""
    targets = re.findall(r"^([\w%-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for page in PAGES:
        for words in shell_lines(page):
            line = " ".join(words)
            while "=" in words[0] and words[0].partition("=")[0].isupper():
                words = words[1:]  # a variable before the command
            if words[0] == "make":
                named = words[1].startswith("reproduce-") or words[1] in targets
                assert named or words[1].startswith("PYTHON="), (page.name, line)
            elif words[0] == "pip" or words[:3] == ["python", "-m", "pip"]:
                named = ",".join(re.findall(r"(?:convpose|\.)\[([\w,]+)\]", line))
                assert {"EXTRA", *EXTRAS} >= set(filter(None, named.split(","))), (page.name, line)
            elif words[0] == "convpose":
                assert words[1] in {*COMMANDS, "COMMAND", "…", "--version"}, (page.name, line)
            else:
                module = words[:2] == ["python", "-m"] and words[2].startswith("convpose.")
                firsts = {" ".join(words[:count]) for count in (1, 2, 3)}
                assert module or firsts & OF_OTHERS, (page.name, line)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the files that the commands of the pages name."""
    folder = tmp_path_factory.mktemp("desk")
    people = SyntheticSource(4, 64)
    for i, name in enumerate(("photo.jpg", "team.jpg", "a.jpg", "holiday/b.jpg")):
        (folder / name).parent.mkdir(exist_ok=True)
        PillowImage.fromarray(people.read_image(i)[0]).save(folder / name)
    clip = VideoFile(folder / "clip.mp4", 64, 64)
    for i in range(2):
        clip.write(people.read_image(i)[0], 0.04 * i)
    clip.close()
    for page in PAGES:
        for _, title, text in TEXTS[page]:
            if title in ("boxes.csv", "people.csv"):
                (folder / title).write_text(text)
    for i, lr in enumerate((0.01, 0.05)):
        fake_run(folder / "runs" / "rates" / f"t_{i}", f"optimizer.lr={lr}", pck=0.1 * i)
    return folder


SMALL = {
    (application, " ".join(words)): words
    for page, application in SHOWN
    for words in commands(page, application)
    if words and application not in COMPOSED_ONLY and not {"RUN", "…", "-m", "--help"} & set(words)
    if not WANTING.search(" ".join(words)) and not {"--config-dir", "source=-"} & set(words)
}


@pytest.mark.parametrize(("application", "line"), SMALL)
def test_what_is_quick_is_run_as_it_is_typed(application, line, desk, monkeypatch):
    words = SMALL[application, line]
    if application == "predict":
        words = as_overrides([*words, "network=small", "looks=1"])
    elif application == "data":
        few = ["data.sources.synthetic.num_images=8"] if "data=synthetic" in words else []
        words = [*words, *few]
    monkeypatch.chdir(desk)
    monkeypatch.setattr(sys, "argv", [application, *words])
    importlib.import_module(f"convpose.{application}.__main__").main()


def test_the_tree_of_the_design_page_is_that_of_the_package():
    """Every room in one line, each above those that it imports."""
    tree = (ROOT / "docs" / "design.md").read_text("utf-8").partition("\nconvpose/\n")[2]
    shown = re.findall(r"^  ([\w.]+)/? ", tree.partition("\nexperiments/")[0], re.MULTILINE)
    rooms = [f"{room}.py" if (PACKAGE / f"{room}.py").is_file() else room for room in ROOMS[::-1]]
    assert shown == [*(room for room in rooms if room != "__init__.py"), "weights"]


def test_the_readme_is_narrow_and_its_sentences_are_short():
    text = (ROOT / "README.md").read_text("utf-8")
    assert [line for line in text.splitlines() if len(line) >= 120] == []
    prose = re.sub(r"\]\([^)]*\)", "]", BLOCK.sub("", text))
    plain = [line for line in prose.splitlines() if not line.startswith(("|", "#"))]
    sentences = re.split(r"(?<=[.:;?])\s+|\n\n", "\n".join(plain))
    assert [sentence for sentence in sentences if len(sentence.split()) >= 25] == []


def test_the_notice_names_every_dependency_and_every_extra():
    notice = (ROOT / "NOTICE").read_text("utf-8")
    named = set(re.findall(r"[\w-]+", notice))
    own = {group: [re.match(r"[\w-]+", d)[0] for d in needed] for group, needed in EXTRAS.items()}
    own["core"] = [re.match(r"[\w-]+", needed)[0] for needed in PROJECT["dependencies"]]
    assert {f"[{extra}]" in notice for extra in EXTRAS} == {True}
    install = (ROOT / "docs" / "install.md").read_text("utf-8")
    assert {f"`{extra}`" in install for extra in EXTRAS} == {True}
    assert {name for needed in own.values() for name in needed} - named == set()


def test_the_version_is_one():
    version = PROJECT["version"]
    assert convpose.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\n## [{version}] - " in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_links_to_files_are_right():
    for page in [*PAGES, *ROOT.glob("experiments/**/*.md"), *ROOT.glob("*.md")]:
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
    for words in commands(ROOT / "docs" / "extend.md", "train")
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


def test_an_export_needs_no_convpose(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    (example,) = [text for kind, _, text in TEXTS[ROOT / "docs" / "phone.md"] if kind == "python"]
    monkeypatch.chdir(tmp_path)
    Path("pose.onnx").write_bytes(onnx_file("small").read_bytes())
    painted = SyntheticSource(1, image_size_px=420).read_image(0)[0][:, :330]
    PillowImage.fromarray(painted).save("photo.jpg")
    names: dict = {}
    exec(compile(example, "phone.md", "exec"), names)
    predictor = PosePredictor.from_weights("pose.onnx", accelerator="cpu")
    predictor.looks = 1
    (person,) = predictor(cv2.imread("photo.jpg", cv2.IMREAD_COLOR_RGB))
    assert np.abs(names["keypoints_px"] - person.keypoints_px).max() < 0.05
    assert len(capsys.readouterr().out.splitlines()) == 14


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    for module in ("mkdocs", "material", "mkdocstrings", "latex2mathml", "nbformat"):
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
    assert "What does the ConvPose recipe reach" in pages["index.html"]  # the studies, by question
    assert "impossible" in pages["notebooks/01_data/index.html"]
    assert 'id="convpose.predict.predictor.PosePredictor"' in pages["api/predict/index.html"]
    loaded = re.compile(
        r"<(?:script|img|iframe|source)[^>]*src=\"?(?:https?:)?//|<link[^>]*https?://"
    )
    foreign = {name: found[0] for name, text in pages.items() if (found := loaded.search(text))}
    assert foreign == {}


def loaded(name: str):
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / "docs" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_notebook_becomes_a_page_that_saw_no_archive(tmp_path, monkeypatch):
    for module in ("nbformat", "nbclient", "ipykernel"):
        pytest.importorskip(module, reason="pip install 'convpose[notebooks]'")
    import nbformat

    new = nbformat.v4
    monkeypatch.setenv("CONVPOSE_DATA", "photographs")
    code = "import os\nprint('data:', os.environ.get('CONVPOSE_DATA'))\nprint(os.listdir())\n6 * 7"
    cells = [new.new_markdown_cell("# Title"), new.new_code_cell(code)]
    file = tmp_path / "a.ipynb"
    nbformat.write(new.new_notebook(cells=cells), file)
    notebooks = loaded("mkdocs/notebooks.py")
    source = f"# Title\n\n```python\n{code}\n```\n"
    assert notebooks.page(file, executed=False) == source
    assert notebooks.page(file, executed=True) == f"{source}\n```text\ndata: None\n[]\n42\n```\n"


def test_the_picture_of_the_readme_is_drawn(tmp_path, monkeypatch):
    figure = loaded("figure.py")
    monkeypatch.setattr(figure, "SHOWN", 1)
    picture = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", ["figure.py", "--people", "2", "--output", str(picture)])
    figure.main()
    with PillowImage.open(picture) as drawn:
        assert drawn.width > figure.SIDE_PX
        assert len(drawn.convert("RGB").getcolors(drawn.width * drawn.height)) > 100


def test_the_workflows_try_each_python_that_is_declared():
    declared = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c]
    for path in (ROOT / ".github").rglob("*.yml"):
        assert yaml.safe_load(path.read_text("utf-8")), path
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    for job in ("test", "wheel"):
        assert jobs[job]["strategy"]["matrix"]["python"] == declared
    assert f">=3.{declared[0][2:]},<3.{int(declared[-1][2:]) + 1}" == PROJECT["requires-python"]
