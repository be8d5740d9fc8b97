"""Each measure against hand numbers and against a plain loop that shares no code with it."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from convpose.metrics import functional as F
from convpose.skeleton import LSP14

K = LSP14.num_keypoints
JOINT = {name: LSP14.index(name) for name in LSP14.keypoints}


def a_person() -> tuple[Tensor, Tensor]:
    """One fully labelled person whose torso diagonal is a 3-4-5 triangle times ten: 50 px."""
    keypoints_px = torch.zeros(1, K, 2)
    places = {
        "right_shoulder": (0, 0),
        "left_shoulder": (30, 0),
        "right_hip": (0, 40),
        "left_hip": (30, 40),
        "right_elbow": (-30, 40),
        "left_elbow": (60, 40),
        "right_wrist": (-30, 90),
        "left_wrist": (60, 90),
        "right_knee": (0, 100),
        "left_knee": (30, 100),
        "right_ankle": (0, 160),
        "left_ankle": (30, 160),
        "neck": (15, -10),
        "head_top": (15, -50),
    }
    for name, place in places.items():
        keypoints_px[0, JOINT[name]] = torch.tensor(place, dtype=torch.float32)
    return keypoints_px, torch.full((1, K), 2)


def unlabel(keypoints: Tensor, visibility: Tensor, *names: str) -> None:
    for name in names:
        keypoints[0, JOINT[name]] = math.nan
        visibility[0, JOINT[name]] = 0


def random_split(seed: int, images: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Integer coordinates, so that translation is exact; some keypoints are unlabelled."""
    draw = torch.Generator().manual_seed(seed)
    keypoints_px = torch.randint(0, 120, (images, K, 2), generator=draw).float()
    error = torch.randint(-14, 15, (images, K, 2), generator=draw).float()
    visibility = torch.randint(0, 3, (images, K), generator=draw)
    predicted_px = keypoints_px + error
    return predicted_px, keypoints_px.masked_fill(visibility[..., None] == 0, math.nan), visibility


def loop_torso(points: list, visible: list) -> float | None:
    for a, b in ((9, 2), (8, 3)):  # left shoulder – right hip, then right shoulder – left hip
        if visible[a] and visible[b]:
            return math.dist(points[a], points[b])
    return None


def loop_pck(predicted: Tensor, keypoints: Tensor, visibility: Tensor, threshold: float) -> float:
    right = counted = 0
    for p, k, v in zip(predicted.tolist(), keypoints.tolist(), visibility.tolist(), strict=True):
        torso = loop_torso(k, v)
        for i in range(14):
            if v[i] and torso is not None:
                counted += 1
                right += math.dist(p[i], k[i]) <= threshold * torso
    return right / counted


def loop_pcp(predicted: Tensor, keypoints: Tensor, visibility: Tensor) -> float:
    ends = [(1, 2), (4, 3), (0, 1), (5, 4), (8, 7), (9, 10), (7, 6), (10, 11), (12, 13)]
    sticks = [((a,), (b,)) for a, b in ends] + [((2, 3), (8, 9))]
    right = counted = 0
    for p, k, v in zip(predicted.tolist(), keypoints.tolist(), visibility.tolist(), strict=True):
        for a, b in sticks:
            if not all(v[i] for i in a + b):
                continue

            def mean(points: list, ids: tuple) -> list[float]:
                return [sum(points[i][axis] for i in ids) / len(ids) for axis in (0, 1)]

            half = 0.5 * math.dist(mean(k, a), mean(k, b))
            counted += 1
            right += all(math.dist(mean(p, end), mean(k, end)) <= half for end in (a, b))
    return right / counted


def test_torso_is_left_shoulder_to_right_hip_then_the_other_diagonal_then_none() -> None:
    keypoints_px, visibility = a_person()
    visibility[0, JOINT["right_hip"]] = 1  # an occluded end is a labelled end
    size, kind = F.reference_size(keypoints_px, visibility, LSP14)
    assert (size.tolist(), kind.tolist()) == ([50.0], [F.Reference.MAIN])
    keypoints_px[0, JOINT["left_hip"]] = torch.tensor([60.0, 80.0])  # other diagonal: 100 px
    unlabel(keypoints_px, visibility, "right_hip")
    size, kind = F.reference_size(keypoints_px, visibility, LSP14)
    assert (size.tolist(), kind.tolist()) == ([100.0], [F.Reference.FALLBACK])
    unlabel(keypoints_px, visibility, "right_shoulder")
    size, kind = F.reference_size(keypoints_px, visibility, LSP14)
    assert size.isnan().all()
    assert kind.tolist() == [F.Reference.NONE]


