"""What the user reads where a disk cannot be written to."""

import errno

import pytest

from convpose.errors import ConfigError
from convpose.files import check_output, disk_trouble


def failed(number, filename=None):
    return OSError(number, "words of the system", filename)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(number, tmp_path):
    assert disk_trouble(failed(number), tmp_path) == (
        f"{tmp_path}: no space left; free some, or type paths.runs=FOLDER on another disk"
    )


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_locked_folder(number):
    assert disk_trouble(failed(number, "runs/single")) == (
        "runs/single: words of the system; type paths.runs=FOLDER, one that you can write to"
    )


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
