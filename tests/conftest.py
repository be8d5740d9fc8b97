"""Fixtures that all tests share."""

import json
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from absl import logging as absl_logging  # comes with TensorBoard
from hydra.core.hydra_config import HydraConfig
from hypothesis import settings
from tiny import RANDOM, Command, composed, tiny_run

# A busy machine is no failure, and the same examples every time make a failure repeatable.
settings.register_profile("convpose", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("convpose")

# Hydra sets logging up, which closes every handler there is. Absl's closes its stream with it, and
# that would be pytest's own: no test after that could be captured.
absl_logging.get_absl_handler().python_handler.setStream(sys.__stderr__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests, so that no process waits for them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # stable: the order within a file stays


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
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four epochs with all that is random."""
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
    from convpose.export.command import export

    report = f"report={trained / 'made' / 'report.json'}"
    return export(composed("export", f"run={trained}", report))


@pytest.fixture
def one_graph(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy the one graph of the tiny run instead of tracing another, which takes seconds."""
    import onnx

    from convpose.export import network
    from convpose.runtime.exported import KEY

    def copy(deployed: object, input_size_px: int, facts: dict[str, object], path: Path) -> None:
        graph = onnx.load(onnx_file)
        onnx.helper.set_model_props(graph, {KEY: json.dumps(facts)})
        onnx.save(graph, path)

    monkeypatch.setattr(network, "write_onnx", copy)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`python -m convpose.train` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)
