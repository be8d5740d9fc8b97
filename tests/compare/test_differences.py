"""Tell what differs between configurations, and what only follows from that."""

import pytest

from convpose.compare.columns import abbreviate, differences, short_titles


def keys(*configs, overridden=(), by_choice=True):
    return differences(configs, set(overridden), by_choice)


def test_only_what_differs():
    assert keys({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3, "c": None}) == (["b"], [])
    assert keys({"a": 1}, {"a": 1}) == ([], [])
    assert keys({"a": 1}) == ([], [])


def test_a_key_that_some_lack_differs():
    assert keys({"a": 1}, {"a": 1, "model.new": 1}) == (["model.new"], [])
    assert keys({"a": None}, {}) == (["a"], []), "null is a value, to lack it is none"


SGD = {"optimizer": "sgd", "optimizer.lr": 0.05, "optimizer.momentum": 0.9}
ADAM = {"optimizer": "adamw", "optimizer.lr": 0.002}


class TestOfAGroup:
    def test_keys_that_follow_from_the_choice(self):
        leading, implied = keys(SGD, ADAM, SGD)
        assert (leading, implied) == (["optimizer"], ["optimizer.lr", "optimizer.momentum"])

    def test_what_was_set_by_hand_never_follows(self):
        leading, _ = keys(SGD, ADAM, overridden=["optimizer.lr"])
        assert leading == ["optimizer", "optimizer.lr"]

    def test_a_key_that_varies_within_a_choice(self):
        leading, implied = keys(SGD, ADAM, SGD | {"optimizer.lr": 0.1})
        assert (leading, implied) == (["optimizer", "optimizer.lr"], ["optimizer.momentum"])

    def test_classes_say_less_than_choices(self):
        leading, implied = keys(SGD, ADAM, by_choice=False)
        assert leading == ["optimizer", "optimizer.lr"], "two yaml files may name one class"
        assert implied == ["optimizer.momentum"], "the other class has no such key"


def test_copies_follow():
    one, other = {"monitor": "val/loss", "m.mode": "x"}, {"monitor": "val/auc", "m.mode": "y"}
    copies = [c | {"callbacks.checkpoint.monitor": c["monitor"]} for c in (one, other)]
    assert keys(*copies) == (["monitor", "m.mode"], ["callbacks.checkpoint.monitor"])


def test_equal_numbers_are_no_copies():
    assert keys({"a": 1, "b": 1}, {"a": 2, "b": 2}) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["t_1_000_lr-1", "t_1_001_lr-2"], ["…_000", "…_001"]),
        (["d_10-00_lr", "d_10-05_lr", "d_10-05_bs"], ["…_10-00_lr", "…_10-05_lr", "…_10-05_bs"]),
        (["a", "b"], ["a", "b"]),
        (["a_x", "a"], ["…_x", "…"]),
        (["only_one"], ["only_one"]),
        ([], []),
    ],
)
def test_names_are_cut_to_what_tells_them_apart(names, short):
    assert abbreviate(names) == short


def test_titles_are_as_short_as_they_are_unique():
    titles = short_titles(["optimizer.lr", "model.dropout", "head.dropout", "seed", "x.seed"])
    assert titles == ["lr", "model.dropout", "head.dropout", "seed", "x.seed"]
