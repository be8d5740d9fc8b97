"""The stages of a cascade: their order, their time, their table."""

import torch
from torch import nn

from convpose.evaluate.stages import headline, milliseconds, stage_measures, stages
from convpose.models.backbones.vgg import VggBn
from convpose.models.cascade import Cascade, Resized
from convpose.models.keypoints.regression import RegressionHead
from convpose.models.pose_model import PoseModel
from convpose.plot.tables import per_stage
from convpose.skeleton import LSP14


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
    assert stage_measures(PoseModel(*parts(), 14), None, None, torch.device("cpu"), "32-true") == []


def test_a_call_takes_time():
    calls = []
    assert milliseconds(lambda crop: calls.append(crop), torch.zeros(1, 3, 8, 8)) > 0
    assert len(calls) > 10


def test_totals_alone():
    assert headline({"pck@0.2": 0.5, "per_joint": {}, "num_images": 3}) == {
        "pck@0.2": 0.5,
        "num_images": 3,
    }


def test_a_row_a_stage():
    measures = {"pck@0.2": 0.5, "pck@0.1": 0.25, "pcp@0.5": float("nan"), "epe_px": 8.259}
    table = per_stage([measures | {"ms": 5.84}, measures | {"ms": 12.0}])
    assert table.rows == [
        ("1", "50.0", "25.0", "–", "8.26", "5.8"),
        ("2", "50.0", "25.0", "–", "8.26", "12.0"),
    ]
    assert table.header[-1] == "ms"
    assert "one crop" in table.caption
