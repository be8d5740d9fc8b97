"""The history of a run, one row an epoch."""

import math

import pytest

from convpose.errors import DataError
from convpose.history import best_row, read_history, write_history

ROWS = [
    {"epoch": 0.0, "train/loss": 0.5, "val/pck@0.2": 0.1},
    {"epoch": 1.0, "train/loss": 0.25},
    {"epoch": 2.0, "train/loss": 1e-7, "val/pck@0.2": 0.123456789012345},
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


def test_what_is_written_is_read_to_the_last_digit(path):
    write_history(path, ROWS)
    assert read_history(path) == ROWS
    assert path.read_text().splitlines()[:3] == [
        "epoch,train/loss,val/pck@0.2",
        "0.0,0.5,0.1",
        "1.0,0.25,",
    ]


def test_a_column_may_come_later_and_numbers_may_be_none(path):
    rows = [{"epoch": 0.0}, {"epoch": 1.0, "late": math.inf}, {"epoch": 2.0, "late": math.nan}]
    write_history(path, rows)
    read = read_history(path, "late")
    assert read[:2] == rows[:2]
    assert math.isnan(read[2]["late"])


def test_rewriting_replaces_the_file_and_leaves_nothing_beside_it(path):
    write_history(path, ROWS[:1])
    write_history(path, ROWS)
    assert len(read_history(path)) == 3
    assert list(path.parent.iterdir()) == [path]


class Torn:
    """Breaks the writing of its row."""

    def __str__(self):
        raise OSError("disk full")


def test_a_failed_write_leaves_the_old_file(path):
    write_history(path, ROWS)
    with pytest.raises(OSError, match="disk full"):
        write_history(path, [*ROWS, {"epoch": Torn()}])
    assert read_history(path) == ROWS


class TestRefused:
    def test_no_file(self, path):
        with pytest.raises(DataError, match=r"metrics\.csv: no such file; a training writes it"):
            read_history(path)

    def test_bytes_that_are_no_text(self, path):
        path.write_bytes(b"epoch\xff\n0\n")
        with pytest.raises(DataError, match=r"metrics\.csv: not a CSV file in UTF-8"):
            read_history(path)

    def test_no_column(self, path):
        write_history(path, ROWS)
        with pytest.raises(
            DataError, match=r"no column val/los; it has epoch, train/loss, val/pck"
        ):
            read_history(path, "train/loss", "val/los")

    def test_no_epoch_yet(self, path):
        path.write_text("epoch,val/loss\n")
        with pytest.raises(DataError, match=r"metrics\.csv: no epoch yet"):
            read_history(path)

    def test_an_empty_file(self, path):
        path.write_text("")
        with pytest.raises(DataError, match=r"metrics\.csv: no column epoch; it has "):
            read_history(path)

    @pytest.mark.parametrize("line", [",0.2", "nan,0.2", "inf,0.2"])
    def test_a_row_without_its_epoch(self, path, line):
        path.write_text(f"epoch,val/loss\n0,0.5\n{line}\n")
        with pytest.raises(DataError, match=r"metrics\.csv: a row without its epoch"):
            read_history(path)

    @pytest.mark.parametrize("line", ["1,low", "1,0.2,0.3", "1", "1,0.2\0"])
    def test_no_numbers(self, path, line):
        path.write_text(f"epoch,val/loss\n0,0.5\n{line}\n")
        with pytest.raises(DataError, match=r"metrics\.csv: line 3 is no row of numbers"):
            read_history(path)


class TestBest:
    @pytest.mark.parametrize(("mode", "epoch"), [("max", 2), ("min", 0)])
    def test_the_best_epoch(self, mode, epoch):
        assert best_row(ROWS, "val/pck@0.2", mode) == ROWS[epoch]

    def test_what_is_not_finite_is_never_best(self):
        rows = [{"loss": math.nan}, {"loss": 3.0}, {"loss": -math.inf}, {"loss": math.inf}]
        assert best_row(rows, "loss", "min") == {"loss": 3.0}
        assert best_row(rows, "loss", "max") == {"loss": 3.0}

    def test_the_first_of_equals(self):
        rows = [{"epoch": 0, "loss": 1.0}, {"epoch": 1, "loss": 1.0}]
        assert best_row(rows, "loss", "max") == best_row(rows, "loss", "min") == rows[0]

    def test_none(self):
        assert best_row([], "loss", "max") == {}
        assert best_row([{"loss": math.nan}], "loss", "max") == {}
        assert best_row(ROWS, "unknown", "max") == {}