def test_pck_includes_the_border() -> None:
    keypoints_px, visibility = a_person()
    on_border = keypoints_px + torch.tensor([6.0, 8.0])  # 10 px = 0.2 · 50 px
    assert F.pck(on_border, keypoints_px, visibility, LSP14) == 1.0
    assert F.pck(on_border, keypoints_px, visibility, LSP14, threshold=0.19) == 0.0
    beyond = keypoints_px + torch.tensor([6.0, 8.001])
    assert F.pck(beyond, keypoints_px, visibility, LSP14) == 0.0


def test_pck_is_the_share_of_keypoints() -> None:
    keypoints_px, visibility = a_person()
    predicted_px = keypoints_px.clone()
    predicted_px[0, :7] += 30.0
    assert F.pck(predicted_px, keypoints_px, visibility, LSP14) == 0.5
    unlabel(keypoints_px, visibility, "right_ankle")  # one of the seven wrong ones
    assert F.pck(predicted_px, keypoints_px, visibility, LSP14).item() == pytest.approx(7 / 13)
    predicted_px[0, 13] = math.nan  # misses
    assert F.pck(predicted_px, keypoints_px, visibility, LSP14).item() == pytest.approx(6 / 13)
    assert F.epe(predicted_px, keypoints_px, visibility).isnan()


def test_pckh_by_hand() -> None:
    truth = torch.zeros(2, 3, 2)
    predicted = torch.tensor([[[3.0, 0], [3.01, 0], [0.59, 0]], [[0.0, 0], [9, 9], [9, 9]]])
    visibility = torch.tensor([[1, 2, 2], [2, 0, 2]])
    # half of 0.6 of a diagonal of 10 is 3 pixels; the second image has no head
    hits, counted = F.pckh_counts(predicted, truth, visibility, torch.tensor([10.0, torch.nan]))
    assert hits.tolist() == [[1, 0], [0, 0], [1, 1]]
    assert counted.tolist() == [1, 1, 1]


def test_images_without_torso_leave_pck_but_not_epe() -> None:
    keypoints_px, visibility = a_person()
    unlabel(keypoints_px, visibility, "right_hip", "right_shoulder")
    predicted_px = torch.nan_to_num(keypoints_px)
    hits, counted = F.pck_counts(predicted_px, keypoints_px, visibility, LSP14)
    assert hits.sum() == 0
    assert counted.sum() == 0
    assert F.pck(predicted_px, keypoints_px, visibility, LSP14).isnan()
    assert F.epe(predicted_px + torch.tensor([3.0, 4.0]), keypoints_px, visibility) == 5.0


def test_a_tiny_torso_is_kept() -> None:
    keypoints_px, visibility = a_person()
    hits, counted = F.pck_counts(keypoints_px + 1, keypoints_px / 50 * 2.6, visibility, LSP14)
    assert counted.sum() == K
    assert hits[:, -1].sum() < K


def test_auc_by_hand() -> None:
    assert F.auc(torch.ones(21)).item() == pytest.approx(1.0)
    assert F.auc(torch.linspace(0, 1, 21)).item() == pytest.approx(0.5)
    step = torch.zeros(21)
    step[10:] = 1.0  # right from 0.10 on: half of one interval, then ten whole ones
    assert F.auc(step).item() == pytest.approx((0.5 + 10) / 20)


@pytest.mark.parametrize("seed", range(3))
def test_pck_equals_the_loop(seed: int) -> None:
    split = random_split(seed)
    assert (len(F.THRESHOLDS), *F.THRESHOLDS[7::13]) == (21, 0.07, 0.2), "the decimals"
    curve = F.pck_curve(*split, LSP14).tolist()
    expected = [loop_pck(*split, threshold) for threshold in F.THRESHOLDS]
    assert curve == pytest.approx(expected, abs=1e-12)
    assert expected[20] > expected[10] > 0  # the data reach the interesting range
    area = sum((a + b) / 2 * 0.01 for a, b in pairwise(expected)) / 0.2
    assert F.auc(torch.tensor(curve)).item() == pytest.approx(area, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shift=st.tuples(st.integers(-500, 500), st.integers(-500, 500)),
    scale=st.sampled_from([0.25, 0.5, 2.0, 8.0]),
)
def test_pck_ignores_translation_scale_and_order(seed: int, shift: tuple, scale: float) -> None:
    predicted_px, keypoints_px, visibility = random_split(seed, images=4)
    before = F.pck_counts(predicted_px, keypoints_px, visibility, LSP14)

    def move(points: Tensor) -> Tensor:
        return points * scale + torch.tensor(shift, dtype=torch.float32)

    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    after = F.pck_counts(
        move(predicted_px)[order], move(keypoints_px)[order], visibility[order], LSP14
    )
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_pcp_needs_both_ends() -> None:
    keypoints_px, visibility = a_person()
    predicted_px = keypoints_px.clone()
    predicted_px[0, JOINT["right_ankle"], 0] += 30.0  # half of the 60 px lower leg: still right
    assert F.pcp(predicted_px, keypoints_px, visibility, LSP14) == 1.0
    predicted_px[0, JOINT["right_ankle"], 0] += 0.01
    assert F.pcp(predicted_px, keypoints_px, visibility, LSP14).item() == pytest.approx(0.9)
    # The knee belongs to two sticks of 60 px.
    predicted_px[0, JOINT["right_knee"], 0] += 31.0
    assert F.pcp(predicted_px, keypoints_px, visibility, LSP14).item() == pytest.approx(0.8)


