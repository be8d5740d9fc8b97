"""Ring the alarms on their own."""

import json
import logging
import math
from types import SimpleNamespace

import pytest
import torch

from convpose.errors import ModelError
from convpose.train.callbacks import CollapseAlarm, NanGuard

LABELS = torch.rand(32, 14, 2, generator=torch.Generator().manual_seed(0))


def alone(tensor, reduce_op):
    """`Strategy.reduce` of the only process."""
    assert reduce_op == "sum"
    return tensor


def trainer(folder=None):
    return SimpleNamespace(
        current_epoch=4,
        is_global_zero=True,
        is_last_batch=False,
        default_root_dir=str(folder),
        strategy=SimpleNamespace(reduce=alone),
    )


def validate(alarm, predicted, labels=LABELS):
    logged = {}
    module = SimpleNamespace(log=lambda name, value, **_: logged.update({name: value}))
    for part in (slice(0, 20), slice(20, None)):  # two batches of different size
        outputs, batch = {"keypoints": predicted[part]}, {"keypoints": labels[part]}
        alarm.on_validation_batch_end(trainer(), module, outputs, batch, 0)
    alarm.on_validation_epoch_end(trainer(), module)
    return logged["val/spread"]


def test_the_alarm_sounds_once_for_a_constant_pose(caplog):
    alarm = CollapseAlarm(threshold=0.1, patience=3)
    constant = LABELS.mean(dim=0, keepdim=True).expand_as(LABELS)
    with caplog.at_level(logging.WARNING):
        for epoch in range(6):
            assert validate(alarm, constant) == pytest.approx(0.0, abs=1e-6)
            assert len(caplog.records) == (epoch >= 2)
    assert "the network gives one mean pose" in caplog.text
    assert "for 3 epochs" in caplog.text


def test_the_alarm_is_quiet_for_a_living_network(caplog):
    alarm = CollapseAlarm(threshold=0.1, patience=1)
    with caplog.at_level(logging.WARNING):
        assert validate(alarm, LABELS) == pytest.approx(1.0)
        assert validate(alarm, 0.5 + 0.2 * (LABELS - 0.5)) == pytest.approx(0.2, rel=1e-4)
    assert not caplog.records


def test_an_epoch_above_the_threshold_starts_the_count_again(caplog):
    alarm = CollapseAlarm(threshold=0.1, patience=2)
    constant = torch.full_like(LABELS, 0.5)
    for predicted in (constant, LABELS, constant, LABELS):
        validate(alarm, predicted)
    assert not caplog.records


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_the_guard_stops_and_saves_the_ids(loss, tmp_path):
    guard, batch = NanGuard(), {"image_id": ["im00001", "im00002"]}
    guard.on_train_batch_end(trainer(tmp_path), None, {"loss": torch.tensor(0.1)}, batch, 6)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ModelError, match=r"in epoch 4, batch 7.*nan_batch\.json.*lower optimizer"):
        guard.on_train_batch_end(trainer(tmp_path), None, {"loss": torch.tensor(loss)}, batch, 7)
    (saved,) = json.loads((tmp_path / "nan_batch.json").read_text())
    assert saved == {
        "epoch": 4,
        "batch": 7,
        "loss": str(loss),
        "image_ids": ["im00001", "im00002"],
    }


def test_the_guard_stops_for_the_loss_of_another_process(tmp_path):
    beside = trainer(tmp_path)
    beside.strategy.reduce = lambda tensor, reduce_op: tensor + 1
    with pytest.raises(ModelError, match=r"a process has a loss that is not finite in epoch 4"):
        NanGuard().on_train_batch_end(
            beside, None, {"loss": torch.tensor(0.1)}, {"image_id": ["a"]}, 0
        )


class OnGpu(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


def test_the_guard_looks_one_step_behind_a_gpu(tmp_path, monkeypatch):
    waited = []

    class Event:
        def record(self):
            self.step = guard._steps

        def synchronize(self):
            waited.append(self.step)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    guard, one = NanGuard(), trainer(tmp_path)

    def end_of(step, loss, last=False):
        guard._steps, one.is_last_batch = step, last
        outputs = {"loss": torch.tensor(loss).as_subclass(OnGpu)}
        guard.on_train_batch_end(one, None, outputs, {"image_id": [f"im{step}"]}, step)

    end_of(0, 0.3)
    assert waited == []
    end_of(1, 0.2, last=True)
    assert waited == [0, 1], "before the network is validated and saved"
    end_of(2, 0.1)
    end_of(3, math.nan)
    assert waited == [0, 1, 2]
    with pytest.raises(ModelError, match="the loss is nan in epoch 4, batch 3"):
        end_of(4, 0.1)
    (saved,) = json.loads((tmp_path / "nan_batch.json").read_text())
    assert (saved["batch"], saved["image_ids"]) == (3, ["im3"])
    guard.on_train_start(one, None)
    end_of(0, 0.1)  # nothing is left of step 4
    assert waited == [0, 1, 2, 3]
