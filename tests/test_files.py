"""Files are written as a whole or not at all; a disk that refuses is explained."""

import errno
import os
import time
from pathlib import Path

import pytest

from convpose import files
from convpose.errors import ConfigError
from convpose.files import check_output, disk_trouble


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
    files.keep(source, path)
    assert path.samefile(source) is links
    files.write(source, "b")
    assert (source.read_text(), path.read_text()) == ("b", "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.ckpt", "next.ckpt"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("here/runs/a", "runs/a"),
        ("here", "."),
        ("beside/a", "../beside/a"),
        ("/far/a", "/far/a"),
        ("here/my runs/a", "my runs/a"),
    ],
)
def test_a_path_is_shown_from_the_working_folder_where_that_is_shorter(
    path, said, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert files.shown(tmp_path / path) == said
    assert files.shown(said) == said


def test_a_path_is_shown_where_its_links_lead(tmp_path, monkeypatch):
    for folder in ("here", "far/deep", "far/deep/down"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "far" / "deep")
    monkeypatch.chdir(tmp_path / "here")
    for typed, said in {
        "link/a": "link/a",
        "link/../a": "../far/a",
        "../here/link/a": "link/a",
        "link/down/../a": "../far/deep/a",
    }.items():
        assert files.shown(typed) == said
        Path(typed).write_text(typed)
        assert Path(files.shown(typed)).read_text() == typed


def failed(number, filename=None):
    return OSError(number, "words of the system", filename)


FULL = "no space left; free some, or type paths.runs=FOLDER on another disk"
LOCKED = "words of the system; type paths.runs=FOLDER, one that you can write to"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        *((number, FULL) for number in (errno.ENOSPC, errno.EDQUOT)),
        *((number, LOCKED) for number in (errno.EROFS, errno.EACCES, errno.ENAMETOOLONG)),
    ],
)
def test_a_full_disk_and_a_locked_folder(number, message, tmp_path):
    assert disk_trouble(failed(number), tmp_path) == f"{tmp_path}: {message}"
    assert disk_trouble(failed(number, "runs/single")) == f"runs/single: {message}"


def test_the_key_that_helps_is_named():
    full = disk_trouble(failed(errno.ENOSPC), Path("o"), "output=FOLDER")
    assert full == "o: no space left; free some, or type output=FOLDER on another disk"
    long = disk_trouble(failed(errno.EFBIG), Path("o"), "output=FOLDER")
    assert long == "o: a file would grow over its limit (ulimit -f); raise it, or write less"


def test_a_run_that_can_go_on_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert disk_trouble(failed(errno.ENOSPC), tmp_path).endswith(
        f". The same command with ckpt_path=last continues {tmp_path} from its last epoch"
    )


@pytest.mark.parametrize("error", [failed(errno.ENOENT, "a"), ValueError("b"), OSError("c")])
def test_every_other_error_is_left_alone(error, tmp_path):
    assert disk_trouble(error, tmp_path) is None


@pytest.mark.parametrize(
    ("path", "file", "message"),
    [
        ("taken", False, "taken: cannot be written (Not a directory); type output=FOLDER"),
        ("taken/new/a.png", True, "a.png: cannot be written (Not a directory); type output=FILE"),
        ("folder", True, "folder: cannot be written (Is a directory); type output=FILE"),
    ],
)
def test_what_is_in_the_way_of_an_output(path, file, message, tmp_path):
    (tmp_path / "taken").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError) as refused:
        check_output(tmp_path / path, file=file)
    assert str(refused.value).endswith(message)
    check_output(tmp_path / "new" / "folder", file=file)
    assert len(list(tmp_path.iterdir())) == 2


def test_what_killed_processes_left_is_removed_by_age(tmp_path):
    for name in ("a.1.part", "a.2.part", "b.1.part"):
        (tmp_path / name).touch()
    (tmp_path / "a.3.part").mkdir()
    for name in ("a.1.part", "a.3.part", "b.1.part"):
        os.utime(tmp_path / name, (0, time.time() - files.LEFT_S - 60))
    files.remove_left(tmp_path, "a.*.part")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.2.part", "b.1.part"]
