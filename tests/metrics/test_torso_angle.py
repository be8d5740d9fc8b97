"""The torso angle by hand, in mirror and scale, and its groups against the total."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from convpose.metrics import functional as F
from convpose.metrics.pose_metrics import BINS, UNKNOWN, per_torso_angle, torso_angle
from convpose.skeleton import COCO17, LSP14, Skeleton


def people(*angles_deg: float, skeleton: Skeleton = LSP14) -> tuple[Tensor, Tensor]:
    """One person each, 50 px from hips to shoulders, leaning to their side of the image."""
    keypoints_px = torch.full((len(angles_deg), skeleton.num_keypoints, 2), 100.0)
    for pose, degrees in zip(keypoints_px, angles_deg, strict=True):
        turn = math.radians(degrees)
        up = torch.tensor([math.sin(turn), -math.cos(turn)])
        across = torch.tensor([-up[1], up[0]])
        for side, sign in (("left", 1), ("right", -1)):
            pose[skeleton.index(f"{side}_hip")] += 8 * sign * across
            pose[skeleton.index(f"{side}_shoulder")] += 50 * up + 10 * sign * across
        if "neck" in skeleton.keypoints:
            pose[skeleton.index("neck")] += 55 * up
    return keypoints_px, torch.full(keypoints_px.shape[:2], 2)


def test_angles_by_hand() -> None:
    angles = torso_angle(*people(0, 30, -45, 90, -150, 180), LSP14)
    assert angles.tolist() == pytest.approx([0, 30, 45, 90, 150, 180], abs=1e-4)
    without_neck = torso_angle(*people(70, skeleton=COCO17), COCO17)
    assert without_neck.tolist() == pytest.approx([70], abs=1e-4)


@settings(max_examples=10, deadline=None)
@given(degrees=st.floats(-179, 179), scale=st.floats(0.1, 10))
def test_mirror_place_and_size_change_nothing(degrees: float, scale: float) -> None:
    keypoints_px, visibility = people(degrees)
    mirrored = keypoints_px[:, list(LSP14.mirror)] * torch.tensor([-scale, scale]) + 40
    angle = torso_angle(mirrored, visibility, LSP14)
    assert angle.item() == pytest.approx(abs(degrees), abs=1e-2)


def test_the_neck_stands_in_for_shoulders_and_nothing_for_hips() -> None:
    keypoints_px, visibility = people(80, 80, 80, 80)
    lacking = (("left_shoulder",), ("left_shoulder", "neck"), ("right_hip",), ())
    for person, names in enumerate(lacking):
        visibility[person, [LSP14.index(name) for name in names]] = 0
    keypoints_px = keypoints_px.masked_fill(visibility[..., None] == 0, math.nan)
    keypoints_px[3] = 7.0  # all joints in one place point nowhere
    assert torso_angle(keypoints_px, visibility, LSP14).tolist() == pytest.approx(
        [80, math.nan, math.nan, math.nan], abs=1e-4, nan_ok=True
    )


def test_groups_share_out_all_images_and_keypoints() -> None:
    keypoints_px, visibility = people(0, 29, 31, 59, 61, -119, 121, 180, 10)
    visibility[-1, LSP14.index("left_hip")] = 0
    predicted_px = keypoints_px.clone()
    predicted_px[2] += torch.tensor([30.0, 40.0])  # one of the two between 30° and 60° misses all
    groups = per_torso_angle(predicted_px, keypoints_px, visibility, LSP14)

    assert list(groups) == [*BINS, UNKNOWN] == ["0-30", "30-60", "60-120", "120-180", "unknown"]
    assert [group["num_images"] for group in groups.values()] == [2, 2, 2, 2, 1]
    assert [group["pck@0.2"] for group in groups.values()] == [1, 0.5, 1, 1, 1]
    assert groups["30-60"]["epe_px"] == pytest.approx(25)
    assert sum(g["num_keypoints"] for g in groups.values()) == 9 * LSP14.num_keypoints - 1


def test_a_group_is_what_its_images_alone_score() -> None:
    keypoints_px, visibility = people(100, 5, 65)
    draw = torch.Generator().manual_seed(0)
    predicted_px = keypoints_px + 8 * torch.randn(keypoints_px.shape, generator=draw)
    group = per_torso_angle(predicted_px, keypoints_px, visibility, LSP14)["60-120"]

    alone = predicted_px[[0, 2]], keypoints_px[[0, 2]], visibility[[0, 2]]
    curve = F.pck_curve(*alone, LSP14)
    assert 0 < group["pck@0.1"] < group["pck@0.2"] <= 1
    assert group["pck@0.1"] == pytest.approx(F.pck(*alone, LSP14, threshold=0.1).item())
    assert group["auc"] == pytest.approx(F.auc(curve).item())
    assert group["epe_px"] == pytest.approx(F.epe(*alone).item())


def test_an_empty_range_is_nan_not_zero() -> None:
    groups = per_torso_angle(people(90)[0], *people(90), LSP14)
    assert [group["num_images"] for group in groups.values()] == [0, 0, 1, 0, 0]
    assert math.isnan(groups["120-180"]["pck@0.2"])
    assert math.isnan(groups["120-180"]["epe_px"])
