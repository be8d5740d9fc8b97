"""`PoseMetrics` against the pure functions, in any batching, empty, and narrowed to bf16."""

import json
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convpose.metrics import functional as F
from convpose.metrics.pose_metrics import PoseMetrics
from convpose.skeleton import LSP14

K = LSP14.num_keypoints
HEADLINE = [
    *("pck@0.2", "pck@0.1", "auc", "pcp@0.5", "epe_px", "nme", "mse_unit", "mse_pm1", "mse_sq"),
    *("num_images", "num_keypoints", "num_keypoints_pck"),
    *("normaliser", "torso_fallbacks", "torso_missing", "torso_degenerate"),
]
Batch = dict[str, Tensor]


def a_split(seed: int = 0, images: int = 40, labelled: float = 0.8) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    keypoints_px = torch.rand(images, K, 2, generator=draw) * 150
    predicted_px = keypoints_px + torch.randn(images, K, 2, generator=draw) * 9
    visibility = torch.where(torch.rand(images, K, generator=draw) < labelled, 2, 0)
    keypoints_px = keypoints_px.masked_fill(visibility[..., None] == 0, math.nan)
    return {
        "predicted_px": predicted_px,
        "keypoints_px": keypoints_px,
        "visibility": visibility,
        "predicted": predicted_px / 150,
        "keypoints": keypoints_px / 150,
    }


def measure(*batches: Batch) -> dict:
    metrics = PoseMetrics(LSP14)
    for batch in batches:
        metrics.update(**batch)
    return metrics.compute()


def rows(batch: Batch, index: Tensor | slice) -> Batch:
    return {name: tensor[index] for name, tensor in batch.items()}


def flat(values: dict, prefix: str = "") -> dict[str, float]:
    """Nested measures as one level, so that two results compare with a tolerance."""
    out: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            out |= {f"{prefix}{name}/{i}": item for i, item in enumerate(value)}
        else:
            out[prefix + name] = value
    return out


def test_headline_equals_the_functions() -> None:
    batch = a_split()
    px = (batch["predicted_px"], batch["keypoints_px"], batch["visibility"])
    result = measure(batch)
    assert list(result)[: len(HEADLINE)] == HEADLINE
    total, counted = F.squared_sums(batch["predicted"], batch["keypoints"], batch["visibility"])
    mse = (total.sum() / (2 * counted.sum())).item()
    expected = {
        "pck@0.2": F.pck(*px, LSP14).item(),
        "pck@0.1": F.pck(*px, LSP14, threshold=0.1).item(),
        "auc": F.auc(F.pck_curve(*px, LSP14)).item(),
        "pcp@0.5": F.pcp(*px, LSP14).item(),
        "epe_px": F.epe(*px).item(),
        "nme": (F.nme_sums(*px, LSP14).sum() / F.pck_counts(*px, LSP14)[1].sum()).item(),
        "mse_unit": mse,
        "mse_pm1": 4 * mse,
        "mse_sq": 2 * mse,
    }
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert 0 < result["pck@0.1"] < result["pck@0.2"] < 1


def test_counts_by_hand() -> None:
    batch = a_split(images=3, labelled=1.1)
    shoulder, hip = LSP14.index("left_shoulder"), LSP14.index("right_hip")
    right_shoulder = LSP14.index("right_shoulder")
    batch["visibility"][1, hip] = 0  # falls back
    batch["visibility"][2, [hip, right_shoulder]] = 0  # no diagonal is left
    batch["keypoints_px"][0, shoulder] = batch["keypoints_px"][0, hip] + 1.0  # torso of 1.4 px
    result = measure(batch)
    assert (result["num_images"], result["num_keypoints"]) == (3, 3 * K - 3)
    assert result["num_keypoints_pck"] == 2 * K - 1
    assert (result["torso_fallbacks"], result["torso_missing"]) == (1, 1)
    assert result["torso_degenerate"] == 1
    assert result["per_joint"]["right_hip"]["num_keypoints"] == 1
    assert result["per_stick"]["torso"]["num_sticks"] == 1


