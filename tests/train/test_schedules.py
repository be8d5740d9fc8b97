"""Learning rates by hand."""

import math

import pytest
import torch

from convpose.train.optim import constant, cosine, step


def rates(schedule, total_steps, count=None, **keys):
    """The rate of each step, its peak being 2."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer, total_steps, **keys)
    seen = []
    for _ in range(count or total_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_constant():
    assert rates(constant, 5) == [2.0] * 5


def test_cosine_rises_in_a_line_then_falls_in_half_a_cosine():
    # 10 steps, the first two rise: 1/2 and 2/2 of the peak; then 8 steps from 0 to 7/8 of the way
    falls = [1 + math.cos(math.pi * k / 8) for k in range(8)]
    assert rates(cosine, 10, warmup=0.2) == pytest.approx([1.0, 2.0, *falls])
    assert falls[4] == pytest.approx(1.0)  # half the peak half of the way down


def test_cosine_ends_at_its_final_share_and_stays_there():
    assert rates(cosine, 10, count=14, warmup=0.2, final=0.1)[10:] == pytest.approx([0.2] * 4)


def test_step_falls_at_its_milestones():
    assert rates(step, 10, warmup=0.2, milestones=(0.5, 0.8), gamma=0.1) == pytest.approx(
        [1.0, 2.0, 2.0, 2.0, 2.0, 0.2, 0.2, 0.2, 0.02, 0.02]
    )
    assert rates(step, 4, warmup=0, milestones=()) == [2.0] * 4


@pytest.mark.parametrize("schedule", [cosine, step])
def test_the_defaults_warm_up_for_a_twentieth_and_never_start_at_zero(schedule):
    seen = rates(schedule, 200)
    assert seen[:10] == pytest.approx([0.2 * k for k in range(1, 11)])
    assert max(seen) == 2.0
    assert rates(schedule, 1) == [2.0]


def test_a_resumed_schedule_goes_on():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = cosine(optimizer, 10)
    for _ in range(4):
        optimizer.step()
        scheduler.step()
    resumed = cosine(optimizer, 10)
    resumed.load_state_dict(scheduler.state_dict())
    assert resumed.get_last_lr() == scheduler.get_last_lr()
    optimizer.step()
    resumed.step()
    assert resumed.get_last_lr() == pytest.approx([rates(cosine, 10)[5]])
