"""A cascade: what it asks its start and its head, what it learns from, and that it learns."""

import pytest
import torch
from torch import nn

from convpose.data.crop import Crop
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.models.backbones.vgg import VggBn
from convpose.models.cascade import SMALLEST_STD, Cascade, Resized, SubImages, pose_diameter
from convpose.models.keypoints.regression import MaskedL1, RegressionHead
from convpose.models.pose_model import PoseModel
from convpose.skeleton import LSP14

K = LSP14.num_keypoints
CROP_PX, SUBIMAGE_PX = 64, 32


class Told(nn.Module):
    """A network that is told its answer."""

    def __init__(self, keypoints: torch.Tensor, score: float = 0.5) -> None:
        super().__init__()
        self.keypoints = keypoints
        self.score = score
        self.seen: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen.append(image)
        scores = torch.full(self.keypoints.shape[:2], self.score)
        return {"keypoints": self.keypoints, "scores": scores}


class Echo(nn.Module):
    """A backbone that hands on what it sees."""

    pixel_mean, pixel_std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [image]


class Numbered(nn.Module):
    """A head whose answer names the sub-image (x, of 1000) and the joint (y, of 100)."""

    def forward(self, features: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        number, joint = torch.arange(len(features[0])), torch.arange(K)
        keypoints = torch.stack(
            torch.broadcast_tensors(number[:, None] / 1000, joint[None] / 100), dim=-1
        )
        return {"keypoints": keypoints, "scores": torch.full(keypoints.shape[:2], 0.5)}


class Patches(nn.Module):
    """A backbone that costs nothing: a layer on patches."""

    out_channels, strides = (32,), (4,)
    pixel_mean, pixel_std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 32, kernel_size=4, stride=4)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [self.layer(image).relu()]


def cascade(start: nn.Module, head: nn.Module | None = None, **keys) -> Cascade:
    """A small one; without a head it has the paper's."""
    backbone: nn.Module = Echo()
    if head is None:
        backbone = Patches()
        shape = (backbone.out_channels, backbone.strides, SUBIMAGE_PX, K)
        head = RegressionHead(*shape, hidden=128, standardize=keys.pop("standardize", False))
    return Cascade(
        Resized(start, keys.pop("start_px", CROP_PX)),
        backbone,
        head,
        LSP14,
        subimage_px=SUBIMAGE_PX,
        **keys,
    )


def people(count: int) -> dict:
    source = SyntheticSource(num_images=count, image_size_px=CROP_PX)
    dataset = PoseLandmarksDataset(source, range(count), Crop("box"), CROP_PX, LSP14)
    return torch.utils.data.default_collate([dataset[i] for i in range(count)])


@pytest.fixture
def batch() -> dict:
    return people(3)


def labelled(model: Cascade, batch: dict) -> tuple[dict, torch.Tensor]:
    """Output and loss."""
    given = batch["image"], batch["keypoints"], batch["visibility"]
    return model.forward_with_loss(*given, MaskedL1())


def test_answer_k_in_the_sub_image_of_joint_k_counts(batch):
    start = batch["keypoints"] + 0.05
    model = cascade(Told(start), Numbered())
    output = model(batch["image"])
    sub_images = SubImages.around(start, model.side * pose_diameter(start, LSP14))
    answers = sub_images.to_unit(output["keypoints"])
    number = torch.arange(3 * K).view(3, K)
    assert torch.allclose(answers[..., 0], number / 1000, atol=1e-5)
    assert torch.allclose(answers[..., 1], number % K / 100, atol=1e-5)


def test_the_head_sees_the_sub_images_of_the_start(batch):
    seen = []
    head = Numbered()
    head.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    model = cascade(Told(batch["keypoints"]), head, side=0.6)
    model(batch["image"])
    side = 0.6 * pose_diameter(batch["keypoints"], LSP14)
    pixels = SubImages.around(batch["keypoints"], side).sample(batch["image"], SUBIMAGE_PX)
    assert seen[0].shape == (3 * K, 3, SUBIMAGE_PX, SUBIMAGE_PX)
    assert torch.allclose(seen[0] * 255, pixels, atol=1e-2)


def test_the_start_sees_a_smaller_crop_without_aliasing():
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    told = Told(torch.rand(1, K, 2))
    Resized(told, 32)(stripes)
    assert told.seen[0].shape == (1, 3, 32, 32)
    assert torch.allclose(told.seen[0][..., 2:-2], torch.tensor(127.5), atol=0.5)
    Resized(told, 64)(stripes)
    assert told.seen[1] is stripes


def test_poses_of_all_stages(batch):
    first, second = Told(batch["keypoints"] + 0.05), Numbered()
    inner = cascade(first, second)
    outer = cascade(inner, Numbered(), start_px=32)
    output = outer(batch["image"])
    stages = output["stage_keypoints"]
    assert stages.shape == (3, 3, K, 2)
    assert torch.equal(stages[0], first.keypoints)
    assert not torch.allclose(stages[1], stages[0], atol=1e-3)
    assert torch.equal(stages[2], output["keypoints"])
    assert inner.start.model.seen[0].shape[-1] == 64  # the stage's own crop, 32 px, enlarged again


