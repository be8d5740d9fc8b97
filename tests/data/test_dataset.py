"""Samples: whatever is augmented, labels stay on their pixels, and every draw is repeatable."""

from dataclasses import replace

import albumentations
import numpy as np
import pytest
import torch
from fake_source import BLUE, RED, ArraySource, K, annotation, dot_positions, dotted_source
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from convpose.data.augment import Augment
from convpose.data.crop import Crop
from convpose.data.dataset import EpochSampler, PoseLandmarksDataset, share
from convpose.geometry import transform
from convpose.skeleton import LSP14

SIZE_PX = 128
MIRROR = list(LSP14.mirror)
SOURCE = dotted_source()
WILD = Augment(scale=0.3, rotation_deg=180, shift=0.1, mirror_probability=0.5)
CROPS = {"image": Crop("image"), "letterbox": Crop("letterbox"), "box": Crop("box", box_scale=3)}


def dataset(augment=None, crop="box", seed=0, source=SOURCE, size_px=SIZE_PX):
    indices = range(len(source.annotations))
    return PoseLandmarksDataset(source, indices, CROPS[crop], size_px, LSP14, augment, seed)


def is_mirrored(sample):
    return bool(torch.linalg.det(sample["unit_to_px"][:, :2]) < 0)


def same(a, b):
    return a["image_id"] == b["image_id"] and all(
        torch.equal(a[key].nan_to_num(-9), b[key].nan_to_num(-9)) for key in a if key != "image_id"
    )


keys = st.tuples(st.integers(0, 10**6), st.integers(0, len(SOURCE.annotations) - 1))


class TestSample:
    def test_the_whole_frame_at_its_own_size_is_the_image(self):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        some = annotation([[-0.5, 31.5], [63.5, 0.0]], size_px=(64, 64))
        sample = dataset(crop="image", source=ArraySource([some], [image]), size_px=64)[0]
        assert np.array_equal(sample["image"].permute(1, 2, 0), image)
        assert sample["keypoints"].tolist() == [[0.0, 0.5], [1.0, 0.5 / 64]]

    def test_truth_is_the_sample_without_its_pixels(self):
        some = dataset()
        for position in range(len(some)):
            truth, sample = some.truth(position), some[position]
            assert truth["image"].shape == (3, 0, 0)
            assert same({**truth, "image": sample["image"]}, sample)

    def test_a_subset_has_its_own_order(self):
        subset = PoseLandmarksDataset(SOURCE, [4, 1], CROPS["box"], SIZE_PX, LSP14)
        assert len(subset) == 2
        assert subset.image_ids == ["im00005", "im00002"]
        assert [subset[i]["image_id"] for i in range(2)] == subset.image_ids


class TestAugmented:
    @given(keys, st.sampled_from(list(CROPS)))
    def test_labels_and_coordinates_stay_together(self, key, crop):
        sample = dataset(WILD, crop)[key]
        original = SOURCE.annotations[key[1]]
        order = MIRROR if is_mirrored(sample) else list(range(K))
        assert sample["visibility"].tolist() == original.visibility[order].tolist()
        assert np.array_equal(sample["keypoints_px"], original.keypoints_px[order], equal_nan=True)
        unlabelled = sample["visibility"] == 0
        assert torch.equal(sample["keypoints"].isnan().all(-1), unlabelled)
        assert torch.equal(sample["keypoints"].isnan().any(-1), unlabelled)
        back = transform(sample["unit_to_px"], sample["keypoints"])
        torch.testing.assert_close(back, sample["keypoints_px"], atol=1e-4, rtol=0, equal_nan=True)

    @given(keys)
    def test_a_painted_joint_stays_under_its_label(self, key):
        sample = dataset(WILD)[key]
        left, right = (BLUE, RED) if is_mirrored(sample) else (RED, BLUE)
        expected = sample["keypoints"][[left, right]].numpy() * SIZE_PX - 0.5
        assert ((expected > 3) & (expected < SIZE_PX - 4)).all()  # both dots are in the picture
        assert dot_positions(sample["image"]) == pytest.approx(expected, abs=0.25)

    @pytest.mark.parametrize("crop", CROPS)
    def test_a_mirror_alone_is_one_minus_u_and_swaps_left_and_right(self, crop):
        plain, mirrored = dataset(crop=crop)[0], dataset(Augment(mirror_probability=1), crop)[0]
        expected = plain["keypoints"][MIRROR] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
        torch.testing.assert_close(
            mirrored["keypoints"], expected, atol=1e-6, rtol=0, equal_nan=True
        )
        difference = mirrored["image"].int() - plain["image"].flip(-1).int()
        assert difference.abs().max() <= 1

    def test_a_side_without_a_partner_is_unlabelled_in_a_mirrored_sample(self):
        one = replace(LSP14, pairs=LSP14.pairs[1:])
        alone = [LSP14.index(name) for name in LSP14.pairs[0]]
        source = dotted_source()
        for a in source.annotations:
            a.visibility[:], a.keypoints_px[:] = 2, np.nan_to_num(a.keypoints_px, nan=20)
        for mirrored, seen in ((0, 2), (1, 0)):
            augment = Augment(mirror_probability=mirrored)
            sample = PoseLandmarksDataset(source, [0], Crop("letterbox"), 64, one, augment)[0]
            assert sample["visibility"][alone].tolist() == [seen] * 2
            assert sample["keypoints"][alone].isnan().all() == (mirrored == 1)
            assert sample["visibility"].sum() == 2 * K - 4 * mirrored
        assert (source.annotations[0].visibility == 2).all()

    def test_a_joint_that_leaves_the_crop_is_still_a_joint(self):
        far = dataset(Augment(shift=1.0), "letterbox")
        samples = [far[epoch, 0] for epoch in range(20)]
        points = torch.stack([s["keypoints"] for s in samples])
        labelled = torch.stack([s["visibility"] for s in samples]) > 0
        outside = ((points < 0) | (points > 1)).any(-1)
        assert outside[labelled].float().mean() > 0.2
        assert labelled.sum(dim=1).unique().numel() == 1
        for sample in samples:
            back = transform(sample["unit_to_px"], sample["keypoints"])
            torch.testing.assert_close(
                back, sample["keypoints_px"], atol=1e-4, rtol=0, equal_nan=True
            )


