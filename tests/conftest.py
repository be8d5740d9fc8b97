"""Fixtures that all tests share.

PyTorch is imported where it is needed: the process that shares out the tests needs none of it, and
no test begins before it is ready.
"""

import copy
import functools
import gc
import json
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import forked
import pytest
from absl import logging as absl_logging  # comes with TensorBoard
from hydra.core.hydra_config import HydraConfig

if TYPE_CHECKING:
    from tiny import Command

# Hydra sets logging up, which closes every handler there is. Absl's closes its stream with it, and
# that would be pytest's own: no test after that could be captured.
absl_logging.get_absl_handler().python_handler.setStream(sys.__stderr__)


def pytest_sessionstart() -> None:
    """Set Hypothesis up: a busy machine is no failure; the same examples make one repeatable."""
    from hypothesis import settings

    settings.register_profile("convpose", deadline=None, derandomize=True, max_examples=50)
    settings.load_profile("convpose")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Look for no garbage while all is imported, a third of its time; it is never garbage."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


LONGEST = "workers", "kills", "predict", "notebooks", "survival", "distributed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process waits for them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))

    def place(item: pytest.Item) -> tuple[bool, int]:
        return item.path.stem.removeprefix("test_") not in LONGEST, -slow[item.path]

    items.sort(key=place)  # stable: the order within a file stays


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Put back after every test what a command line sets up for its whole process: logging."""
    root, capture = logging.getLogger(), item.config.pluginmanager.get_plugin("logging-plugin")
    handlers, level, disabled = list(root.handlers), root.level, root.manager.disable
    result = yield
    for added in set(root.handlers) - set(handlers):
        added.close()
    root.handlers[:], root.level = handlers, level
    logging.disable(disabled)
    for handler in (capture.caplog_handler, capture.report_handler):  # one pair for all tests
        handler.setLevel(logging.NOTSET)
    HydraConfig.instance().cfg = None
    return result


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Networks this small are slower on several threads, and much slower on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _conf_is_parsed_once() -> Iterator[None]:
    """Keep what the files of conf/ say, as the warm process does."""
    with pytest.MonkeyPatch.context() as patch:
        forked.keep_conf(patch.setattr)
        yield


@pytest.fixture(scope="session", autouse=True)
def _people_are_painted_once() -> Iterator[None]:
    """Keep small synthetic pictures: painting takes a third of a tiny training, epoch by epoch."""
    from convpose.data.synthetic import SyntheticSource

    paint, known = SyntheticSource.read_image, {}

    @functools.wraps(paint)
    def kept(source: SyntheticSource, index: int) -> Any:
        key = source._size_px, source._seed, index  # on which alone a picture depends
        if source._size_px > 64:
            return paint(source, index)
        if key not in known:
            known[key] = paint(source, index)
        return copy.deepcopy(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SyntheticSource, "read_image", kept)
        yield


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four epochs with all that is random."""
    from tiny import RANDOM, tiny_run

    folder = tmp_path_factory.mktemp("unbroken")
    tiny_run(folder, *RANDOM)
    return folder


@pytest.fixture(scope="session")
def trained(unbroken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that run to use its network; files may be added to it."""
    return Path(shutil.copytree(unbroken, tmp_path_factory.mktemp("trained") / "run"))


@pytest.fixture(scope="session")
def onnx_file(trained: Path) -> Path:
    """Its ONNX file, where `convpose.export` puts it, with a report in ``made``."""
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"ONNX needs {package}")
    from tiny import composed

    from convpose.export.command import export

    report = f"report={trained / 'made' / 'report.json'}"
    return export(composed("export", f"run={trained}", report))


@pytest.fixture
def one_graph(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the one graph of the tiny run instead of tracing another, which takes seconds."""
    import onnx

    from convpose.export import network
    from convpose.runtime import KEY

    def copy(deployed: object, input_size_px: int, facts: dict[str, object], path: Path) -> None:
        graph = onnx.load(onnx_file)
        onnx.helper.set_model_props(graph, {KEY: json.dumps(facts)})
        onnx.save(graph, path)

    monkeypatch.setattr(network, "write_onnx", copy)


@pytest.fixture(scope="session", autouse=True)
def _warm_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Share the process that begins commands with the other processes of this session."""
    own = tmp_path_factory.getbasetemp()
    forked.folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "forked"
    yield
    forked.close()


@pytest.fixture
def forker(tmp_path: Path) -> Iterator[forked.Forker]:
    """Begins commands in an empty folder, without the imports."""
    found = forked.Forker(tmp_path)
    yield found
    found.settle()


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Command":
    """`python -m convpose.train` in this process, in an empty folder."""
    from tiny import Command

    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)
