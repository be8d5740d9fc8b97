"""A tiny run to export, and its ONNX file."""

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
    from convpose.exporting.command import export

    return export(export_config(f"run={trained}"))