def test_groups_average_and_pool_as_documented() -> None:
    batch = a_split()
    result = measure(batch)
    left, right = (result["per_joint"][f"{side}_wrist"] for side in ("left", "right"))
    wrist = result["per_part"]["wrist"]
    assert left["num_keypoints"] != right["num_keypoints"]  # so that pooling would differ
    for name in ("pck@0.2", "pck@0.1", "auc", "epe_px"):
        assert wrist[name] == pytest.approx((left[name] + right[name]) / 2)
    assert wrist["num_keypoints"] == left["num_keypoints"] + right["num_keypoints"]

    head = [LSP14.index("neck"), LSP14.index("head_top")]
    limbs = {name: tensor.clone() for name, tensor in batch.items()}
    limbs["visibility"][:, head] = 0
    alone = measure(limbs)
    assert result["limbs"] == pytest.approx(
        {name: alone[name] for name in ("pck@0.2", "pck@0.1", "auc")}
    )

    curve = result["pck_curve"]
    assert list(curve) == ["thresholds", "total", *LSP14.parts]
    assert curve["total"][-1] == result["pck@0.2"]
    assert curve["elbow"][-1] == result["per_part"]["elbow"]["pck@0.2"]
    assert curve["total"] == sorted(curve["total"])

    batch["visibility"][:, LSP14.index("left_wrist")] = 0
    result = measure(batch)  # one side unlabelled leaves the other to its part
    assert result["per_part"]["wrist"]["pck@0.2"] == result["per_joint"]["right_wrist"]["pck@0.2"]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.sets(st.integers(1, 19)))
def test_batching_and_order_do_not_matter(seed: int, cuts: set[int]) -> None:
    batch = a_split(seed, images=20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    edges = [0, *sorted(cuts), 20]
    parts = [rows(batch, order[start:stop]) for start, stop in pairwise(edges)]
    once, split = flat(measure(batch)), flat(measure(*parts))
    assert split == pytest.approx(once, abs=1e-12, nan_ok=True)


def test_arguments_are_not_changed_and_results_are_json() -> None:
    batch = a_split()
    copies = {name: tensor.clone() for name, tensor in batch.items()}
    result = measure(batch)
    for name, tensor in batch.items():
        assert torch.equal(tensor.nan_to_num(-1), copies[name].nan_to_num(-1)), name
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_nothing_labelled_gives_nan_not_zero() -> None:
    result = measure(a_split(images=2, labelled=-1.0))
    assert result["num_images"] == result["torso_missing"] == 2
    assert result["num_keypoints"] == 0
    for name in ("pck@0.2", "auc", "pcp@0.5", "epe_px", "nme", "mse_unit"):
        assert math.isnan(result[name]), name
    assert math.isnan(result["per_part"]["head"]["pck@0.2"])


def test_half_precision_modules_keep_double_sums() -> None:
    batch = a_split()
    holder = nn.ModuleDict({"metrics": PoseMetrics(LSP14)}).to(torch.bfloat16)
    metrics = holder["metrics"]
    for _ in range(2):
        metrics.reset()
        metrics.update(**batch)
        assert metrics.compute()["epe_px"] == measure(batch)["epe_px"]


def test_update_never_waits_for_the_device() -> None:
    batch = {name: tensor.to("meta") for name, tensor in a_split().items()}
    PoseMetrics(LSP14).to("meta").update(**batch)  # a meta tensor has no value to wait for


def test_a_wrong_number_of_keypoints_is_refused() -> None:
    batch = {name: tensor[:, :13] for name, tensor in a_split().items()}
    with pytest.raises(ValueError, match=r"lsp14 wants keypoints \(40, 14, 2\)"):
        measure(batch)


def test_states_add_over_devices() -> None:
    batch = a_split()
    first, second = PoseMetrics(LSP14), PoseMetrics(LSP14)
    first.update(**rows(batch, slice(0, 13)))
    second.update(**rows(batch, slice(13, 40)))
    for name, reduce in first._reductions.items():
        setattr(first, name, reduce(torch.stack([getattr(first, name), getattr(second, name)])))
    assert flat(first.compute()) == pytest.approx(flat(measure(batch)), abs=1e-12)
