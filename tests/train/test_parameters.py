"""Parameter groups: every parameter once, at its own rate."""

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
from convpose.train.optim import ParameterGroups


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
        self.head = nn.Linear(2, 1)


def rates(groups):
    return {p: group["lr_factor"] for group in groups for p in group["params"]}


def test_every_parameter_is_in_one_group_the_head_first():
    network, loss = Network(), nn.Linear(1, 1)
    groups = ParameterGroups(backbone_lr=0.1)(network, loss)
    parameters = [p for group in groups for p in group["params"]]
    assert len(parameters) == len({*parameters})
    assert {*parameters} == {*network.parameters(), *loss.parameters()}
    assert groups[0]["lr_factor"] == 1
    of = rates(groups)
    assert all(of[p] == 0.1 for p in network.backbone.parameters())
    assert all(of[p] == 1 for p in (*network.head.parameters(), *loss.parameters()))


def test_layers_between_first_and_last_follow_geometrically():
    network = Network()
    of = rates(ParameterGroups(backbone_lr=0.5, first_layer_lr=0.04)(network, nn.Identity()))
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


def test_the_optimizer_gets_the_rates(tmp_path):
    cfg = tiny_config("parameters.backbone_lr=0.25", "optimizer.lr=0.08", "scheduler=constant")
    datamodule = build_datamodule(cfg)
    module = build_module(cfg, build_model(cfg))
    trainer = build_trainer(cfg, [], False, tmp_path)
    trainer.fit(module, datamodule=datamodule)
    head, backbone = module.model.head.output.weight, module.model.backbone.features[0].weight
    rate = {p: group["lr"] for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert rate[head] == pytest.approx(0.08)
    assert rate[backbone] == pytest.approx(0.02)


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
    """Which they exchange all the same: each waits for those of every parameter."""
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
