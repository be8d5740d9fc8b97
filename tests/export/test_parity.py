"""Measure how far two runtimes are apart, with runtimes whose distance is known."""

import numpy as np
import pytest

from convpose.errors import ModelError
from convpose.export.command import Difference, check_difference, check_drop, synthetic_crops
from convpose.runtime import CropSpec
from convpose.skeleton import LSP14

SPEC = CropSpec(100, "letterbox", 1.25, LSP14)


class Fixed:
    """A runtime that says of every crop the same, but for some crops."""

    def __init__(self, at=0.5, score=0.5, other=None, of_crops=()):
        self.spec = SPEC
        self.answers = at, score, other, of_crops
        self.seen = 0

    def __call__(self, crops):
        at, score, other, of_crops = self.answers
        keypoints = np.full((len(crops), 14, 2), at, np.float32)
        for i in of_crops:
            if self.seen <= i < self.seen + len(crops):
                keypoints[i - self.seen] = other
        self.seen += len(crops)
        return keypoints, np.full((len(crops), 14), score, np.float32)


CROPS = np.zeros((200, 3, 4, 4), np.uint8)


def test_distances_are_in_pixels_of_the_crop():
    difference = Difference.between(Fixed((0.5, 0.5)), Fixed((0.53, 0.54), 0.75), CROPS)
    assert difference.largest_px == pytest.approx(5, rel=1e-5)  # 3-4-5, in hundredths
    assert difference.usual_px == pytest.approx(5, rel=1e-5)
    assert difference.score == 0.25
    assert difference.crops == 200
    assert str(difference).startswith("keypoints are at most 5 px of the crop off PyTorch's")


def test_one_crop_in_a_hundred_is_unusual_and_two_are_not():
    one = Difference.between(Fixed(), Fixed(other=0.9, of_crops=[77]), CROPS)
    assert one.largest_px == pytest.approx(40 * 2**0.5, rel=1e-5)
    assert one.usual_px == 0
    three = Difference.between(Fixed(), Fixed(other=0.9, of_crops=[7, 77, 177]), CROPS)
    assert three.usual_px == three.largest_px


def test_an_answer_that_is_no_number_is_infinitely_far():
    assert Difference.between(Fixed(), Fixed(np.nan), CROPS).usual_px == np.inf


def test_what_is_too_far_is_refused():
    near, tipped = Difference(9, 0.01, 0.001, 0.0), Difference(9, 30.0, 0.1, 0.0)
    check_difference(near, "fp32", None)
    check_difference(tipped, "fp16", None)
    check_difference(tipped, "fp32", 31)
    with pytest.raises(ModelError, match=r"are 30 px .* nothing is written\. max_difference_px=0"):
        check_difference(tipped, "fp32", None)
    with pytest.raises(ModelError, match=r"are 0\.1 px .* max_difference_px=0\.05 allows no more"):
        check_difference(tipped, "fp16", 0.05)
    with pytest.raises(ModelError, match="are inf px"):
        check_difference(Difference(9, np.inf, np.inf, np.nan), "fp16", None)


def test_what_int8_may_lose():
    check_drop({"pck@0.2": 0.5}, {"pck@0.2": 0.495}, 0.01)
    with pytest.raises(ModelError, match=r"int8 loses 2\.0 points of PCK@0\.2 .*50\.0 to 48\.0 %"):
        check_drop({"pck@0.2": 0.5}, {"pck@0.2": 0.48}, 0.01)
    with pytest.raises(ModelError, match="loses nan"):
        check_drop({"pck@0.2": 0.5}, {"pck@0.2": float("nan")}, 0.01)


def test_synthetic_crops_are_of_the_wanted_size():
    crops = synthetic_crops(SPEC, 3)
    assert crops.shape == (3, 3, 100, 100)
    assert crops.dtype == np.uint8
    assert crops.std() > 10
