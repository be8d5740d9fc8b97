"""Alarms, pictures, the epoch's row and the checkpoints, each on its own."""

import csv
import json
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import tiny_config

from convpose.build import build_datamodule
from convpose.errors import ConfigError, ModelError
from convpose.training.alarms import CollapseAlarm, NanGuard, spread
from convpose.training.checkpoints import BestAndLast
from convpose.training.epoch_report import EpochBar, EpochReport, _line, tensorboard
from convpose.training.preview import PosePreview

LABELS = torch.rand(32, 14, 2, generator=torch.Generator().manual_seed(0))


class Module:
    """What the callbacks ask of a PoseModule."""

    def __init__(self):
        self.logged = {}
        self.validation = {"per_joint": {"head_top": {"pck@0.2": 0.5}}}

    def log(self, name, value, **_):
        self.logged[name] = value


def validate(alarm, predicted, labels=LABELS):
    module = Module()
    for part in (slice(0, 20), slice(20, None)):  # two batches of different size
        outputs, batch = {"keypoints": predicted[part]}, {"keypoints": labels[part]}
        alarm.on_validation_batch_end(None, module, outputs, batch, 0)
    alarm.on_validation_epoch_end(None, module)
    return module.logged["val/spread"]


def test_spread_by_hand():
    keypoints = torch.tensor([[[0.0, 0.0]], [[2.0, 4.0]]])  # variances 1 and 4
    assert float(spread(keypoints)) == pytest.approx(math.sqrt(2.5))
    keypoints = torch.tensor([[[0.0, 0.0]], [[2.0, math.nan]]])
    assert float(spread(keypoints)) == pytest.approx(math.sqrt(0.5))


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


def test_unlabelled_keypoints_count_in_neither_spread():
    labels = LABELS.clone()
    labels[:, 0] = math.nan
    predicted = LABELS.clone()
    predicted[:, 0] *= 1000
    assert validate(CollapseAlarm(), predicted, labels) == pytest.approx(1.0)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_the_guard_stops_and_saves_the_ids(loss, tmp_path):
    trainer = SimpleNamespace(current_epoch=4, default_root_dir=str(tmp_path))
    guard, batch = NanGuard(), {"image_id": ["im00001", "im00002"]}
    guard.on_train_batch_end(trainer, None, {"loss": torch.tensor(0.1)}, batch, 6)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ModelError, match=r"in epoch 4, batch 7.*nan_batch\.json.*lower optimizer"):
        guard.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss)}, batch, 7)
    saved = json.loads((tmp_path / "nan_batch.json").read_text())
    assert saved == {
        "epoch": 4,
        "batch": 7,
        "loss": str(loss),
        "image_ids": ["im00001", "im00002"],
    }


class Writer:
    """Keeps what a SummaryWriter is given."""

    def __init__(self):
        self.images, self.scalars, self.layout = {}, {}, None

    def add_image(self, name, image, step, dataformats):
        assert dataformats == "HWC"
        self.images[name, step] = image

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value

    def add_custom_scalars(self, layout):
        self.layout = layout

    def flush(self):
        pass


@pytest.fixture
def writer(monkeypatch):
    writer = Writer()
    for module in ("preview", "epoch_report"):
        monkeypatch.setattr(f"convpose.training.{module}.tensorboard", lambda trainer: writer)
    return writer


@pytest.fixture(scope="module")
def datamodule():
    datamodule = build_datamodule(tiny_config("data.batch_size=4"))
    datamodule.setup()
    return datamodule


def draw(preview, datamodule, epoch, max_epochs=100, off=0.0):
    trainer = SimpleNamespace(current_epoch=epoch, max_epochs=max_epochs, datamodule=datamodule)
    preview.on_validation_epoch_start(trainer, None)
    for batch in datamodule.val_dataloader():
        predicted = batch["keypoints"] + off * torch.rand_like(batch["keypoints"])
        preview.on_validation_batch_end(trainer, None, {"keypoints": predicted}, batch, 0)
    preview.on_validation_epoch_end(trainer, None)


def test_pictures_come_every_few_epochs_and_at_the_end(writer, datamodule):
    preview = PosePreview(images=3, worst=2, every_epochs=5)
    for epoch in (0, 1, 5, 6):
        draw(preview, datamodule, epoch, max_epochs=7)
    assert set(writer.images) == {(f"val/{n}", e) for n in ("fixed", "worst") for e in (0, 5, 6)}
    assert writer.images["val/fixed", 0].dtype == np.uint8


def test_the_worst_are_those_with_the_largest_mean_error(writer, datamodule, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "convpose.training.preview.gallery",
        lambda dataset, positions, skeleton, poses, notes: asked.append((positions, notes)),
    )
    preview = PosePreview(images=2, worst=2)
    preview._errors = [(e, i, LABELS[i]) for i, e in enumerate((0.1, 0.5, 0.03, 0.2))]
    trainer = SimpleNamespace(current_epoch=0, max_epochs=9, datamodule=datamodule)
    preview.on_validation_epoch_end(trainer, None)
    assert asked == [((0, 1), ["10 %", "50 %"]), ((1, 3), ["50 %", "20 %"])]


