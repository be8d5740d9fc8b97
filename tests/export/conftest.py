"""A tiny run to export, and its ONNX file."""

import json
import shutil
from pathlib import Path

import pytest
from exports import export_config


@pytest.fixture(scope="session")
def trained(unbroken, tmp_path_factory):
    """The folder of a tiny run; files may be added to it."""
    return Path(shutil.copytree(unbroken, tmp_path_factory.mktemp("trained") / "run"))


@pytest.fixture(scope="session")
def onnx_file(trained):
    """Its ONNX file, where the command puts it."""
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"ONNX needs {package}")
    from convpose.export.command import export

    return export(export_config(f"run={trained}", f"report={trained / 'made' / 'report.json'}"))


@pytest.fixture
def one_graph(onnx_file, monkeypatch):
    """Graphs of the tiny run are copies of its one, with their own facts: tracing takes seconds."""
    import onnx

    from convpose.export import files
    from convpose.runtime.exported import KEY

    def copy(network, input_size_px, facts, path):
        graph = onnx.load(onnx_file)
        onnx.helper.set_model_props(graph, {KEY: json.dumps(facts)})
        onnx.save(graph, path)

    monkeypatch.setattr(files, "write_onnx", copy)
