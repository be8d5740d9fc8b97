"""A tiny run to predict with."""

import shutil

import pytest


@pytest.fixture(scope="session")
def box_run(unbroken, tmp_path_factory):
    """The folder of a tiny run on box crops, in whole precision; files may be added to it."""
    return shutil.copytree(unbroken, tmp_path_factory.mktemp("box_run") / "run")
