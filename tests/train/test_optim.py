"""Parameter groups, frozen parameters and schedules: every parameter once, at its own rate."""

import math
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from tiny import tiny_config
from torch import nn

from convpose.data.build import build_datamodule
from convpose.models.build import build_model
from convpose.train.build import build_module, build_trainer
from convpose.train.callbacks import FreezeBackbone
from convpose.train.module import ParameterGroups, constant, cosine, step


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
        self.head = nn.Linear(2, 1)


def factors(groups):
    return {p: group["lr_factor"] for group in groups for p in group["params"]}


def test_every_parameter_is_in_one_group_the_head_first():
    network, loss = Network(), nn.Linear(1, 1)
    groups = ParameterGroups(backbone_lr=0.1)(network, loss)
    parameters = [p for group in groups for p in group["params"]]
    assert len(parameters) == len({*parameters})
    assert {*parameters} == {*network.parameters(), *loss.parameters()}
    assert groups[0]["lr_factor"] == 1
    of = factors(groups)
    assert all(of[p] == 0.1 for p in network.backbone.parameters())
    assert all(of[p] == 1 for p in (*network.head.parameters(), *loss.parameters()))


def test_layers_between_first_and_last_follow_geometrically():
    network = Network()
    of = factors(ParameterGroups(backbone_lr=0.5, first_layer_lr=0.04)(network, nn.Identity()))
    first, norm, last = (of[layer.weight] for layer in network.backbone)
    assert (first, norm, last) == pytest.approx((0.02, 0.1, 0.5))


@pytest.mark.parametrize("everywhere", [False, True])
def test_norms_and_biases_decay_only_when_asked(everywhere):
    network = Network()
    groups = ParameterGroups(decay_norms=everywhere)(network, nn.Identity())
    spared = {p for group in groups if "weight_decay" in group for p in group["params"]}
    assert all(g.get("weight_decay", 0) == 0 for g in groups)
    expected = {p for p in network.parameters() if p.ndim == 1}
    assert spared == (set() if everywhere else expected)


def test_the_optimizer_gets_the_rates():
    cfg = tiny_config("parameters.backbone_lr=0.25", "optimizer.lr=0.08")
    module = build_module(cfg, build_model(cfg))
    head, backbone = module.model.head.output.weight, module.model.backbone.features[0].weight
    for found, peak in ((None, 0.08), (0.5, 0.5)):
        module.learning_rate = found  # by lr_find=true
        groups = module.make_optimizer().param_groups
        rate = {p: group["lr"] for group in groups for p in group["params"]}
        assert (rate[head], rate[backbone]) == pytest.approx((peak, peak / 4))


def test_a_frozen_backbone_stays_until_it_is_thawed(tmp_path):
    cfg = tiny_config("trainer.max_epochs=2")
    states = []

    class Watch(FreezeBackbone):
        def on_train_epoch_end(self, trainer: Trainer, pl_module) -> None:
            state = pl_module.model.state_dict()
            states.append({k: v.clone() for k, v in state.items()})

    module = build_module(cfg, build_model(cfg))
    start = {k: v.clone() for k, v in module.model.state_dict().items()}
    build_trainer(cfg, [Watch(epochs=1)], False, tmp_path).fit(
        module, datamodule=build_datamodule(cfg)
    )
    frozen, thawed = states
    backbone = [k for k in start if k.startswith("backbone.")]
    assert any("running_mean" in k for k in backbone)
    assert all(torch.equal(frozen[k], start[k]) for k in backbone), "statistics included"
    assert not torch.equal(frozen["head.output.weight"], start["head.output.weight"])
    assert not torch.equal(thawed[backbone[0]], frozen[backbone[0]])
    means = [k for k in backbone if "running_mean" in k]
    assert not any(torch.equal(thawed[k], frozen[k]) for k in means), "they learn again"


def test_several_processes_freeze_by_leaving_gradients_out():
    """Leave them out of the step alone: each process waits for those of every parameter."""
    network, freeze = Network(), FreezeBackbone(epochs=1)
    start = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    for epoch in (0, 1):
        trainer = SimpleNamespace(world_size=2, current_epoch=epoch)
        freeze.on_train_epoch_start(trainer, SimpleNamespace(model=network))
        network.head(network.backbone(torch.rand(4, 2))).sum().backward()
        assert all(p.grad is not None for p in network.parameters())
        freeze.on_before_optimizer_step(trainer, None, optimizer)
        optimizer.step()
        moved = {k for k, v in network.state_dict().items() if not torch.equal(v, start[k])}
        assert any(k.startswith("head.") for k in moved)
        assert any(k.startswith("backbone.") for k in moved) == (epoch == 1)


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


def test_rates_by_hand():
    assert rates(constant, 5) == [2.0] * 5
    # 10 steps, the first two rise: 1/2 and 2/2 of the peak; then 8 steps from 0 to 7/8 of the way
    falls = [1 + math.cos(math.pi * k / 8) for k in range(8)]
    assert rates(cosine, 10, warmup=0.2) == pytest.approx([1.0, 2.0, *falls])
    assert falls[4] == pytest.approx(1.0)  # half the peak half of the way down
    assert rates(cosine, 10, count=14, warmup=0.2, final=0.1)[10:] == pytest.approx([0.2] * 4)
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
