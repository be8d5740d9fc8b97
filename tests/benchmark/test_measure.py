"""Measurements: medians, limits and operations that can be counted by hand."""

import pytest
import torch
from tiny import tiny_config

from convpose.benchmark.command import table
from convpose.benchmark.measure import Speed, measure
from convpose.benchmark.training import TrainingWork


def test_the_share_of_a_limit():
    speed = Speed("work", [30.0, 10.0, 20.0], limit=80.0, limited_by="the bus")
    assert speed.median == 20
    assert speed.share == 0.25
    assert Speed("work", [1.0]).share is None
    rows = table([speed], "").rows
    assert rows == [("work", "20 images/s", "10–30", "25 % of 80, the bus")]


def test_every_round_counts_its_images():
    cfg = tiny_config("+seconds=0.01", "+rounds=3")
    made = []

    def work():
        made.append(0)
        while True:
            made[-1] += 5
            yield 5

    rates = measure(cfg, work)
    assert len(rates) == len(made) == 3
    assert all(0 < rate < images / 0.01 for rate, images in zip(rates, made, strict=True))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_operations_of_a_network_by_hand(batch_size, monkeypatch):
    class Flat(torch.nn.Module):
        num_keypoints = 14
        pixel_mean = pixel_std = (0.5, 0.5, 0.5)

        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3 * 32 * 32, 28)

        def forward(self, image):
            return {
                "keypoints": self.linear(image.flatten(1)).view(-1, 14, 2),
                "scores": image.new_full((len(image), 14), 0.5),
            }

    from convpose.models.pose_model import PoseModel

    class Identity(torch.nn.Identity):
        pixel_mean = pixel_std = (0.5, 0.5, 0.5)

    monkeypatch.setattr(
        "convpose.benchmark.training.build_model", lambda cfg: PoseModel(Identity(), Flat(), 14)
    )
    work = TrainingWork(tiny_config(), batch_size, False, torch.device("cpu"))
    # forward and the weights' gradient: two products; the image needs no gradient
    assert work.flop_per_image == 2 * 2 * 3 * 32 * 32 * 28
