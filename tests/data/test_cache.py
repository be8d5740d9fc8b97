"""A cache gives the samples of the original, and says clearly when it cannot."""

import pickle
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from fake_source import HEIGHT_PX, RED, WIDTH_PX, ArraySource, dot, dotted_source
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from convpose.data.augment import Augment
from convpose.data.cache import MARGIN, CropCache, write_cache
from convpose.data.crop import Crop, Mode
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.errors import DataError
from convpose.geometry import transform
from convpose.skeleton import LSP14

BOX = Crop("box")
GREY, SEEN = np.uint8(114), ("image", "keypoints")
CONTENTS = "synthetic num_images=8"
GENTLE = Augment(scale=0.1, rotation_deg=10, shift=0.05, mirror_probability=0.5)  # within MARGIN


@pytest.fixture(scope="module")
def source():
    return SyntheticSource(num_images=8, image_size_px=160, seed=1)


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "box.safetensors"
    write_cache(source, path, BOX, CONTENTS)
    return path


@pytest.fixture
def copied(written, tmp_path):
    path = tmp_path / "copy.safetensors"
    path.write_bytes(written.read_bytes())
    return path


def cached(source, path, crop=BOX, **settings):
    write_cache(source, path, crop, CONTENTS, **settings)
    return CropCache(path, crop, CONTENTS)


def samples(source, crop, augment=None, size_px=96):
    indices = range(len(source.annotations))
    dataset = PoseLandmarksDataset(source, indices, crop, size_px, LSP14, augment)
    return [dataset[i] for i in indices]


def difference(a, b):
    return (a["image"].float() - b["image"].float()).abs().mean().item()


