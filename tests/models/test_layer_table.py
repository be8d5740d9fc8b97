"""The layer table against the numbers of the paper's Table 1."""

import pytest
import torch
from torch import nn

from convpose.models.backbones.vgg import VggBn
from convpose.models.keypoints.regression import RegressionHead
from convpose.models.pose_model import Layer, PoseModel, layer_table, layer_table_markdown

# Output side, channels in and channels out of the convolutions of each block
BLOCKS = (
    (224, [(3, 64), (64, 64)]),
    (112, [(64, 128), (128, 128)]),
    (56, [(128, 256), (256, 256), (256, 256)]),
    (28, [(256, 512), (512, 512), (512, 512)]),
    (14, [(512, 512), (512, 512), (512, 512)]),
)


def paper_rows():
    for side, convolutions in BLOCKS:
        for channels_in, channels in convolutions:
            size = (channels, side, side)
            yield Layer("Conv2d", "3 / 1 / 1", size, 9 * channels_in * channels + channels)
            yield Layer("BatchNorm2d", "–", size, 2 * channels)
            yield Layer("ReLU", "–", size, 0)
        yield Layer("MaxPool2d", "2 / 2 / 0", (channels, side // 2, side // 2), 0)
    yield Layer("Dropout", "p = 0.5", (512, 7, 7), 0)
    yield Layer("Linear", "–", (512,), 12_845_568)
    yield Layer("ReLU", "–", (512,), 0)
    yield Layer("Linear", "–", (28,), 14_364)


def network(size_px=224, **keys):
    backbone = VggBn(**keys)
    head = RegressionHead(backbone.out_channels, backbone.strides, size_px, 14)
    return PoseModel(backbone, head, 14)


def test_the_paper_s_table_row_for_row_and_as_markdown():
    with torch.device("meta"):
        rows = layer_table(network(), torch.zeros(1, 3, 224, 224, dtype=torch.uint8))
    assert rows == list(paper_rows())
    assert rows[0] == Layer("Conv2d", "3 / 1 / 1", (64, 224, 224), 1792)
    lines = layer_table_markdown(rows).splitlines()
    assert lines[0] == "| # | layer | kernel / stride / padding | output size | parameters |"
    assert lines[2] == "| 1 | Conv2d | 3 / 1 / 1 | 64 × 224 × 224 | 1,792 |"
    assert lines[49] == "| 48 | Linear | – | 28 | 14,364 |"
    assert lines[-1] == "48 layers, 27,583,068 parameters"


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = network(32, depth=11, width=1 / 64).train(training)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    layer_table(model, torch.full((1, 3, 32, 32), 200, dtype=torch.uint8))
    assert all(m.training == training for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


def test_identities_are_no_layers():
    model = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(48, 2))
    rows = layer_table(model, torch.zeros(1, 3, 4, 4))
    assert [row.kind for row in rows] == ["Flatten", "Linear"]


def test_hooks_leave_even_when_the_model_fails():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(7, 7))
    with pytest.raises(RuntimeError):
        layer_table(model, torch.zeros(1, 3, 8, 8))
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