@pytest.mark.parametrize("score", [0.1, 0.5, 0.9])
def test_a_head_without_an_opinion_leaves_the_score_of_the_start(batch, score):
    output = cascade(Told(batch["keypoints"], score), Numbered())(batch["image"])
    assert output["scores"].unique().tolist() == pytest.approx([score])


def test_the_start_learns_nothing(batch):
    backbone = VggBn(11, 1 / 8)
    start = PoseModel(backbone, RegressionHead(backbone.out_channels, (32,), CROP_PX, K), K)
    model = cascade(start).train()
    before = {name: value.clone() for name, value in start.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        labelled(model, batch)[1].backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())
    assert not any(module.training for module in model.start.modules())
    assert model.backbone.training


def test_the_loss_counts_the_joints_that_their_sub_images_show(batch):
    truth, visibility = batch["keypoints"].clone(), batch["visibility"].clone()
    start = truth.clone()
    size = pose_diameter(truth, LSP14)
    start[:, 0, 0] += size  # beyond half a side
    start[:, 1, 0] += 0.3 * size
    truth[:, 5], visibility[:, 5] = torch.nan, 0
    given = []

    def loss(output, keypoints, labels):
        given.extend([keypoints, labels])
        return MaskedL1()(output, keypoints, labels)

    model = cascade(Told(start), starts="real").train()
    _, value = model.forward_with_loss(batch["image"], truth, visibility, loss)
    assert torch.isfinite(value)
    counted = given[1] > 0
    assert counted.sum(dim=0).tolist() == [0 if joint in (0, 5) else 3 for joint in range(K)]
    shift = size / pose_diameter(start, LSP14)
    assert torch.allclose(given[0][:, 1, 0], 0.5 - 0.3 * shift, atol=1e-4)
    assert torch.allclose(given[0][:, 2], torch.full((3, 2), 0.5), atol=1e-4)


def test_simulated_starts_have_the_fitted_errors():
    draw = torch.Generator().manual_seed(0)
    mean, std = torch.randn(2, K, 2, generator=draw) / 10
    model = cascade(Told(torch.zeros(1, K, 2)), standardize=True)
    model.set_start_errors(mean, std.abs())
    truth, size = torch.rand(4000, K, 2, generator=draw), torch.rand(4000, generator=draw) + 0.1
    truth[:1000, 2] = torch.nan
    estimate = torch.full_like(truth, 7.0)
    torch.manual_seed(0)
    start = model.simulate(truth, estimate, size)
    error = (start - truth) / size[:, None, None]
    assert torch.equal(start[:1000, 2], estimate[:1000, 2])
    assert torch.allclose(error.nanmean(dim=0), mean, atol=0.02)
    expected = std.abs().clamp(min=SMALLEST_STD)
    deviation = (error - error.nanmean(dim=0)).square().nanmean(dim=0).sqrt()
    assert torch.allclose(deviation, expected, rtol=0.06)
    torch.manual_seed(0)
    assert torch.equal(model.simulate(truth, estimate, size), start), "seeded by the training"


def test_the_head_learns_in_units_of_the_errors():
    model = cascade(Told(torch.zeros(1, K, 2)), standardize=True, side=2.0)
    model.set_start_errors(torch.full((K, 2), 0.2), torch.full((K, 2), 0.3))
    model.set_statistics(torch.zeros(K, 2), torch.zeros(K, 2))
    assert model.head.centre.unique().tolist() == pytest.approx([0.4])  # back from the error
    assert model.head.spread.unique().tolist() == pytest.approx([0.15])


def test_validation_starts_where_its_start_says(batch):
    model = cascade(Told(batch["keypoints"] + 0.02)).eval()
    with torch.no_grad():
        output, loss = labelled(model, batch)
        again = model(batch["image"])
    assert torch.equal(output["keypoints"], again["keypoints"])
    size = pose_diameter(batch["keypoints"] + 0.02, LSP14)[:, None, None]
    error = ((again["keypoints"] - batch["keypoints"]) / size).abs().mean()  # side is 1
    assert float(loss) == pytest.approx(float(error), rel=1e-4)


@pytest.mark.parametrize("starts", ["simulated", "real"])
def test_it_learns_to_remove_a_fixed_error(starts):
    """Remove an error that no constant shift removes: every other person is off the other way."""
    torch.manual_seed(0)
    batch = people(4)
    size = pose_diameter(batch["keypoints"], LSP14)[:, None, None]
    sign = torch.tensor([1.0, -1.0] * 2)[:, None, None]
    start = batch["keypoints"] + 0.2 * sign * size
    model = cascade(Told(start), starts=starts)
    model.set_start_errors(torch.zeros(K, 2), torch.full((K, 2), 0.2))

    def error() -> float:
        with torch.no_grad():
            found = model.eval()(batch["image"])["keypoints"]
        return float(((found - batch["keypoints"]) / size).norm(dim=-1).mean())

    untrained = error()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(100):
        optimizer.zero_grad()
        labelled(model, batch)[1].backward()
        optimizer.step()
    assert untrained > 0.25
    assert error() < 0.14, "half of what the start is off, 0.28"
