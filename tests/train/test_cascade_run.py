"""A cascade over a run folder: built, trained, continued, evaluated without its start's run."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from lightning import Callback
from omegaconf import DictConfig, OmegaConf
from tiny import TINY, assert_same, assert_same_run, composed, saved
from torch import nn

from convpose.data.build import build_datamodule
from convpose.errors import ConfigError, ModelError
from convpose.evaluate.command import evaluate
from convpose.evaluate.scoring import Network, on_device
from convpose.models.build import build_model
from convpose.models.cascade import Cascade
from convpose.models.weights import load_checkpoint
from convpose.run import Run
from convpose.train.command import train

pytestmark = pytest.mark.slow
SMALL = (
    *(override for override in TINY if not override.startswith("model.")),
    *("model=cascade", "model.backbone.width=0.0625", "model.subimage_px=32"),
    *("data.input_size_px=48", "callbacks.preview=null", "logger=none", "model.side=3.0"),
)
RANDOM = ("augment=default", "model.backbone.dropout=0.5", "trainer.max_epochs=3")


def config(*overrides: str) -> DictConfig:
    return composed("train", *SMALL, *overrides)


def evaluation(folder: Path, *overrides: str) -> float:
    given = (f"run={folder}", "gallery=0", "accelerator=cpu")
    return evaluate(composed("evaluate", *given, *overrides))


@pytest.fixture(scope="module")
def second(unbroken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a cascade with all that is random."""
    folder = tmp_path_factory.mktemp("second")
    train(config(f"model.run={unbroken}", *RANDOM), folder)
    return folder