class TestRoundTrip:
    @pytest.mark.parametrize("augment", [None, GENTLE], ids=["plain", "augmented"])
    @pytest.mark.parametrize("mode", get_args(Mode))
    @pytest.mark.parametrize("image_format", ["jpeg", "webp"])
    def test_samples_are_those_of_the_original(self, source, tmp_path, image_format, mode, augment):
        crop = Crop(mode)
        cache = cached(source, tmp_path / "c", crop, quality=95, image_format=image_format)
        pairs = zip(samples(source, crop, augment), samples(cache, crop, augment), strict=True)
        for original, copy in pairs:
            for key in ("keypoints", "keypoints_px", "visibility", "unit_to_px"):
                assert np.array_equal(original[key], copy[key], equal_nan=True)
            assert original["image_id"] == copy["image_id"]
            assert difference(original, copy) < 3.5

    def test_annotations_are_kept_exactly(self, tmp_path):
        source, box = dotted_source(5, dataset="lsp"), np.array([-0.5, 3.25, 100.0, 120.0])
        first, second, *others = source.annotations
        second = replace(second, box_px=box, file="a/b.jpg", subset="val")
        columns_first = np.asfortranarray(first.keypoints_px)  # the memory order of joints.mat
        source.annotations = [replace(first, keypoints_px=columns_first), second, *others]
        cache = cached(source, tmp_path / "c")
        for a, b in zip(source.annotations, cache.annotations, strict=True):
            assert (a.image_id, a.dataset, a.width_px) == (b.image_id, b.dataset, b.width_px)
            assert (a.height_px, a.file, a.subset) == (b.height_px, b.file, b.subset)
            assert np.array_equal(a.keypoints_px, b.keypoints_px, equal_nan=True)
            assert a.visibility.tolist() == b.visibility.tolist()
            assert (b.keypoints_px.dtype, b.visibility.dtype) == (np.float32, np.uint8)
            np.testing.assert_array_equal(BOX.unit_to_px(a), BOX.unit_to_px(b))
        assert cache.annotations[1].box_px.tolist() == box.tolist()
        assert cache.annotations[2].box_px is None

    @settings(max_examples=12)
    @given(
        seed=st.integers(0, 10**6),
        mode=st.sampled_from(get_args(Mode)),
        size_px=st.integers(48, 256),
        box_scale=st.floats(1.25, 3),
        input_px=st.integers(64, 160),
    )
    def test_a_painted_joint_stays_under_its_label(
        self, tmp_path_factory, seed, mode, size_px, box_scale, input_px
    ):
        source, crop = dotted_source(1, seed), Crop(mode, box_scale)
        bright = dot(source.annotations[0].keypoints_px[RED], brightness=140)
        source.images = [np.repeat(GREY + bright[..., None], 3, axis=2)]
        path = tmp_path_factory.mktemp("c") / "c"
        cache = cached(source, path, crop, size_px=size_px, quality=100)
        image, keypoints = (samples(cache, crop, size_px=input_px)[0][k] for k in SEEN)
        weight = (image[1].numpy().astype(float) - GREY - 3).clip(0)
        y, x = np.mgrid[:input_px, :input_px]
        found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        assert found == pytest.approx(keypoints[RED].numpy() * input_px - 0.5, abs=0.15)

    def test_a_crop_beyond_the_border_is_grey_there(self, tmp_path):
        image = np.full((HEIGHT_PX, WIDTH_PX, 3), 200, np.uint8)
        source = ArraySource(dotted_source(1).annotations, [image])
        crop = Crop("box", box_scale=4)
        original = samples(source, crop)[0]["image"]
        copy = samples(cached(source, tmp_path / "c", crop), crop)[0]["image"]
        assert {114, 200} <= set(original.unique().tolist())
        assert ((original == 114) == (copy == 114)).float().mean() > 0.98
        assert (copy[:, 0] == 114).all()

    def test_large_crops_are_shrunk_and_small_ones_kept(self, source, tmp_path):
        frame = Crop("image")
        small = cached(source, tmp_path / "s", frame, size_px=64)
        large = cached(source, tmp_path / "l", frame, size_px=1000)
        assert small.read_image(0)[0].shape == (64, 64, 3)
        assert large.read_image(0)[0].shape == (160, 160, 3)
        for cache in (small, large):
            image, to_px = cache.read_image(0)
            edges = np.array([[-0.5, -0.5], np.array(image.shape[1::-1]) - 0.5])
            assert transform(to_px, edges) == pytest.approx(np.array([[-0.5] * 2, [159.5] * 2]))
        assert (tmp_path / "s").stat().st_size < 0.5 * (tmp_path / "l").stat().st_size

    def test_a_box_keeps_its_margin_and_no_more(self, tmp_path):
        points = np.full((14, 2), 60.0)
        points[0] = (50, 60)
        points[1] = (70, 60)  # a box of 20, a crop of 25 around (60, 60)
        source = dotted_source(1)
        source.annotations[0].keypoints_px[:] = points
        source.annotations[0].visibility[:] = 2
        image, to_px = cached(source, tmp_path / "c").read_image(0)
        assert image.shape[0] == image.shape[1] == pytest.approx(25 * MARGIN, abs=2)
        middle = np.array([[image.shape[1] / 2 - 0.5, image.shape[0] / 2 - 0.5]])
        assert transform(to_px, middle)[0] == pytest.approx([60, 60], abs=0.5)


def test_a_pickled_cache_opens_its_file_again(written):
    """As a spawned worker gets it."""
    cache = CropCache(written, BOX, CONTENTS)
    copy = pickle.loads(pickle.dumps(cache))
    for found, expected in zip(copy.read_image(3), cache.read_image(3), strict=True):
        assert np.array_equal(found, expected)
    assert len(pickle.dumps(cache)) < 10_000  # its pixels stay in the file


class Failing(ArraySource):
    def read_image(self, index):
        if index == 2:
            raise DataError("im00003: torn")
        return super().read_image(index)


