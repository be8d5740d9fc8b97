"""PoseModule: one step for training and validation, seeded dropout, the found rate."""

import pytest
import torch
from tiny import tiny_config

from convpose.data.build import build_datamodule
from convpose.geometry import transform
from convpose.metrics.pose_metrics import PoseMetrics
from convpose.models.build import build_model
from convpose.plot.tables import METRICS
from convpose.skeleton import LSP14
from convpose.train.build import build_module, build_trainer
from convpose.train.module import HEADLINE, PoseModule


@pytest.fixture
def parts():
    cfg = tiny_config("model.dropout=0.5")
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    torch.manual_seed(0)
    return cfg, datamodule, build_module(cfg, build_model(cfg))


def test_the_validation_is_the_loss_and_the_metrics_of_all_images(parts, tmp_path):
    cfg, datamodule, module = parts
    trainer = build_trainer(cfg, [], False, tmp_path)
    for _ in range(2):  # the second validation forgets the first
        trainer.validate(module, datamodule=datamodule, verbose=False)
    logged = trainer.callback_metrics
    metrics, losses, images = PoseMetrics(LSP14), 0.0, 0
    with torch.no_grad():
        for batch in datamodule.val_dataloader():
            output = module.eval()(batch["image"])
            size = len(batch["image_id"])
            losses += size * module.loss(output, batch["keypoints"], batch["visibility"])
            images += size
            metrics.update(
                transform(batch["unit_to_px"], output["keypoints"]),
                batch["keypoints_px"],
                batch["visibility"],
                output["keypoints"],
                batch["keypoints"],
            )
    expected = metrics.compute()
    assert expected["num_images"] == 6
    assert float(logged["val/loss"]) == pytest.approx(float(losses) / images, abs=1e-6)
    for name in HEADLINE:
        assert float(logged[f"val/{name}"]) == pytest.approx(expected[name], abs=1e-6)
    assert module.validation["per_joint"] == expected["per_joint"]
    assert {f"val/{name}" for name in HEADLINE} <= METRICS.keys(), "each has a title and an end"


def test_dropout_is_seeded_by_run_epoch_and_batch(parts, monkeypatch):
    _, _, module = parts
    dropout, masks = module.train().model.backbone.dropout, {}
    for seed, epoch, batch in [(0, 3, 1), (0, 3, 2), (0, 4, 1), (1, 3, 1)] * 2:
        monkeypatch.setattr(PoseModule, "current_epoch", epoch)
        module.seed = seed
        module.on_train_batch_start({}, batch)
        masks.setdefault((seed, epoch, batch), []).append(dropout(torch.ones(500)))
    for first, again in masks.values():
        assert torch.equal(first, again)
    assert len({tuple(first.tolist()) for first, _ in masks.values()}) == 4


def test_the_found_rate_replaces_the_configured_one(parts, tmp_path):
    cfg, datamodule, module = parts
    module.learning_rate = 0.125
    trainer = build_trainer(cfg, [], False, tmp_path)
    trainer.fit(module, datamodule=datamodule)
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == 0.125
    steps = trainer.lr_scheduler_configs[0].scheduler.last_epoch
    assert steps == trainer.global_step == 6, "the schedule steps every batch"
