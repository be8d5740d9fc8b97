"""Pixels in, keypoints out; and a tiny network that learns eight people by heart."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from convpose.build import build
from convpose.data.crop import Crop
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.geometry import transform
from convpose.metrics.pose_metrics import PoseMetrics
from convpose.models.heads.regression import RegressionHead
from convpose.models.pose_model import PoseModel
from convpose.models.vgg import VggBn
from convpose.skeleton import LSP14

CONF = Path(__file__).parents[2] / "conf"
HEADS = sorted(path.stem for path in (CONF / "head").glob("*.yaml"))


class Echo(nn.Module):
    """A backbone that returns what it sees, and a head that keeps it."""

    out_channels, strides = (3,), (1,)
    pixel_mean, pixel_std = (0.5, 0.0, 1.0), (0.25, 1.0, 0.5)

    def forward(self, seen):
        return seen


def tiny():
    backbone = VggBn(11, 1 / 8)
    head = RegressionHead(backbone.out_channels, backbone.strides, 64, 14, hidden=64)
    return PoseModel(backbone, head)


def test_pixels_are_normalised_as_the_backbone_wants():
    image = torch.tensor([255, 51, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    seen = PoseModel(Echo(), nn.Identity())(image)
    assert seen[1, :, 2, 3].tolist() == pytest.approx([(1 - 0.5) / 0.25, 0.2, (0 - 1) / 0.5])
    assert seen.dtype is torch.float32


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_layout_reaches_the_backbone_and_changes_no_result(channels_last):
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    seen = PoseModel(Echo(), nn.Identity(), channels_last)(image)
    assert seen.is_contiguous(memory_format=wanted)
    assert torch.equal(seen, PoseModel(Echo(), nn.Identity(), not channels_last)(image))


def test_an_output_has_one_point_and_score_for_each_keypoint():
    output = tiny().eval()(torch.zeros(3, 3, 64, 64, dtype=torch.uint8))
    assert output["keypoints"].shape == (3, 14, 2)
    assert output["scores"].shape == (3, 14)


def test_statistics_reach_a_head_that_asks_and_no_other():
    model = tiny()
    model.set_statistics(torch.full((14, 2), 0.3), torch.full((14, 2), 0.1))
    assert model.head.centre.unique().tolist() == pytest.approx([0.3])
    PoseModel(Echo(), nn.Identity()).set_statistics(torch.zeros(1), torch.zeros(1))


def test_a_state_dict_carries_normalisation_and_statistics():
    model, copy = tiny(), tiny()
    model.set_statistics(torch.full((14, 2), 0.3), torch.full((14, 2), 0.1))
    copy.load_state_dict(model.state_dict())
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(copy.eval()(image)["keypoints"], model.eval()(image)["keypoints"])


def test_a_mirrored_or_darker_image_is_another_input():
    model = tiny().eval()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    poses = [model(x)["keypoints"] for x in (image, image.flip(-1), image // 2)]
    assert not torch.equal(poses[0], poses[1])
    assert not torch.equal(poses[0], poses[2])


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_eight_people_by_heart(head):
    torch.manual_seed(0)
    source = SyntheticSource(num_images=8, image_size_px=64)
    dataset = PoseLandmarksDataset(source, range(8), Crop("box"), 64, LSP14)
    batch = torch.utils.data.default_collate([dataset[i] for i in range(8)])
    backbone = VggBn(11, 1 / 8, dropout=0.0)
    given = {"out_channels": backbone.out_channels, "strides": backbone.strides}
    built = build(
        OmegaConf.load(CONF / f"head/{head}.yaml"),
        "head",
        **given,
        input_size_px=64,
        num_keypoints=14,
    )
    model, loss_of = (
        PoseModel(backbone, built),
        build(OmegaConf.load(CONF / f"loss/{head}.yaml"), "loss"),
    )
    model.set_statistics(batch["keypoints"].mean(0), batch["keypoints"].std(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = loss_of(model(batch["image"]), batch["keypoints"], batch["visibility"])
        loss.backward()
        optimizer.step()

    metrics = PoseMetrics(LSP14)
    with torch.no_grad():
        predicted = model.eval()(batch["image"])["keypoints"]
    metrics.update(
        transform(batch["unit_to_px"], predicted),
        batch["keypoints_px"],
        batch["visibility"],
        predicted,
        batch["keypoints"],
    )
    measures = metrics.compute()
    assert measures["pck@0.2"] > 0.95
    assert measures["mse_unit"] < 1e-3
