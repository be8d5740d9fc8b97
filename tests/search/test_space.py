"""Search spaces: read, refused, sampled, written as overrides."""

import itertools

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from convpose.errors import ConfigError
from convpose.search.space import corners, grid, overrides, read_space, short, suggest

FLOAT = "optuna.distributions.FloatDistribution"
SPACE = {
    "optimizer.lr": FloatDistribution(0.001, 1.0, log=True),
    "data.batch_size": CategoricalDistribution([16, 32, 64]),
    "model.dropout": FloatDistribution(0.0, 0.3, step=0.1),
    "head": CategoricalDistribution(["regression", "heatmap"]),
    "head.hidden": IntDistribution(64, 256, step=64),
}


def read(**parameters):
    return read_space(OmegaConf.create(parameters))


def test_keys_are_nested_and_null_is_left_out():
    lr = {"_target_": FLOAT, "low": 0.1, "high": 1, "log": True}
    space = read(optimizer={"lr": lr, "momentum": None}, seed={**lr, "log": False})
    assert space == {
        "optimizer.lr": FloatDistribution(0.1, 1, log=True),
        "seed": FloatDistribution(0.1, 1),
    }


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        ({"low": 1.0, "high": 0.1}, "search.parameters.optimizer.lr: `low <= high` must hold"),
        ({"low": 0.0, "high": 1.0, "log": True}, "`low > 0` must hold for `log=True`"),
        ({"low": 0.1}, "search.parameters.optimizer.lr.high is missing; keys there: low, high"),
        ({"low": "a", "high": 1.0}, "search.parameters.optimizer.lr.low=a: expected a number"),
        ({"low": 0.1, "high": 1.0, "lgo": True}, "unknown key search.parameters.optimizer.lr.lgo"),
        ({"_target_": "torch.nn.ReLU"}, "expected _target_: optuna.distributions.Float"),
    ],
)
def test_a_range_that_is_none_is_refused(lr, message):
    with pytest.raises(ConfigError) as error:
        read(optimizer={"lr": {"_target_": FLOAT, **lr}})
    assert message in str(error.value)


def test_a_value_is_no_distribution():
    with pytest.raises(ConfigError, match=r"search\.parameters\.optimizer\.lr=0\.1: expected _tar"):
        read(optimizer={"lr": 0.1})


@pytest.mark.parametrize("parameters", [{}, {"optimizer": {"lr": None}}])
def test_nothing_to_search(parameters):
    with pytest.raises(ConfigError, match=r"search\.parameters is empty"):
        read(**parameters)


def test_values_lie_in_the_space():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        values = suggest(study.ask(), SPACE)
        assert list(values) == list(SPACE)
        assert 0.001 <= values["optimizer.lr"] <= 1
        assert values["data.batch_size"] in (16, 32, 64)
        assert values["head.hidden"] in (64, 128, 192, 256)
    drawn = {trial.params["head"] for trial in study.trials}
    assert drawn == {"regression", "heatmap"}


VALUES = [0.1, 1e-05, 3, True, None, "vgg_bn", "true", "a b", "it's", "a,b", "", "[1]", "1e3"]
VALUES += ["é", "(x)", "2024_a"]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_an_override_is_read_back_as_the_same_value(value):
    (line,) = overrides({"optimizer.lr": value})
    (parsed,) = OverridesParser.create().parse_overrides([line])
    assert parsed.key_or_group == "optimizer.lr"
    assert parsed.value() == value
    assert type(parsed.value()) is type(value)


def test_overrides_have_no_dust():
    assert overrides({"a": 0.1 + 0.2, "b": "sgd"}) == ["a=0.3", "b=sgd"]


def test_numbers_are_shortened_for_reading():
    assert [short(value) for value in (0.0123456, "vgg_bn", 16, 1e-5)] == [
        *("0.0123", "vgg_bn", "16", "1e-05")
    ]


def test_a_grid_has_every_value():
    stepped = {key: SPACE[key] for key in ("data.batch_size", "model.dropout", "head.hidden")}
    points = grid(stepped)
    assert points["data.batch_size"] == [16, 32, 64]
    assert points["model.dropout"] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert points["head.hidden"] == [64, 128, 192, 256]


@pytest.mark.parametrize("log", [True, False])
def test_a_grid_needs_steps(log):
    with pytest.raises(ConfigError, match=r"search\.parameters\.x: a grid needs values; give the"):
        grid({"x": FloatDistribution(0.1, 1, log=log)})
    with pytest.raises(ConfigError, match="a grid needs values"):
        grid({"x": IntDistribution(1, 8, log=True)})


def test_corners_hold_every_bound_and_choice():
    found = corners(SPACE)
    assert len(found) == 3  # the most choices
    seen = {key: {values[key] for values in found} for key in SPACE}
    assert seen["optimizer.lr"] == {0.001, 1.0}
    assert seen["data.batch_size"] == {16, 32, 64}
    assert seen["head"] == {"regression", "heatmap"}
    assert seen["head.hidden"] == {64, 256}
    assert all(set(values) == set(SPACE) for values in found)
    assert len(list(itertools.chain(*found))) == 15
