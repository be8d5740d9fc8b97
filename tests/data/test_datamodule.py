"""The data module: sources, cache and split in, batches out."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from fake_source import HEIGHT_PX, WIDTH_PX, ArraySource, K, dotted_source

from convpose.data.annotation import JoinedSource
from convpose.data.augment import Augment
from convpose.data.datamodule import PoseDataModule
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConfigError, DataError


def datamodule(sources=None, **keys):
    sources = sources or {"synthetic": partial(SyntheticSource, num_images=40, image_size_px=64)}
    keys = {"split": "paper", "input_size_px": 32, "batch_size": 8, "num_workers": 0, **keys}
    return PoseDataModule(sources, **keys)


def ready(**keys):
    data = datamodule(**keys)
    data.prepare_data()
    data.setup()
    return data


def ids(loader):
    return [image_id for batch in loader for image_id in batch["image_id"]]


class Counting:
    """Opens a source and counts how often."""

    def __init__(self, count=20, dataset="lspet"):
        self.opened = 0
        self.source = dotted_source(count, dataset=dataset)

    def __call__(self):
        self.opened += 1
        return self.source


def unlabel(opened, joints, ids):
    for annotation in opened.source.annotations:
        if annotation.image_id in ids:
            annotation.keypoints_px[joints] = np.nan
            annotation.visibility[joints] = 0


@pytest.fixture(scope="module")
def data():
    return ready(augment=Augment(mirror_probability=0.5, rotation_deg=30))


class TestLoaders:
    def test_batches_have_the_shapes_and_types_of_the_contract(self, data):
        for loader in (data.train_dataloader(), data.val_dataloader(), data.loader("test")):
            batch = next(iter(loader))
            count = len(batch["image_id"])
            shapes = {key: (v.shape, v.dtype) for key, v in batch.items() if key != "image_id"}
            assert shapes == {
                "image": ((count, 3, 32, 32), torch.uint8),
                "keypoints": ((count, K, 2), torch.float32),
                "visibility": ((count, K), torch.int64),
                "keypoints_px": ((count, K, 2), torch.float32),
                "unit_to_px": ((count, 2, 3), torch.float32),
                "box_px": ((count, 4), torch.float32),
            }

    def test_subsets_are_those_of_the_split(self, data):
        assert [len(data.split[subset]) for subset in ("train", "val", "test")] == [28, 6, 6]
        for subset, some in data.datasets.items():
            assert some.image_ids == data.split[subset]

    def test_validation_and_test_are_complete_and_in_order(self, data):
        for subset in ("val", "test"):
            assert ids(data.loader(subset)) == data.split[subset]
        assert ids(data.val_dataloader()) == ids(data.val_dataloader()) == data.split["val"]

    def test_processes_share_the_validation(self, data):
        shares = [list(data.loader("val", rank, 4)) for rank in range(4)]
        assert [[len(batch["image_id"]) for batch in share] for share in shares] == [
            *([2], [2], [1], [1])
        ]
        seen = [image_id for share in shares for batch in share for image_id in batch["image_id"]]
        assert sorted(seen) == sorted(data.split["val"])

    def test_training_drops_the_incomplete_batch_and_shuffles(self, data):
        loader = data.train_dataloader()
        assert len(loader) == 3  # of 28 images, 8 each
        first = ids(loader)
        assert len(set(first)) == 24
        assert set(first) <= set(data.split["train"])
        assert first != data.split["train"][:24]
        loader.sampler.set_epoch(1)
        assert ids(loader) != first

    def test_only_training_is_augmented(self, data):
        a, b = (data.datasets["train"][epoch, 0] for epoch in (0, 1))
        assert not torch.equal(a["unit_to_px"], b["unit_to_px"])
        for subset in ("val", "test"):
            a, b = (data.datasets[subset][epoch, 0] for epoch in (0, 1))
            assert torch.equal(a["image"], b["image"])
            assert torch.equal(a["unit_to_px"], b["unit_to_px"])

    def test_the_seed_makes_order_and_augmentation_repeatable(self):
        augment = Augment(rotation_deg=30)
        one, same, other = (
            next(iter(ready(augment=augment, seed=seed).train_dataloader())) for seed in (1, 1, 2)
        )
        assert one["image_id"] == same["image_id"] != other["image_id"]
        assert torch.equal(one["image"], same["image"])

    @pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on one core
    def test_workers_deliver_the_same(self):
        alone, helped = ready(), ready(num_workers=2)
        for a, b in zip(alone.train_dataloader(), helped.train_dataloader(), strict=True):
            assert a["image_id"] == b["image_id"]
            assert torch.equal(a["image"], b["image"])

    def test_some_workers_by_default(self):
        assert 1 <= datamodule(num_workers=None).num_workers <= 8

    def test_a_second_setup_does_nothing(self):
        opened = Counting()
        data = datamodule({"lspet": opened})
        data.setup()
        before = data.datasets["val"]
        data.prepare_data()
        data.setup("fit")
        assert opened.opened == 1
        assert data.datasets["val"] is before


class TestTrainShare:
    def test_a_share_is_drawn_by_the_seed_and_leaves_the_other_subsets_alone(self, data):
        half, again, other = (ready(train_share=0.5, seed=seed) for seed in (0, 0, 1))
        assert half.split == again.split
        assert half.split["train"] != other.split["train"]
        assert len(half.datasets["train"]) == 14
        assert set(half.split["train"]) < set(data.split["train"])
        assert half.split["val"] == data.split["val"]
        assert half.split["test"] == data.split["test"]


def test_an_epoch_shows_people_of_a_repeated_data_set_as_often_as_asked():
    opened = Counting()
    people = opened.source.annotations
    people[::2] = [replace(person, dataset="lsp") for person in people[::2]]
    data = ready(sources={"both": opened}, split="seeded", batch_size=1, repeat={"lsp": 3})
    seen = ids(data.train_dataloader())
    often = {p.image_id: 3 if p.dataset == "lsp" else 1 for p in people}
    assert {i: seen.count(i) for i in seen} == {i: often[i] for i in data.split["train"]}
    assert ids(data.val_dataloader()) == data.split["val"]
    with pytest.raises(ConfigError, match=r"names coco; type one of lsp, lspet$"):
        ready(sources={"both": opened}, repeat={"coco": 2})


class TestStatistics:
    def test_mean_and_deviation_are_those_of_a_plain_loop(self):
        data = ready(sources={"lspet": Counting()}, crop="box", augment=Augment(rotation_deg=180))
        mean, deviation = data.keypoint_statistics()
        train = data.datasets["train"]
        for k in range(K):
            for axis in range(2):
                seen = []
                for index in train.indices:
                    annotation = train.source.annotations[index]
                    box = annotation.keypoints_px[annotation.visibility > 0].astype(float)
                    low, high = box.min(axis=0), box.max(axis=0)
                    side = 1.25 * max(high - low)
                    if annotation.visibility[k]:
                        start = (low[axis] + high[axis] - side) / 2
                        seen.append((float(annotation.keypoints_px[k, axis]) - start) / side)
                assert mean[k, axis] == pytest.approx(sum(seen) / len(seen), abs=1e-6)
                variance = sum((x - sum(seen) / len(seen)) ** 2 for x in seen) / len(seen)
                assert deviation[k, axis] == pytest.approx(variance**0.5, abs=1e-6)
        assert mean.dtype == deviation.dtype == np.float32

    def test_a_joint_that_no_training_image_labels_is_named(self):
        opened = Counting()
        train = set(ready(sources={"lspet": opened}).split["train"])
        unlabel(opened, [3, 7], train)
        data = ready(sources={"lspet": opened})
        with pytest.raises(
            DataError, match=r"split=paper: no image .* labels left_hip, right_elbow;"
        ):
            data.keypoint_statistics()

    def test_a_joint_that_nobody_labels_gets_the_centre_and_the_mean_deviation(self):
        opened = Counting()
        before = ready(sources={"lspet": opened}, crop="image").keypoint_statistics()
        unlabel(opened, [3, 7], {a.image_id for a in opened.source.annotations})
        mean, deviation = ready(sources={"lspet": opened}, crop="image").keypoint_statistics()
        others = [k for k in range(K) if k not in (3, 7)]
        for after, known in zip((mean, deviation), before, strict=True):
            np.testing.assert_array_equal(after[others], known[others])
        assert mean[[3, 7]].tolist() == [[0.5, 0.5]] * 2
        np.testing.assert_allclose(deviation[3], deviation[others].mean(axis=0), rtol=1e-6)


class TestJoined:
    def test_reads_from_the_right_source(self):
        a, b = dotted_source(3, seed=1, dataset="lsp"), dotted_source(4, seed=2)
        joined = JoinedSource([a, ArraySource([], []), b])
        assert [x.dataset for x in joined.annotations] == ["lsp"] * 3 + ["lspet"] * 4
        for i in range(7):
            expected = (a.images + b.images)[i]
            assert np.array_equal(joined.read_image(i)[0], expected)

    def test_a_data_set_twice_is_refused(self):
        with pytest.raises(DataError, match=r"data\.sources=one, two: image ids are not unique"):
            datamodule({"one": Counting(), "two": Counting()}).setup()

    def test_each_data_set_has_its_crop(self):
        one, two = Counting(30, "lsp"), Counting(30, "lspet")
        for i, annotation in enumerate(two.source.annotations):
            object.__setattr__(annotation, "image_id", f"other{i}")
        data = ready(
            sources={"lsp": one, "lspet": two}, crop={"lsp": "image", "lspet": "box"}, batch_size=4
        )
        for some in data.datasets.values():
            for i, image_id in enumerate(some.image_ids):
                whole_frame = some[i]["unit_to_px"].diagonal().tolist() == [WIDTH_PX, HEIGHT_PX]
                assert whole_frame == image_id.startswith("im")


class TestCache:
    def test_it_is_written_once_and_the_original_not_opened_again(self, tmp_path):
        path, opened = tmp_path / "crops", Counting()
        first = ready(sources={"lspet": opened}, cache=str(path), cache_quality=95)
        assert opened.opened == 1
        written = path.stat().st_mtime_ns
        again = ready(sources={"lspet": opened}, cache=str(path), cache_quality=95)
        assert opened.opened == 1
        assert path.stat().st_mtime_ns == written
        plain = ready(sources={"lspet": opened})
        for some in (first, again):
            for a, b in zip(some.val_dataloader(), plain.val_dataloader(), strict=True):
                assert a["image_id"] == b["image_id"]
                assert torch.equal(a["keypoints"].nan_to_num(-9), b["keypoints"].nan_to_num(-9))
                assert (a["image"].float() - b["image"].float()).abs().mean() < 4

    def test_its_settings_reach_the_file(self, tmp_path):
        sizes = []
        for quality, size_px in ((20, 64), (95, 64), (95, 32)):
            path = tmp_path / f"{quality}_{size_px}"
            ready(cache=str(path), cache_quality=quality, cache_size_px=size_px)
            sizes.append(path.stat().st_size)
        assert sizes[1] > 1.3 * sizes[0]
        assert sizes[1] > 1.3 * sizes[2]

    def test_others_crops_lie_beside_it_and_nobody_is_in_the_way(self, tmp_path, caplog):
        caplog.set_level("INFO", "convpose")
        path = tmp_path / "crops.st"
        ready(cache=str(path))
        before = path.read_bytes()
        other = {"synthetic": partial(SyntheticSource, num_images=41, image_size_px=64)}
        for keys, number in (
            ({"crop": "image"}, 40),
            ({"sources": other}, 41),
            ({"cache_size_px": 96}, 40),  # an old, small cache is not used unnoticed
        ):
            files = set(tmp_path.iterdir())
            for _ in range(2):  # the second time it is there
                made = ready(cache=str(path), **keys)
                assert made.cache.name.startswith("crops-")
                assert len(made.datasets["train"].source.annotations) == number
            assert {made.cache} == set(tmp_path.iterdir()) - files
        assert path.read_bytes() == before
        assert ready(cache=str(path)).cache == path
        assert f"data.cache={path} holds other crops; these are in {tmp_path}/crops-" in caplog.text

    def test_without_its_archive_it_says_what_there_is(self, tmp_path):
        def opening():
            raise DataError("lspet not found")

        path = tmp_path / "crops"
        ready(cache=str(path))
        with pytest.raises(DataError, match=f"lspet not found; data.cache={path} holds other cro"):
            ready(sources={"lspet": opening}, cache=str(path))

    def test_it_says_when_it_holds_less_than_a_network_is_to_see(self, tmp_path, caplog):
        for size_px in (32, 31):
            ready(cache=str(tmp_path / f"{size_px}"), input_size_px=32, cache_size_px=size_px)
        (message,) = caplog.messages
        assert (
            "holds crops of at most 31 px, which data.input_size_px=32 enlarges; type " in message
        )
        assert message.endswith("data.cache=null, or data.cache_size_px=32 data.cache=ANOTHER_FILE")

    def test_where_the_archive_lies_does_not_matter(self):
        def opening(**keys):
            return dotted_source()

        sent = ["http://u/lspet.zip"]
        here = partial(opening, name="lspet", source="/a/lspet", folder="/x", mirrors=sent)
        there = partial(opening, name="lspet", source=None, folder="/y", mirrors=["u"], sha256="1")
        contents = {datamodule({"lspet": s}).contents for s in (here, there)}
        assert contents == {"lspet name=lspet; 224 px jpeg 90"}
        both = {"lsp": partial(opening, name="lsp"), "lspet": here}
        assert datamodule(both).contents == "lsp name=lsp; lspet name=lspet; 224 px jpeg 90"

    def test_a_file_of_another_name_is_other_data(self, tmp_path):
        def opening(source):
            return dotted_source()

        path = str(tmp_path / "crops")
        ready(sources={"csv": partial(opening, source="/x/a.csv")}, cache=path)
        ready(sources={"csv": partial(opening, source="/y/a.csv")}, cache=path)
        other = ready(sources={"csv": partial(opening, source="/x/b.csv")}, cache=path)
        assert other.cache.name != "crops"


class TestRefused:
    def test_a_batch_larger_than_the_training_subset(self):
        message = (
            r"data\.batch_size=29 is larger than the training subset with its 28 images; "
            r"type data\.batch_size=4$"
        )
        with pytest.raises(ConfigError, match=message):
            ready(batch_size=29).train_dataloader()
        assert len(ready(batch_size=28).train_dataloader()) == 1

    def test_the_batch_that_is_proposed_is_a_sensible_one(self):
        for images, proposed in ((6, 2), (12, 2), (30, 4), (400, 64)):
            source = {"synthetic": partial(SyntheticSource, num_images=images, image_size_px=32)}
            with pytest.raises(ConfigError, match=rf"type data\.batch_size={proposed}$"):
                ready(sources=source, batch_size=10**6).train_dataloader()

    def test_a_batch_that_no_training_has_chosen(self):
        data = ready(batch_size="auto")
        for open_loader in (
            data.train_dataloader,
            data.val_dataloader,
            partial(data.loader, "test"),
        ):
            with pytest.raises(
                ConfigError, match=r"^data\.batch_size=auto: only a training chooses"
            ):
                open_loader()

    def test_shares_of_several_processes(self):
        data = ready(batch_size=14)
        data.check_shares(2)
        with pytest.raises(ConfigError, match=r"of each of 3 processes with its 10 images; type"):
            data.check_shares(3)
        with pytest.raises(ConfigError, match=r"^7 processes for 6 validation images; type train"):
            ready(batch_size=2).check_shares(7)
