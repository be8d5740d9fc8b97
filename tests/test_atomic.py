"""A file is there as a whole or not at all."""

import os

import pytest

from convpose import files


def test_a_file_takes_its_place_when_all_has_gone_well(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with files.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    files.write(path, "newer: 30°")
    assert path.read_bytes() == "newer: 30°".encode()
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_attempt_that_failed_leaves_nothing(error, tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with pytest.raises(error), files.replacing(path) as file:  # noqa: PT012
        file.write(b"half")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_outlives_the_first(links, tmp_path, monkeypatch):
    source, path = tmp_path / "next.ckpt", tmp_path / "best.ckpt"
    source.write_text("a")
    path.write_text("older")
    (tmp_path / "best.ckpt.part").write_text("left by a process that was killed")
    if not links:

        def refuse(source, path):
            raise PermissionError("this file system has no hard links")

        monkeypatch.setattr(os, "link", refuse)
    files.duplicate(source, path)
    assert path.samefile(source) is links
    files.write(source, "b")
    assert (source.read_text(), path.read_text()) == ("b", "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.ckpt", "next.ckpt"]
