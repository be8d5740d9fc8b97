"""The paper's head with and without statistics; its losses by hand and against a plain loop."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convpose.errors import ConfigError
from convpose.models.keypoints.regression import (
    MaskedL1,
    MaskedMSE,
    MaskedSmoothL1,
    MaskedWing,
    RegressionHead,
)

NAN = math.nan
MEAN, DEVIATION = torch.rand(3, 2), torch.rand(3, 2) + 0.1


def head(**keys):
    torch.manual_seed(0)
    return RegressionHead((4, 8), (16, 32), 70, 3, **{"hidden": 16, **keys})


def features(batch=5):
    return [torch.randn(batch, 4, 4, 4), torch.randn(batch, 8, 2, 2)]


class TestHead:
    def raw(self, some, maps):
        """Linear, ReLU, linear on the flattened last map, by hand."""
        hidden = torch.relu(maps[-1].flatten(1) @ some.hidden.weight.T + some.hidden.bias)
        return (hidden @ some.output.weight.T + some.output.bias).view(-1, 3, 2)

    def test_as_built_it_predicts_around_the_centre_of_the_crop(self):
        some, maps = head(), features()
        output = some(maps)
        torch.testing.assert_close(output["keypoints"], 0.5 + self.raw(some, maps))
        assert output["scores"].tolist() == [[0.5] * 3] * 5
        assert set(output) == {"keypoints", "scores"}
        names = [name for name, _ in some.named_parameters()]
        assert names == ["hidden.weight", "hidden.bias", "output.weight", "output.bias"]

    def test_statistics_standardize_the_output_and_a_checkpoint_keeps_them(self):
        some, copy, maps = head(), head(), features()
        some.set_statistics(MEAN, DEVIATION)
        expected = MEAN + DEVIATION * self.raw(some, maps)
        torch.testing.assert_close(some(maps)["keypoints"], expected)
        copy.load_state_dict(some.state_dict())
        assert torch.equal(copy(maps)["keypoints"], some(maps)["keypoints"])
        with torch.autocast("cpu", torch.bfloat16):
            assert some(maps)["keypoints"].dtype is torch.float32

    def test_without_standardizing_they_are_left_out(self):
        some, maps = head(standardize=False), features()
        some.set_statistics(MEAN, DEVIATION)
        torch.testing.assert_close(some(maps)["keypoints"], 0.5 + self.raw(some, maps))

    def test_an_input_smaller_than_the_stride_is_refused(self):
        with pytest.raises(ConfigError, match=r"data\.input_size_px=31: expected at least 32 px"):
            RegressionHead((8,), (32,), 31, 3)


LOSSES = {  # of one coordinate, by the books
    MaskedMSE: lambda e: e**2,
    MaskedL1: abs,
    MaskedSmoothL1: lambda e: e**2 / 0.04 if abs(e) < 0.02 else abs(e) - 0.01,
    MaskedWing: lambda e: (
        0.04 * math.log(1 + abs(e) / 0.008)
        if abs(e) < 0.04
        else abs(e) - (0.04 - 0.04 * math.log(1 + 0.04 / 0.008))
    ),
}
every_loss = pytest.mark.parametrize("kind", LOSSES, ids=lambda kind: kind.__name__)
RISE = 0.04 - 0.04 * math.log(6)  # what makes both branches of the wing meet at 0.04


@pytest.mark.parametrize(
    ("kind", "errors", "value", "slopes"),
    [
        (MaskedMSE, (0.3, 0.4, 0.0, -1.0), 1.25, (0.6, 0.8, 0.0, -2.0)),
        (MaskedSmoothL1, (0.01, 0.0, 0.2, 0.0), 0.0025 + 0.19, (0.5, 0.0, 1.0, 0.0)),
        (
            MaskedWing,
            (0.008, 0.0, 0.2, -0.05),
            0.04 * math.log(2) + (0.2 - RISE) + (0.05 - RISE),
            (0.04 / 0.016, 0.0, 1.0, -1.0),
        ),
    ],
)
def test_by_hand(kind, errors, value, slopes):
    predicted = torch.tensor(errors, dtype=torch.float64).view(1, 2, 2).requires_grad_()
    loss = kind()({"keypoints": predicted}, torch.zeros(1, 2, 2), torch.tensor([[2, 1]]))
    loss.backward()
    assert loss.item() == pytest.approx(value / 4)
    assert (4 * predicted.grad).flatten().tolist() == pytest.approx(slopes)


@every_loss
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_it_is_the_mean_of_a_plain_loop(kind, seed):
    """Over the labelled keypoints, those outside the crop as well."""
    rng = torch.Generator().manual_seed(seed)
    predicted, truth = torch.rand(2, 4, 5, 2, generator=rng)
    truth[0] *= 3
    visibility = torch.randint(0, 3, (4, 5), generator=rng)
    truth[visibility == 0] = NAN
    each = [
        LOSSES[kind](float(predicted[b, k, axis] - truth[b, k, axis]))
        for b in range(4)
        for k in range(5)
        for axis in range(2)
        if visibility[b, k]
    ]
    loss = kind()({"keypoints": predicted}, truth, visibility)
    assert loss.item() == pytest.approx(sum(each) / max(1, len(each)), rel=1e-4)


@every_loss
def test_it_rises_steadily_from_zero(kind):
    values = kind().penalty(torch.linspace(0, 0.2, 400))
    assert values[0] == 0
    steps = values.diff()
    assert (steps > 0).all()
    assert steps.max() < 0.003, "no jump"


@every_loss
def test_a_labelled_nan_is_not_hidden(kind):
    output, truth = {"keypoints": torch.zeros(1, 1, 2)}, torch.full((1, 1, 2), NAN)
    assert kind()(output, truth, torch.tensor([[2]])).isnan()


def test_wrong_labels_move_squares_and_hardly_l1():
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(200, 4, generator=rng)
    true = 0.5 + 0.1 * features @ torch.randn(4, 2, generator=rng)
    labels = true.clone()
    labels[:30] = 1 - true[:30] + 0.3  # 15 % exchange left and right, and miss
    off = {}
    for kind in (MaskedMSE, MaskedL1):
        weight, bias = torch.zeros(4, 2, requires_grad=True), torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.Adam([weight, bias], lr=0.03)
        for _ in range(100):
            output = {"keypoints": (features @ weight + bias).unsqueeze(1)}
            optimizer.zero_grad()
            kind()(output, labels.unsqueeze(1), torch.full((200, 1), 2)).backward()
            optimizer.step()
        off[kind] = (features @ weight + bias - true).norm(dim=1).mean().item()
    assert off[MaskedL1] < 0.02 < 0.05 < off[MaskedMSE]
