"""The real LSP and LSPET, if CONVPOSE_DATA has their archives, and a folder of fakes."""

import os
from pathlib import Path

import pytest
from fake_coco import fake_coco
from fake_flic import fake_flic
from fake_lsp import write_folder
from fake_mpii import fake_mpii, fake_mpii_json

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


@pytest.fixture(scope="session")
def fakes(tmp_path_factory):
    """A data folder with fakes of COCO, MPII (.mat and JSON) and FLIC; tests only read it."""
    folder = tmp_path_factory.mktemp("fakes")
    for stem, files in (
        ("coco", fake_coco()),
        ("mpii", fake_mpii() | fake_mpii_json()),
        ("FLIC", fake_flic()),
    ):
        write_folder(folder / stem, files)
    return folder