def test_pcp_torso_runs_between_the_middles() -> None:
    keypoints_px, visibility = a_person()
    predicted_px = keypoints_px.clone()
    predicted_px[0, JOINT["right_hip"], 0] += 40.0  # the middle moves by 20 = half of 40 px
    torso = list(LSP14.sticks).index("torso")
    assert F.pcp_counts(predicted_px, keypoints_px, visibility, LSP14)[0][torso] == 1
    predicted_px[0, JOINT["right_hip"], 0] += 0.1
    assert F.pcp_counts(predicted_px, keypoints_px, visibility, LSP14)[0][torso] == 0


def test_pcp_counts_sticks_with_all_keypoints_labelled() -> None:
    keypoints_px, visibility = a_person()
    unlabel(keypoints_px, visibility, "left_hip")
    _, counted = F.pcp_counts(torch.nan_to_num(keypoints_px), keypoints_px, visibility, LSP14)
    missing = {name for name, n in zip(LSP14.sticks, counted.tolist(), strict=True) if n == 0}
    assert missing == {"torso", "left_upper_leg"}


@pytest.mark.parametrize("seed", range(3))
def test_pcp_equals_the_loop(seed: int) -> None:
    predicted_px, keypoints_px, visibility = random_split(seed)
    predicted_px = keypoints_px.nan_to_num() + 4 * (predicted_px - keypoints_px).nan_to_num()
    expected = loop_pcp(predicted_px, keypoints_px, visibility)
    assert 0 < expected < 1
    assert F.pcp(predicted_px, keypoints_px, visibility, LSP14).item() == pytest.approx(expected)


def test_mse_in_three_conventions() -> None:
    keypoints, visibility = torch.full((1, K, 2), 0.5), torch.full((1, K), 2)
    predicted = keypoints + torch.tensor([0.3, 0.4])
    total, counted = F.squared_sums(predicted, keypoints, visibility)
    value = (total.sum() / (2 * counted.sum())).item()
    assert value == pytest.approx((0.09 + 0.16) / 2)
    pm1 = ((2 * predicted - 1) - (2 * keypoints - 1)).square().mean().item()
    assert F.MSE_SCALES["mse_pm1"] * value == pytest.approx(pm1)
    assert F.MSE_SCALES["mse_sq"] * value == pytest.approx(0.25)
    assert F.epe(predicted, keypoints, visibility).item() == pytest.approx(0.5), "the distance"


@pytest.mark.parametrize("seed", range(3))
def test_epe_and_mse_equal_the_loop(seed: int) -> None:
    predicted, keypoints, visibility = random_split(seed)
    errors = [
        (math.dist(p, k), ((p[0] - k[0]) ** 2 + (p[1] - k[1]) ** 2) / 2)
        for ps, ks, vs in zip(
            predicted.tolist(), keypoints.tolist(), visibility.tolist(), strict=True
        )
        for p, k, v in zip(ps, ks, vs, strict=True)
        if v > 0
    ]
    epe, mse = (sum(column) / len(errors) for column in zip(*errors, strict=True))
    assert F.epe(predicted, keypoints, visibility).item() == pytest.approx(epe)
    total, counted = F.squared_sums(predicted, keypoints, visibility)
    assert (total.sum() / (2 * counted.sum())).item() == pytest.approx(mse)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must both be \(N, K, 2\), got \(1, 14, 2\)"):
        F.keypoint_distance(torch.zeros(1, K, 2), torch.zeros(5, K, 2))


def test_calibration_error_by_hand() -> None:
    scores = np.array([0.12, 0.18, 0.95, 1.0])
    hits = np.array([False, True, True, True])
    # bin 1: mean score 0.15, rate 0.5; bin 9: mean score 0.975, rate 1
    assert F.calibration_error(scores, hits) == pytest.approx((2 * 0.35 + 2 * 0.025) / 4)
    assert F.calibration_error(np.array([0.91, 1.0]), np.array([True, False])) == pytest.approx(
        0.455
    ), "1 belongs to the last bin"
    assert math.isnan(F.calibration_error(np.array([]), np.array([], bool)))
