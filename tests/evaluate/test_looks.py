"""Two looks at whole frames, scored: people placed small, whose joints can be read off pixels."""

from functools import partial

import numpy as np
import torch
from fake_network import NearSighted, dot, on_diagonal

from convpose.data.annotation import Annotation
from convpose.data.datamodule import PoseDataModule
from convpose.evaluate.scoring import GroundTruth, look_again, predict
from convpose.geometry import Affine, Image, identity


class SmallPeople:
    """Red dots, each on a frame nine times as wide; labelled on the diagonal, or far from it."""

    def __init__(self, shift_px: float = 0.0) -> None:
        self.places = [(40.0 + 20 * i, 60.0 + 9 * i) for i in range(6)]
        size, labelled = (200, 160), np.full(14, 2, np.uint8)
        self.annotations = [
            Annotation(f"{i}", "dots", *size, on_diagonal(at, 11) + np.float32(shift_px), labelled)
            for i, at in enumerate(self.places)
        ]

    def read_image(self, index: int) -> tuple[Image, Affine]:
        return dot(200, 160, self.places[index], 11), identity()


def test_a_second_look_uses_no_ground_truth_and_finds_more() -> None:
    runtime = NearSighted()

    def network(crops: torch.Tensor) -> dict[str, torch.Tensor]:
        keypoints, scores = runtime(crops.numpy())
        return {"keypoints": torch.from_numpy(keypoints), "scores": torch.from_numpy(scores)}

    found = []
    for shift_px in (0.0, 30.0):
        data = PoseDataModule(
            {"dots": partial(SmallPeople, shift_px)}, "whole", "letterbox", 1.25, 64, num_workers=0
        )
        data.setup()
        first = predict(network, data.loader("test"), show=False)
        found.append(look_again(network, data, "test", first, 1.25))
        if shift_px == 0:
            truth = GroundTruth.of(data.datasets["test"], data.skeleton)
            once, twice = (
                truth.errors(torch.from_numpy(p.keypoints_px)).mean() for p in (first, found[0])
            )
    assert twice < 0.6 * once
    assert np.array_equal(found[0].keypoints_px, found[1].keypoints_px)
    runtime.scores = np.zeros(14, np.float32)
    first = predict(network, data.loader("test"), show=False)
    assert look_again(network, data, "test", first, 1.25) is first, "nobody is sure"
