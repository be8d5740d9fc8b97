"""The paper's head, with and without the statistics of the training keypoints."""

import pytest
import torch

from convpose.errors import ConfigError
from convpose.models.keypoints.regression import RegressionHead

MEAN, DEVIATION = torch.rand(3, 2), torch.rand(3, 2) + 0.1


def head(**keys):
    torch.manual_seed(0)
    return RegressionHead((4, 8), (16, 32), 70, 3, **{"hidden": 16, **keys})


def features(batch=5):
    return [torch.randn(batch, 4, 4, 4), torch.randn(batch, 8, 2, 2)]


def raw(some, maps):
    """Linear, ReLU, linear on the flattened last map, by hand."""
    hidden = torch.relu(maps[-1].flatten(1) @ some.hidden.weight.T + some.hidden.bias)
    return (hidden @ some.output.weight.T + some.output.bias).view(-1, 3, 2)


def test_shapes_and_scores_that_say_nothing():
    output = head()(features())
    assert output["keypoints"].shape == (5, 3, 2)
    assert output["scores"].tolist() == [[0.5] * 3] * 5
    assert set(output) == {"keypoints", "scores"}, "the paper's parameters, no probe"


def test_as_built_it_predicts_around_the_centre_of_the_crop():
    some, maps = head(), features()
    torch.testing.assert_close(some(maps)["keypoints"], 0.5 + raw(some, maps))


def test_statistics_standardize_the_output():
    some, maps = head(), features()
    some.set_statistics(MEAN, DEVIATION)
    torch.testing.assert_close(some(maps)["keypoints"], MEAN + DEVIATION * raw(some, maps))


def test_without_standardizing_they_are_left_out():
    some, maps = head(standardize=False), features()
    some.set_statistics(MEAN, DEVIATION)
    torch.testing.assert_close(some(maps)["keypoints"], 0.5 + raw(some, maps))


def test_a_checkpoint_keeps_the_statistics():
    some, maps = head(), features()
    some.set_statistics(MEAN, DEVIATION)
    copy = head()
    copy.load_state_dict(some.state_dict())
    assert torch.equal(copy.centre, MEAN)
    assert torch.equal(copy.spread, DEVIATION)
    assert torch.equal(copy(maps)["keypoints"], some(maps)["keypoints"])


def test_they_are_no_parameters():
    names = [name for name, _ in head().named_parameters()]
    assert names == ["hidden.weight", "hidden.bias", "output.weight", "output.bias"]


def test_coordinates_stay_float32_under_bf16_autocast():
    some = head()
    some.set_statistics(MEAN, DEVIATION)
    with torch.autocast("cpu", torch.bfloat16):
        output = some(features())
    assert output["keypoints"].dtype is torch.float32
    assert output["scores"].dtype is torch.float32


def test_an_input_smaller_than_the_stride_is_refused():
    with pytest.raises(ConfigError, match=r"data\.input_size_px=31: expected at least 32 px"):
        RegressionHead((8,), (32,), 31, 3)
