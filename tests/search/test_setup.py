"""Every yaml of a search: composed, sampled, built. A new one is picked up from its folder."""

import shlex
from types import SimpleNamespace

import optuna
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from optuna.trial import TrialState
from tiny import composed

from convpose.config.instantiate import build
from convpose.errors import ConfigError
from convpose.files import conf_folder
from convpose.search.setup import check_space, command, common_settings, number_of_trials
from convpose.search.space import is_grid, overrides, read_space, sampler, suggest

pytestmark = pytest.mark.slow
CONF = conf_folder()


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.fixture
def compose_():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *typed: compose("search", list(typed))


@pytest.mark.parametrize("name", options("search"))
def test_every_key_of_a_space_exists_and_takes_its_values(name, compose_):
    space = read_space(compose_(f"search={name}").search.parameters)
    check_space(space, [])
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    values = suggest(trial, space)
    cfg = compose("train", overrides(values))
    for key, value in values.items():
        found = cfg
        for part in key.split("."):
            found = found[part]
        assert found == pytest.approx(value)


@pytest.mark.parametrize("name", options("sampler"))
def test_every_sampler_goes_with_every_pruner(name, compose_):
    cfg = compose_(f"sampler={name}", "~search.parameters.optimizer")
    space = read_space(cfg.search.parameters)
    for pruner in options("pruner"):
        cfg.pruner = OmegaConf.load(CONF / "pruner" / f"{pruner}.yaml")
        study = optuna.create_study(pruner=build(cfg.pruner, "pruner"), direction="maximize")
        for number in range(3):
            study.sampler = sampler(cfg.sampler, space, 0, number)
            study.add_trial(optuna.create_trial(state=TrialState.WAITING))
            trial = study.ask()
            value = suggest(trial, space)["model.dropout"]
            trial.report(value, 1)
            assert trial.should_prune() is False
            study.tell(trial, value)
        assert len({tuple(t.params.values()) for t in study.trials}) == 3, pruner


def test_hyperband_knows_the_epochs(compose_):
    cfg = compose_("pruner=hyperband", "trainer.max_epochs=81")
    assert build(cfg.pruner, "pruner")._max_resource == 81


def test_the_number_of_trials(compose_):
    def number(*typed):
        cfg = compose_(*typed)
        return number_of_trials(cfg, read_space(cfg.search.parameters))

    assert number() == 50
    assert number("trials=7") == 7
    grid = ("sampler=grid", "~search.parameters.optimizer")
    assert number(*grid) == 4 * 8
    assert number(*grid, "trials=7") == 7
    assert number(*grid, "trials=99") == 32
    with pytest.raises(ConfigError, match=r"search\.parameters\.optimizer\.lr: a grid needs val"):
        number("sampler=grid")
    assert is_grid(compose_("sampler=grid").sampler)


def test_machines_of_a_study_may_differ(compose_):
    space = read_space(compose_().search.parameters)

    def settings(*typed):
        return common_settings(compose("train", list(typed)), space)

    here = settings()
    assert settings("trainer=cpu", "data.num_workers=3", "data.cache=x", "paths.runs=y") == here
    assert settings("trainer.max_epochs=3") != here
    assert settings("data.crop=box") != here
    assert settings("data.cache_quality=50") != here
    assert settings("paths.data=z", "data.source=a.zip") == here
    assert settings("+data.sources.lspet.mask_unlabelled=false") != here
    assert "low=0.01" in here["optimizer.lr"]


@pytest.mark.parametrize("name", ["rates", "2024_a", "my (first), é"])
def test_the_command_of_a_study_of_any_name_can_be_typed(name):
    setup = SimpleNamespace(name=name, overrides=overrides)
    line = command(setup, SimpleNamespace(params={"optimizer.lr": 0.5}))
    cfg = composed("train", *shlex.split(line.removeprefix("python -m convpose.train ")))
    assert (cfg.study, cfg.optimizer.lr) == (f"{name}_best", 0.5)
