"""Pictures of the validation: when, of which images, from several processes."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from tiny import tiny_config

from convpose.data.build import build_datamodule
from convpose.train.epoch_report import PosePreview
from convpose.train.loggers import Board

POSE = torch.full((14, 2), 0.5)


@pytest.fixture
def images(monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "convpose.train.epoch_report.log_picture",
        lambda trainer, name, image, step: drawn.update({(name, step): image}),
    )
    return drawn


@pytest.fixture
def asked(monkeypatch):
    """Positions and notes instead of pictures."""
    calls = []
    monkeypatch.setattr(
        "convpose.train.epoch_report.gallery",
        lambda dataset, positions, skeleton, poses, notes, **_: calls.append((positions, notes)),
    )
    return calls


@pytest.fixture(scope="module")
def datamodule():
    datamodule = build_datamodule(tiny_config("data.batch_size=4"))
    datamodule.setup()
    return datamodule


def trainer(datamodule, epoch=0, max_epochs=9):
    return SimpleNamespace(
        current_epoch=epoch,
        max_epochs=max_epochs,
        datamodule=datamodule,
        loggers=[MagicMock(spec=Board)],
        is_global_zero=True,
    )


def draw(preview, at):
    preview.on_validation_epoch_start(at, None)
    for batch in at.datamodule.val_dataloader():
        preview.on_validation_batch_end(at, None, {"keypoints": batch["keypoints"]}, batch, 0)
    preview.on_validation_epoch_end(at, None)


def seen(datamodule, **errors):
    ids = datamodule.split["val"]
    return [(ids[int(name[1:])], error, POSE) for name, error in errors.items()]


def test_pictures_come_every_few_epochs_and_at_the_end(images, datamodule):
    preview = PosePreview(images=3, worst=2, every_epochs=5)
    for epoch in (0, 1, 5, 6):
        draw(preview, trainer(datamodule, epoch, max_epochs=7))
        assert bool(preview._seen) is (epoch != 1), "nothing is kept for an epoch without pictures"
    assert set(images) == {(f"pictures/{n}", e) for n in ("fixed", "worst") for e in (0, 5, 6)}
    assert images["pictures/fixed", 0].dtype == np.uint8


def test_the_worst_are_those_with_the_largest_mean_error(images, datamodule, asked):
    preview = PosePreview(images=2, worst=2)
    preview._seen = seen(datamodule, _0=0.1, _1=0.5, _2=float("nan"), _3=0.2)
    preview.on_validation_epoch_end(trainer(datamodule), None)
    assert asked == [([0, 1], ["10 %", "50 %"]), ([1, 3], ["50 %", "20 %"])]


def test_what_all_processes_have_seen_is_drawn(images, datamodule, asked, monkeypatch):
    other = PosePreview(images=3, worst=2)
    other._seen = seen(datamodule, _1=0.3, _3=0.9, _5=0.4)
    told = []
    monkeypatch.setattr("convpose.train.epoch_report.gather", lambda part: told.append(part) or [])
    other.on_validation_epoch_end(trainer(datamodule), None)
    assert not asked
    first = PosePreview(images=3, worst=2)
    first._seen = seen(datamodule, _0=0.1, _2=0.5, _4=0.6)
    monkeypatch.setattr("convpose.train.epoch_report.gather", lambda part: [part, told[0]])
    first.on_validation_epoch_end(trainer(datamodule), None)
    assert asked == [([0, 1, 2], ["10 %", "30 %", "50 %"]), ([3, 4], ["90 %", "60 %"])]


def test_no_pictures_are_possible_too(images, datamodule):
    draw(PosePreview(images=0, worst=0), trainer(datamodule))
    without = trainer(datamodule)
    without.loggers = []
    draw(PosePreview(), without)
    assert not images
