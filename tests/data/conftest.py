"""The real LSP and LSPET, where CONVPOSE_DATA has their archives."""

import os
from pathlib import Path

import pytest

from convpose.data.lsp import LspSource


def _real(name):
    folder = os.environ.get("CONVPOSE_DATA")
    if not folder or not (Path(folder) / f"{name}_dataset.zip").is_file():
        pytest.skip(f"CONVPOSE_DATA has no {name}_dataset.zip")
    return LspSource(name, None, folder)


@pytest.fixture(scope="session")
def lsp():
    return _real("lsp")


@pytest.fixture(scope="session")
def lspet():
    return _real("lspet")
