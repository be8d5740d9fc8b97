"""PoseModule: one step for training and validation, seeded dropout, the found rate."""

import pytest
import torch
from conftest import tiny_config

from convpose.build import build_datamodule, build_model, build_module
from convpose.geometry import transform
from convpose.metrics.pose_metrics import PoseMetrics
from convpose.skeleton import LSP14
from convpose.training.fit import build_callbacks, build_trainer
from convpose.training.module import HEADLINE, LOWER_IS_BETTER, PoseModule


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
    (logged,) = trainer.validate(module, datamodule=datamodule, verbose=False)
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
    assert logged["val/loss"] == pytest.approx(float(losses) / images, abs=1e-6)
    for name in HEADLINE:
        assert logged[f"val/{name}"] == pytest.approx(expected[name], abs=1e-6)
    assert module.validation["per_joint"] == expected["per_joint"]
    assert set(LOWER_IS_BETTER) <= {"val/loss", *(f"val/{name}" for name in HEADLINE)}


def test_a_second_validation_forgets_the_first(parts, tmp_path):
    cfg, datamodule, module = parts
    trainer = build_trainer(cfg, [], False, tmp_path)
    for _ in range(2):
        trainer.validate(module, datamodule=datamodule, verbose=False)
        assert module.validation["num_images"] == 6


def test_an_epoch_seeds_dropout(parts, monkeypatch):
    _, _, module = parts
    image = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    outputs = {}
    for epoch in (3, 4, 3):
        monkeypatch.setattr(PoseModule, "current_epoch", epoch)
        module.train().on_train_epoch_start()
        outputs.setdefault(epoch, []).append(module.model.backbone.dropout(torch.ones(500)))
        module(image)
    assert torch.equal(*outputs[3])
    assert not torch.equal(outputs[3][0], outputs[4][0])


def test_another_seed_drops_other_features(parts, monkeypatch):
    _, _, module = parts
    monkeypatch.setattr(PoseModule, "current_epoch", 0)
    masks = []
    for seed in (0, 1):
        module.seed = seed
        module.train().on_train_epoch_start()
        masks.append(module.model.backbone.dropout(torch.ones(500)))
    assert not torch.equal(*masks)


def test_the_found_rate_replaces_the_configured_one(parts, tmp_path):
    cfg, datamodule, module = parts
    module.learning_rate = 0.125
    trainer = build_trainer(
        cfg, build_callbacks(tiny_config("~callbacks"), None)[1:], False, tmp_path
    )
    trainer.fit(module, datamodule=datamodule)
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == 0.125
    steps = trainer.lr_scheduler_configs[0].scheduler.last_epoch
    assert steps == trainer.global_step == 6, "the schedule steps every batch"