class TestRepeatable:
    @settings(max_examples=15)
    @given(keys)
    def test_seed_epoch_and_position_fix_the_sample(self, key):
        assert same(dataset(WILD, seed=3)[key], dataset(WILD, seed=3)[key])
        assert not same(dataset(WILD, seed=3)[key], dataset(WILD, seed=4)[key])
        assert not same(dataset(WILD)[key], dataset(WILD)[key[0] + 1, key[1]])
        assert same(dataset(WILD)[key[1]], dataset(WILD)[0, key[1]])  # epoch 0 by default
        assert same(dataset()[key], dataset()[key[0] + 1, key[1]])  # without augmentation

    def test_neighbours_are_not_augmented_alike(self):
        source = ArraySource([SOURCE.annotations[0]] * 5, [SOURCE.images[0]] * 5)
        crops = {
            tuple(dataset(WILD, source=source)[i]["unit_to_px"].ravel().tolist()) for i in range(5)
        }
        assert len(crops) == 5

    @pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on one core
    def test_the_number_of_workers_changes_nothing(self):
        runs = []
        for workers in (0, 1, 2):
            sampler = EpochSampler(len(SOURCE.annotations), seed=1)
            loader = DataLoader(
                dataset(lively()),
                2,
                sampler=sampler,
                num_workers=workers,
                persistent_workers=workers > 0,
            )
            batches = []
            for epoch in (0, 1):
                sampler.set_epoch(epoch)
                batches += list(loader)
            runs.append(batches)
        for batches in runs[1:]:
            assert all(same(a, b) for a, b in zip(runs[0], batches, strict=True))
        assert not same(runs[0][0], runs[0][3])

    def test_the_order_of_reading_changes_nothing(self):
        some = dataset(lively())
        forwards = [some[5, i] for i in range(6)]
        backwards = [some[5, i] for i in reversed(range(6))]
        assert all(same(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def lively():
    noise = albumentations.GaussNoise((0.1, 0.2), p=0.5)
    return Augment(0.2, 30, 0.5, 0.1, 0.5, {"noise": noise})


class TestEpochSampler:
    def test_every_epoch_is_another_order_of_all_positions(self):
        sampler = EpochSampler(100, seed=5)
        first = list(sampler)
        sampler.set_epoch(1)
        second = list(sampler)
        assert sorted(first) == [(0, i) for i in range(100)]
        assert sorted(second) == [(1, i) for i in range(100)]
        assert [i for _, i in first] != [i for _, i in second]
        assert [i for _, i in first] != list(range(100))
        assert len(sampler) == 100
        assert list(EpochSampler(100, seed=5)) == first != list(EpochSampler(100, seed=6))

    @given(st.integers(1, 40), st.integers(1, 5))
    def test_processes_share_the_samples(self, length, world_size):
        shares = [list(EpochSampler(length, 0, rank, world_size)) for rank in range(world_size)]
        sizes = {len(share) for share in shares}
        assert sizes == {len(EpochSampler(length, 0, 0, world_size))}
        seen = [i for share in shares for _, i in share]
        assert set(seen) == set(range(length))
        assert len(seen) - length < world_size  # the padding


class TestShare:
    @given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 8))
    def test_together_all_and_none_twice(self, length, batch_size, processes):
        processes = min(processes, length)
        shares = [share(length, batch_size, rank, processes) for rank in range(processes)]
        seen = [position for batches in shares for batch in batches for position in batch]
        assert sorted(seen) == list(range(length))
        assert len({len(batches) for batches in shares}) == 1, "none waits for another for ever"
        sizes = [len(batch) for batches in shares for batch in batches]
        assert min(sizes) >= 1
        assert max(sizes) <= batch_size + 1

    def test_by_hand(self):
        assert share(7, 2, rank=0, processes=2) == [[0, 2], [4, 6]]
        assert share(7, 2, rank=1, processes=2) == [[1, 3], [5]]
        assert share(3, 1, rank=0, processes=2) == [[0, 2]], "not one more than the other has"
        assert share(3, 1, rank=1, processes=2) == [[1]]