@pytest.fixture(scope="module")
def third(second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a cascade over a cascade, both without the runs that they started from."""
    copy = tmp_path_factory.mktemp("copy") / "second"
    shutil.copytree(second, copy)
    folder = tmp_path_factory.mktemp("third")
    train(config(f"model.run={copy}", "data.input_size_px=64", "trainer.max_epochs=1"), folder)
    shutil.rmtree(copy)
    return folder


def test_the_start_is_the_best_epoch_of_its_run(unbroken: Path, second: Path) -> None:
    own, given = saved(second, "best")["state_dict"], saved(unbroken, "best")["state_dict"]
    prefix = "model.start.model."
    start = {f"model.{k.removeprefix(prefix)}": v for k, v in own.items() if k.startswith(prefix)}
    assert_same(start, {key: given[key] for key in start})
    assert start.keys() == given.keys()
    assert not torch.equal(own["model.error_std"], torch.full((14, 2), 3.0 / 8))


def test_a_continued_cascade_is_the_unbroken_one(
    unbroken: Path, second: Path, tmp_path: Path
) -> None:
    class CutOff(BaseException):
        """As if the process had died."""

    class Die(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if (trainer.current_epoch, batch_idx) == (1, 1):
                raise CutOff

    cfg = config(f"model.run={unbroken}", *RANDOM)
    with pytest.raises(CutOff):
        train(cfg, tmp_path, [Die()])
    train(OmegaConf.merge(cfg, {"ckpt_path": "last"}), tmp_path)
    assert_same_run(tmp_path, second)


def on_device_elsewhere(model: nn.Module, *args) -> Network:
    """Leave the network elsewhere, as `on_device` does on a GPU: on a device without numbers."""
    here = copy.deepcopy(model)
    model.to("meta").cpu = lambda: model.__dict__.update(here.__dict__)
    return on_device(here, *args)


@pytest.mark.parametrize("starts", ["simulated", "real"])
def test_a_training_learns_from_its_starts(
    starts: str, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convpose.train.calibration.on_device", on_device_elsewhere)
    folder = tmp_path / starts
    train(config(f"model.run={unbroken}", f"model.starts={starts}", "trainer.max_epochs=1"), folder)
    own = saved(folder)["state_dict"]
    fresh = build_model(config(f"model.run={unbroken}")).state_dict()
    name = "model.head.output.weight"
    assert not torch.equal(own[name], fresh[name.removeprefix("model.")])


def test_every_stage_has_its_row_in_the_report(third: Path, capsys) -> None:
    pck = evaluation(third)
    folder = third / "evaluate_test"
    measures = json.loads((folder / "metrics.json").read_text())
    stages = measures["stages"]
    assert len(stages) == 3
    for name in ("pck@0.2", "pck@0.1", "pcp@0.5", "epe_px"):
        assert stages[-1][name] == pytest.approx(measures[name], abs=1e-6)
    assert stages[-1]["pck@0.2"] == pck
    assert all(stage["ms"] > 0 for stage in stages)
    assert len({stage["epe_px"] for stage in stages}) == 3, "each stage moves something"
    table = (folder / "report.md").read_text().split("**Stages**")[1].split("**")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table.splitlines()
        if "|" in line
    ]
    assert rows[0] == ["stage", "PCK@0.2 %", "PCK@0.1 %", "PCP@0.5 strict %", "EPE px", "ms"]
    assert [row[0] for row in rows[2:]] == ["1", "2", "3"]
    assert rows[2][4] == f"{stages[0]['epe_px']:.2f}"
    assert "Stages" in capsys.readouterr().out


def test_the_first_stage_is_scored_as_its_run_is(unbroken: Path, tmp_path: Path) -> None:
    """With the same crops, of which nothing has to be shrunk."""
    keys = ("data.input_size_px=32", "trainer.max_epochs=1")
    train(config(f"model.run={unbroken}", *keys), tmp_path / "run")
    evaluation(tmp_path / "run", "split=val")
    evaluation(unbroken, "split=val", f"output={tmp_path / 'alone'}")
    alone = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    first = json.loads((tmp_path / "run/evaluate_val/metrics.json").read_text())["stages"][0]
    for name in ("pck@0.2", "auc", "pcp@0.5", "epe_px"):
        assert first[name] == pytest.approx(alone[name], abs=1e-6)
    assert "stages" not in alone
    assert "**Stages**" not in (tmp_path / "alone" / "report.md").read_text()


def test_a_configuration_that_was_built_from_still_names_its_run(unbroken: Path) -> None:
    """`convpose.search` builds a network for a try, and trains with the same configuration."""
    cfg = config(f"model.run={unbroken}")
    first, second = build_model(cfg), build_model(cfg)
    assert cfg == config(f"model.run={unbroken}")
    assert_same(dict(first.start.state_dict()), dict(second.start.state_dict()))


def test_a_stage_may_begin_with_the_network_of_the_stage_before(second: Path, tmp_path) -> None:
    """Whose own start has the same names and shapes as that network, and must not replace it."""
    before = saved(second, "best")["state_dict"]
    keys = ("trainer.max_epochs=1", "optimizer.lr=1e-9")
    train(config(f"model.run={second}", f"weights={second}", *keys), tmp_path)
    own = saved(tmp_path)["state_dict"]
    for name in ("backbone.features.0.weight", "head.output.weight"):
        assert torch.allclose(own[f"model.{name}"], before[f"model.{name}"], atol=1e-5)
        assert torch.equal(own[f"model.start.model.{name}"], before[f"model.{name}"])
        earlier = f"model.start.model.{name}"
        assert torch.equal(own[f"model.start.model.start.model.{name}"], before[earlier])


def test_a_start_without_weights_is_not_trained_upon(second: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"to train one type model\.start=null model\.run="):
        train(Run.find(second).config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_are_not_read_again(second: Path) -> None:
    outputs = []
    for run, weights in ((str(second), None), ("gone", "gone.pt")):
        cfg = Run.find(second).config
        cfg.model.run, cfg.model.backbone.weights = run, weights
        torch.manual_seed(len(outputs))
        model = build_model(cfg)
        load_checkpoint(model, second / "checkpoints" / "best.ckpt")
        with torch.no_grad():
            image = torch.arange(3 * 48 * 48, dtype=torch.uint8).view(1, 3, 48, 48)
            outputs.append(model.eval()(image)["keypoints"])
    assert torch.equal(*outputs)


def test_the_measured_errors_are_those_of_the_start(unbroken: Path, second: Path) -> None:
    model = build_model(Run.find(second).config)
    load_checkpoint(model, second / "checkpoints" / "best.ckpt")
    assert isinstance(model, Cascade)
    datamodule = build_datamodule(config())
    datamodule.setup()
    found: list[list[torch.Tensor]] = [[] for _ in range(14)]
    for batch in datamodule.val_dataloader():
        pose = model.eval().start(batch["image"])["keypoints"]
        a, b = (pose[:, [8, 9]] - pose[:, [3, 2]]).norm(dim=-1).unbind(1)  # shoulder to other hip
        extent = (pose.amax(1) - pose.amin(1)).amax(1)
        size = torch.maximum(torch.maximum(a, b), extent / 4)
        for error in (pose - batch["keypoints"]) / size[:, None, None]:
            for joint in range(14):
                if error[joint].abs().max() <= 1.5:
                    found[joint].append(error[joint])
    assert sum(map(bool, found)) > 3
    for joint, errors in enumerate(found):
        if errors:
            some = torch.stack(errors)
            assert torch.allclose(model.error_mean[joint], some.mean(0), atol=1e-4)
            std = some.std(0, correction=0).clamp(min=0.01)
            assert torch.allclose(model.error_std[joint], std, atol=1e-4)


def test_another_backbone_and_head(unbroken: Path) -> None:
    keys = ("model=cascade", "model@model.backbone=timm", "head=heatmap", "data=synthetic")
    cfg = composed("train", *keys, f"model.run={unbroken}", "model.subimage_px=32")
    model = build_model(cfg).eval()
    with torch.no_grad():
        output = model(torch.zeros(2, 3, 96, 96, dtype=torch.uint8))
    assert output["heatmap_logits"].shape == (2, 14, 8, 8)
    assert output["visibility_logits"].shape == (2, 14)
    assert output["stage_keypoints"].shape == (2, 2, 14, 2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.run=RUN", "head=heatmap", "model.subimage_px=40"],
            r"^model\.subimage_px=40: expected a multiple of 32",
        ),
        (
            ["model.run=RUN", "model.backbone.depth=12"],
            r"^model\.backbone\.depth=12: expected one of 11",
        ),
        (
            ["model.run=RUN", "data.cache=c.safetensors", "data.cache_size_px=40"],
            r"data\.cache_size_px=40: the cache holds less .* type data\.cache_size_px=48 and",
        ),
        (
            ["model.run=RUN", "data.skeleton=coco17"],
            r"model\.run=.*: has the skeleton lsp14, the data coco17; type a run of coco17",
        ),
    ],
)
def test_what_cannot_be_refined_is_said(
    overrides: list[str], message: str, unbroken: Path, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = config(*(o.replace("RUN", str(unbroken)) for o in overrides))
    with pytest.raises(ConfigError, match=message):
        build_model(cfg)
    assert not list(tmp_path.iterdir())


def test_crops_smaller_than_the_start_has_seen(second: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"data\.input_size_px=40: model\.run=.* sees crops of 48 px.*data\.input_size_px=96",
    ):
        build_model(config(f"model.run={second}", "data.input_size_px=40"))


def test_a_run_that_was_never_saved(unbroken: Path, tmp_path: Path) -> None:
    shutil.copy(unbroken / "config.yaml", tmp_path)
    with pytest.raises(ModelError, match=r"best\.ckpt: no such checkpoint"):
        build_model(config(f"model.run={tmp_path}"))