def test_no_pictures_are_possible_too(writer, datamodule):
    draw(PosePreview(images=0, worst=0), datamodule, 0)
    assert not writer.images
    with pytest.raises(ConfigError, match=r"every_epochs=0: expected at least 1"):
        PosePreview(every_epochs=0)


def epoch_end(report, module, epoch, **measures):
    trainer = SimpleNamespace(
        current_epoch=epoch,
        max_epochs=9,
        num_training_batches=3,
        world_size=1,
        is_global_zero=True,
        datamodule=SimpleNamespace(batch_size=8),
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.5}])],
        callback_metrics={k.replace("__", "/"): torch.tensor(v) for k, v in measures.items()},
    )
    report.on_train_epoch_start(trainer, module)
    if module.validated:
        report.on_validation_start(trainer, module)
    report.on_train_epoch_end(trainer, module)


def test_a_row_an_epoch(tmp_path, writer, capsys):
    report, module = EpochReport(tmp_path, "val/loss", "min", {}), Module()
    for epoch, loss in enumerate((0.3, 0.1, 0.2)):
        module.validated = epoch != 1  # as with trainer.check_val_every_n_epoch
        epoch_end(report, module, epoch, train__loss=0.4, val__loss=loss)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0.0", "1.0", "2.0"]
    assert [bool(row["val/loss"]) for row in rows] == [True, False, True], "no stale measure"
    assert all(float(row["images_per_s"]) > 0 for row in rows)
    assert report.best()["epoch"] == 2
    assert {("train/loss", 1), ("lr", 1), ("val/loss", 2), ("joint/head_top", 2)} <= set(
        writer.scalars
    )
    assert ("val/loss", 1) not in writer.scalars
    assert ("joint/head_top", 1) not in writer.scalars
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/9  train/loss 0.4  val/loss 0.3  lr 0.5  ")
    assert "val/loss" not in lines[1]


def test_the_line_of_an_epoch():
    row = {
        "epoch": 6.0,
        "train/loss": 0.0371234,
        "val/loss": 0.0421,
        "val/pck@0.2": 0.51239,
        "val/epe_px": 12.3456,
        "lr": 0.01,
        "images_per_s": 812.4,
        "seconds": 8.62,
    }
    assert _line(row, 25) == (
        "epoch 7/25  train/loss 0.03712  val/loss 0.0421  PCK@0.2 0.5124  EPE px 12.35  lr 0.01  "
        "812 images/s  8.6 s"
    )
    assert _line(row, None).startswith("epoch 7  train/loss")


def test_rows_before_a_continued_epoch_are_kept(tmp_path, writer):
    (tmp_path / "metrics.csv").write_text("epoch,val/loss\n0.0,0.3\n1.0,0.2\n2.0,0.1\n")
    report = EpochReport(tmp_path, "val/loss", "min", {})
    report.on_fit_start(SimpleNamespace(), None)
    assert report.best()["epoch"] == 2, "a run that is complete already has its result"
    report.on_train_start(SimpleNamespace(current_epoch=2), None)
    assert [row["epoch"] for row in report.rows] == [0, 1]


def test_both_losses_share_a_chart(tmp_path, writer):
    EpochReport(tmp_path, "val/loss", "min", {}).on_fit_start(SimpleNamespace(), None)
    (chart,) = writer.layout["losses"].values()
    assert chart == ["Multiline", ["train/loss", "val/loss"]]


def test_the_bar_counts_as_the_report_does(monkeypatch):
    monkeypatch.setattr(EpochBar, "trainer", SimpleNamespace(max_epochs=9))
    assert EpochBar()._get_train_description(0) == "epoch 1/9 "


def test_no_writer_without_a_logger():
    assert tensorboard(SimpleNamespace(is_global_zero=True, logger=None)) is None


def test_last_is_the_last_epoch_not_the_last_best(tmp_path):
    saved = []
    trainer = SimpleNamespace(
        current_epoch=0, callback_metrics={}, save_checkpoint=lambda path: saved.append(path.name)
    )
    checkpoint = BestAndLast("val/loss", "min")
    checkpoint.dirpath = str(tmp_path)
    checkpoint.on_train_start(trainer, None)
    assert saved == ["last.ckpt"], "before the first step there is one already"
    checkpoint.on_train_epoch_end(trainer, None)  # an epoch that was not validated
    assert saved == ["last.ckpt"] * 2
    trainer.current_epoch = 1
    checkpoint.on_train_start(trainer, None)
    assert saved == ["last.ckpt"] * 2, "a continued run keeps the one that it came from"
