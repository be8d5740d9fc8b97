"""The robustness report: numbers of a network that can be foreseen."""

import json

import torch
from tiny import tiny_config
from torch import nn

from convpose.data import corruption
from convpose.data.build import build_datamodule
from convpose.evaluate import robustness as module
from convpose.evaluate.robustness import damage_table, robustness


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
    monkeypatch.setattr(module, "KINDS", kinds)
    datamodule = build_datamodule(tiny_config("data.sources.synthetic.num_images=24"))
    datamodule.setup()
    cpu = torch.device("cpu")
    pck = robustness(BrightSpot(), datamodule, "val", 0.1, tmp_path, cpu, "32-true")
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