class TestWriting:
    def test_a_failure_leaves_nothing_and_the_old_file_as_it_was(self, copied):
        some = dotted_source(4)
        failing, before = Failing(some.annotations, some.images), copied.read_bytes()
        for path in (copied, copied.with_name("new")):
            with pytest.raises(DataError, match="im00003: torn"):
                write_cache(failing, path, BOX, CONTENTS)
        assert copied.read_bytes() == before
        assert list(copied.parent.iterdir()) == [copied]

    def test_a_disk_that_is_full_leaves_nothing(self, tmp_path, monkeypatch):
        def full(tensors, path, metadata):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("convpose.data.cache.save_file", full)
        with pytest.raises(OSError, match="No space left"):
            write_cache(dotted_source(1), tmp_path / "c", BOX, CONTENTS)
        assert list(tmp_path.iterdir()) == []

    def test_folders_are_made_and_progress_sees_every_crop(self, tmp_path):
        seen = []

        def progress(indices):
            for index in indices:
                seen.append(index)
                yield index

        path = tmp_path / "deep" / "er" / "c"
        write_cache(dotted_source(3), path, BOX, CONTENTS, progress=progress)
        assert seen == [0, 1, 2]
        assert path.is_file()


class TestRefused:
    def test_another_crop(self, written):
        with pytest.raises(
            DataError, match=r"written for data\.crop=box .*asked for data\.crop=image .*; delete"
        ):
            CropCache(written, Crop("image"), CONTENTS)
        with pytest.raises(DataError, match=r"asked for data\.crop=box data\.box_scale=1\.5"):
            CropCache(written, Crop("box", 1.5), CONTENTS)
        with pytest.raises(DataError, match=r"asked for data\.crop=synthetic:box"):
            CropCache(written, Crop({"synthetic": "box"}), CONTENTS)

    def test_other_contents(self, written):
        with pytest.raises(
            DataError, match=r"holds synthetic num_images=8, the configuration asks for lspet;"
        ):
            CropCache(written, BOX, "lspet")

    @pytest.mark.parametrize("where", ["pixels", "keypoints", "ids"])
    def test_one_damaged_byte(self, copied, source, where):
        content = bytearray(copied.read_bytes())
        needle = {
            "pixels": b"\xff\xd8\xff",  # the start of a JPEG
            "keypoints": source.annotations[4].keypoints_px.tobytes()[:16],
            "ids": b"synthetic_000003",
        }[where]
        content[content.index(needle) + len(needle) - 1] ^= 1
        copied.write_bytes(content)
        with pytest.raises(DataError, match=r"checksum does not match, .* damaged .*; delete"):
            CropCache(copied, BOX, CONTENTS)

    def test_the_checksum_covers_pixels_that_are_read_in_pieces(self, copied, monkeypatch):
        monkeypatch.setattr("convpose.data.cache.CHUNK", 1000)
        CropCache(copied, BOX, CONTENTS)
        content = bytearray(copied.read_bytes())
        content[-1000] ^= 1  # of the last pixels, in a piece after the first
        copied.write_bytes(content)
        with pytest.raises(DataError, match="checksum does not match"):
            CropCache(copied, BOX, CONTENTS)

    def test_a_copy_that_was_cut_off(self, copied):
        content = copied.read_bytes()
        for length in (0, 7, 100, len(content) // 2, len(content) - 1):
            copied.write_bytes(content[:length])
            with pytest.raises(DataError, match=r"copy\.safetensors: not a readable crop cache"):
                CropCache(copied, BOX, CONTENTS)

    def test_something_else(self, tmp_path):
        (tmp_path / "page").write_text("<html>not found</html>")
        for path in (tmp_path / "page", tmp_path / "none", tmp_path):
            with pytest.raises(DataError, match=r"not a readable crop cache .*data\.cache=ANOTHER"):
                CropCache(path, BOX, CONTENTS)
        save_file({"weight": np.zeros(3)}, tmp_path / "weights")
        with pytest.raises(DataError, match=r"a safetensors file, but no crop cache; type"):
            CropCache(tmp_path / "weights", BOX, CONTENTS)

    @pytest.mark.parametrize("metadata", ["{}", "3", "no json", '{"crop": "box"}'])
    def test_another_version(self, tmp_path, metadata):
        save_file({"pixels": np.zeros(3, np.uint8)}, tmp_path / "old", {"convpose": metadata})
        with pytest.raises(DataError, match=r"of another version of convpose; delete"):
            CropCache(tmp_path / "old", BOX, CONTENTS)
