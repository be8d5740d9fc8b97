"""Importances of the runs of a sweep: the key that moves the metric has most of them."""

import pytest

from convpose.compare.columns import Column
from convpose.compare.comparison import Comparison
from convpose.search.space import importance_of_runs


def key(name: str, values: list, rank: int | None = 0) -> Column:
    return Column(name, name, values, [str(v) for v in values], "key", rank)


def sweep(*columns: Column, pck: list) -> Comparison:
    monitor = Column("val/pck@0.2", "PCK", pck, [str(v) for v in pck], "metric")
    return Comparison("sweep", [], monitor.name, "max", [monitor, *columns], [], [])


LR = [0.001, 0.01, 0.1, 1.0] * 4
HEAD = ["regression", "heatmap"] * 8
PCK = [0.2 + 0.1 * (i % 4) + 0.001 * (i % 3) for i in range(16)]


def test_the_key_that_moves_the_metric_comes_first() -> None:
    found = importance_of_runs(
        sweep(key("model.dropout", [0, 0.5, 0.5, 0] * 4), key("lr", LR), pck=PCK)
    )
    assert found is not None
    assert [name for name, _ in found.rows] == ["lr", "model.dropout"]
    first, second = (float(share.removesuffix(" %")) for _, share in found.rows)
    assert first > 70
    assert first + second == pytest.approx(100, abs=1)


def test_words_are_choices_and_what_no_table_shows_is_left_out() -> None:
    found = importance_of_runs(
        sweep(key("head", HEAD), key("path", [str(i) for i in range(16)], rank=None), pck=PCK)
    )
    assert found is not None
    assert [name for name, _ in found.rows] == ["head"]


def test_runs_without_the_key_or_a_result_do_not_count() -> None:
    few = sweep(key("lr", [None, *LR[1:]]), pck=[0.9, 0.1, 0.2, 0.3, *[None] * 12])
    assert importance_of_runs(few) is None
    assert importance_of_runs(sweep(pck=PCK)) is None
