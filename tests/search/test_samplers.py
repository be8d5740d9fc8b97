"""Samplers: other values for every worker, the same for an interrupted search, every grid point."""

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from convpose.search.space import is_grid, sampler, suggest
from convpose.search.storage import requeue

SPACE = {"x": FloatDistribution(0.0, 1.0), "y": CategoricalDistribution([1, 2, 3])}
STEPS = {"x": FloatDistribution(0.0, 1.0, step=0.5), "y": CategoricalDistribution([1, 2, 3])}
TPE = OmegaConf.create({"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2})
GRID = OmegaConf.create({"_target_": "convpose.search.space.Grid"})


def draw(node, space, numbers, study=None, seed=0):
    study = study or optuna.create_study()
    values = []
    for number in numbers:
        study.sampler = sampler(node, space, seed, number)
        trial = study.ask()
        values.append(tuple(suggest(trial, space).values()))
        study.tell(trial, values[-1][0])
    return values


def test_a_search_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    whole = draw(TPE, SPACE, range(6))
    storage = f"sqlite:///{tmp_path}/study.db"
    first = draw(TPE, SPACE, range(3), optuna.create_study(study_name="s", storage=storage))
    rest = draw(TPE, SPACE, range(3, 6), optuna.load_study(study_name="s", storage=storage))
    assert first + rest == whole
    assert len(set(whole)) == 6


def test_workers_that_begin_at_once_draw_differently():
    assert draw(TPE, SPACE, [0]) != draw(TPE, SPACE, [1])
    assert draw(TPE, SPACE, [0]) != draw(TPE, SPACE, [0], seed=1)


def test_a_seed_in_the_yaml_is_taken():
    seeded = OmegaConf.merge(TPE, {"seed": 7})
    assert draw(seeded, SPACE, [0]) == draw(seeded, SPACE, [1])


def test_a_grid_visits_every_point_once():
    assert is_grid(GRID)
    assert not is_grid(TPE)
    study = optuna.create_study()
    for _ in range(9):
        study.add_trial(create_trial(state=TrialState.WAITING))
    points = draw(GRID, STEPS, range(9), study)
    assert sorted(points) == [(x, y) for x in (0.0, 0.5, 1.0) for y in (1, 2, 3)]
    assert points != sorted(points), "the order is random"


@pytest.mark.parametrize("node", [TPE, GRID], ids=["tpe", "grid"])
def test_a_repeated_trial_keeps_its_values(node):
    study = optuna.create_study()
    study.add_trial(create_trial(state=TrialState.WAITING))
    study.sampler = sampler(node, STEPS, 0, 0)
    values = suggest(study.ask(), STEPS)
    study.tell(0, state=TrialState.FAIL)
    requeue(study, study.trials[0])
    study.sampler = sampler(node, STEPS, 0, 1)
    assert suggest(study.ask(), STEPS) == values
