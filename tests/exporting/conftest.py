"""A tiny run to export, and its ONNX file."""

import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from convpose.application import conf_folder
from convpose.exporting.command import export


def export_config(*overrides):
    """The composed configuration of `convpose.export`."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose("export", list(overrides))


@pytest.fixture(scope="session")
def trained(unbroken, tmp_path_factory):
    """The folder of a tiny run; files may be added to it."""
    return Path(shutil.copytree(unbroken, tmp_path_factory.mktemp("trained") / "run"))


@pytest.fixture(scope="session")
def onnx_file(trained):
    """Its ONNX file, where the command puts it."""
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"ONNX needs {package}")
    return export(export_config(f"run={trained}"))
