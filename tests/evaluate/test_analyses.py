"""Damage and stages: numbers of networks that can be foreseen."""

import json

import torch
from tiny import tiny_config
from torch import nn

from convpose.data import corruption
from convpose.data.build import build_datamodule
from convpose.evaluate import report
from convpose.evaluate.report import (
    damage_table,
    milliseconds,
    robustness,
    stage_measures,
    stages,
)
from convpose.evaluate.scoring import on_device
from convpose.models.backbones.vgg import VggBn
from convpose.models.cascade import Cascade, Resized
from convpose.models.keypoints.regression import RegressionHead
from convpose.models.pose_model import PoseModel
from convpose.plot.tables import per_stage, totals
from convpose.skeleton import LSP14

CPU = torch.device("cpu")


class BrightSpot(nn.Module):
    """Finds all joints in the crop's centre, unless the crop is dark."""

    def forward(self, image):
        dark = image.float().mean(dim=(1, 2, 3)) < 30
        keypoints = torch.where(dark[:, None, None], 9.0, 0.5) * torch.ones(len(image), 14, 2)
        return {"keypoints": keypoints, "scores": torch.ones(len(image), 14)}


def test_every_kind_and_severity_is_scored(tmp_path, monkeypatch, capsys):
    def darken(image, joints, amount, rng, skeleton):
        return (image * amount).astype(image.dtype)

    kinds = {"night": (darken, (0.0, 0.0, 0.0, 0.0, 0.0)), "day": (darken, (1.0,) * 5)}
    monkeypatch.setattr(corruption, "KINDS", kinds)
    monkeypatch.setattr(report, "KINDS", kinds)
    datamodule = build_datamodule(tiny_config("data.sources.synthetic.num_images=24"))
    datamodule.setup()
    network = on_device(BrightSpot(), CPU, "32-true")
    pck = robustness(network, datamodule, "val", 0.1, tmp_path)
    assert pck["night"] == [0.0] * 5
    assert pck["day"][0] > 0
    assert len(set(pck["day"])) == 1
    content = json.loads((tmp_path / "robustness.json").read_text())
    assert content["pck@0.2"] == pck
    assert content["clean"] == 0.1
    assert (tmp_path / "robustness.png").stat().st_size > 10_000
    assert "| night " in (tmp_path / "robustness.md").read_text()
    assert "night" in capsys.readouterr().out


def test_the_table_by_hand():
    pck = {"blur": [0.8, 0.7, 0.6, 0.5, 0.4], "noise": [0.4, 0.3, 0.2, 0.1, 0.0]}
    rows = damage_table(pck, 0.8, "t").rows
    assert rows[0] == ("noise", "20.0", "75.0", "40.0", "30.0", "20.0", "10.0", "0.0")
    assert rows[1][:3] == ("blur", "60.0", "25.0")
    assert rows[2][:3] == ("mean", "40.0", "50.0")


def test_a_network_that_finds_nothing_loses_nothing_that_can_be_said():
    assert damage_table({"blur": [0.0] * 5}, 0.0, "t").rows[0][2] == "–"


def parts() -> tuple[nn.Module, nn.Module]:
    backbone = VggBn(11, 1 / 64)
    return backbone, RegressionHead(backbone.out_channels, backbone.strides, 32, 14, hidden=8)


def three_stages() -> Cascade:
    first = PoseModel(*parts(), 14)
    second = Cascade(Resized(first, 32), *parts(), LSP14, subimage_px=32)
    return Cascade(Resized(second, 40), *parts(), LSP14, subimage_px=32)


def test_the_networks_that_end_with_each_stage():
    model = three_stages().eval()
    first, second, third = stages(model)
    assert isinstance(first.model, PoseModel)
    assert not isinstance(first.model, Cascade)
    assert second is model.start
    assert third is model
    image = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)
    with torch.no_grad():
        poses = model(image)["stage_keypoints"]
        for stage, pose in zip((first, second, third), poses, strict=True):
            assert torch.allclose(stage(image)["keypoints"], pose, atol=1e-5)


def test_another_network_has_no_stages():
    assert stage_measures(PoseModel(*parts(), 14), None, None, CPU, "32-true") == []


def test_a_call_takes_time():
    calls = []
    assert milliseconds(lambda crop: calls.append(crop), torch.zeros(1, 3, 8, 8)) > 0
    assert len(calls) > 10


def test_totals_alone():
    plain = {"pck@0.2": 0.5, "num_images": 3}
    assert totals(plain | {"per_joint": {}}) == plain


def test_a_row_a_stage():
    measures = {"pck@0.2": 0.5, "pck@0.1": 0.25, "pcp@0.5": float("nan"), "epe_px": 8.259}
    table = per_stage([measures | {"ms": 5.84}, measures | {"ms": 12.0}])
    assert table.rows == [
        ("1", "50.0", "25.0", "–", "8.26", "5.8"),
        ("2", "50.0", "25.0", "–", "8.26", "12.0"),
    ]
    assert table.header[-1] == "ms"
    assert "one crop" in table.caption
