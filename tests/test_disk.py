"""What the user reads where a disk cannot be written to."""

import errno

import pytest

from convpose.disk import disk_trouble


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
