import pickle

import cv2
import numpy as np
import pytest
from fake_lsp import (
    HEIGHT_PX,
    IMAGES,
    WIDTH_PX,
    fake_files,
    fake_joints,
    jpeg,
    matlab,
    write_folder,
    write_zip,
)
from fake_people import turned

from convpose.data import lsp as module
from convpose.data.lsp import LspSource
from convpose.errors import ConfigError, DataError


def source_of(tmp_path, files, name="lsp"):
    return LspSource(name, write_zip(tmp_path / "archive.zip", files), tmp_path)


# --- what is read ---


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2)], ids=["K3N", "3KN"])
@pytest.mark.parametrize("name", ["lsp", "lspet"])
def test_both_axis_orders_and_both_flags_are_read(tmp_path, name, axes):
    joints = fake_joints(name)
    source = source_of(tmp_path, fake_files(name, joints.transpose(axes)), name)
    assert len(source.annotations) == IMAGES
    for i, annotation in enumerate(source.annotations):
        assert annotation.image_id == (f"im{i + 1:04d}" if name == "lsp" else f"im{i + 1:05d}")
        assert (annotation.width_px, annotation.height_px) == (WIDTH_PX, HEIGHT_PX)
        assert annotation.dataset == name
        assert annotation.keypoints_px.dtype == np.float32
        assert annotation.visibility.dtype == np.uint8
        for k, (x, y, flag) in enumerate(joints[..., i]):
            visibility = (1 if flag else 2) if name == "lsp" else (2 if flag else 0)
            assert annotation.visibility[k] == visibility
            expected = [x, y] if visibility else [np.nan, np.nan]
            np.testing.assert_allclose(annotation.keypoints_px[k], expected, rtol=1e-6)


def test_garbage_is_taken_for_labels_only_if_asked(tmp_path):
    joints = fake_joints("lspet")
    assert (joints[:, 2] == 0).any()
    archive = write_zip(tmp_path / "archive.zip", fake_files("lspet", joints))
    source = LspSource("lspet", archive, tmp_path, mask_unlabelled=False)
    for i, annotation in enumerate(source.annotations):
        np.testing.assert_allclose(annotation.keypoints_px, joints[:, :2, i], rtol=1e-6)
        np.testing.assert_array_equal(annotation.visibility, np.where(joints[:, 2, i], 2, 1))


def test_integer_joints_are_read(tmp_path):
    joints = fake_joints("lsp").astype(np.int16)
    source = source_of(tmp_path, fake_files("lsp", joints))
    np.testing.assert_array_equal(source.annotations[3].keypoints_px, joints[:, :2, 3])


def test_an_image_is_rgb_as_stored_and_grey_has_three_channels(tmp_path):
    files = fake_files("lsp")
    red = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    files["images/im0001.jpg"] = turned(cv2.imencode(".jpg", red)[1].tobytes())
    files["images/im0002.jpg"] = cv2.imencode(".jpg", red[..., 2] // 2)[1].tobytes()
    source = source_of(tmp_path, files)
    image, to_px = pickle.loads(pickle.dumps(source)).read_image(0)  # as a worker gets it
    assert image.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert image.dtype == np.uint8
    assert image[..., 0].min() > 240
    assert image[..., 1:].max() < 15
    np.testing.assert_array_equal(to_px, [[1, 0, 0], [0, 1, 0]])
    grey, _ = source.read_image(1)
    np.testing.assert_array_equal(grey, np.full((HEIGHT_PX, WIDTH_PX, 3), 127))


def test_hr_lspet_is_lspet_in_another_resolution(tmp_path):
    """Its layout: everything in hr-lspet/, PNG files of their own sizes, LSPET's axes and flags."""
    joints = fake_joints("lspet")
    numbers = [1, 2, 3, 5, 8, 9, 10, 13]
    files = {"hr-lspet/joints.mat": matlab(joints=joints)}
    for i, number in enumerate(numbers):
        image = np.full((HEIGHT_PX + i, WIDTH_PX + 2 * i, 3), 10 * i, np.uint8)
        files[f"hr-lspet/im{number:05d}.png"] = cv2.imencode(".png", image)[1].tobytes()
    write_zip(tmp_path / "hr-lspet.zip", files)
    write_zip(tmp_path / "lspet_dataset.zip", fake_files("lspet"))  # the neighbour is left alone
    source = LspSource("hr_lspet", None, tmp_path)
    assert [a.image_id for a in source.annotations] == [f"im{n:05d}" for n in numbers]
    for i, annotation in enumerate(source.annotations):
        assert annotation.dataset == "hr_lspet"
        assert (annotation.width_px, annotation.height_px) == (WIDTH_PX + 2 * i, HEIGHT_PX + i)
        assert annotation.visibility.tolist() == (2 * joints[:, 2, i]).tolist()
        labelled = joints[:, 2, i] == 1
        np.testing.assert_allclose(annotation.keypoints_px[labelled], joints[labelled, :2, i])
        image, _ = source.read_image(i)
        np.testing.assert_array_equal(image, np.full_like(image, 10 * i))
        assert image.shape == (HEIGHT_PX + i, WIDTH_PX + 2 * i, 3)


# --- where it is looked for ---


@pytest.mark.parametrize("given", [True, False], ids=["source", "folder"])
@pytest.mark.parametrize("place", ["lspet_dataset.zip", "lspet_dataset", "lspet_dataset/top", "."])
def test_zips_and_folders_are_found(tmp_path, place, given):
    write = write_zip if place.endswith("zip") else write_folder
    write(tmp_path / place, fake_files("lspet"))
    write_zip(tmp_path / "lsp_dataset.zip", fake_files("lsp"))  # the neighbour is left alone
    source = LspSource("lspet", tmp_path if given else None, "" if given else tmp_path)
    assert source.annotations[0].image_id == "im00001"


def test_without_data_the_mirrors_are_asked(tmp_path, monkeypatch):
    asked = []

    def download(mirrors, target, sha256):
        asked.append((mirrors, target, sha256))
        return write_zip(target, fake_files("lsp"))

    monkeypatch.setattr(module, "download", download)
    assert len(LspSource("lsp", None, tmp_path, ["http://a"], "abc").annotations) == IMAGES
    assert asked == [(["http://a"], tmp_path / "lsp_dataset.zip", "abc")]
    LspSource("lsp", None, tmp_path, ["http://a"], "abc")
    assert len(asked) == 1


def test_nothing_found_says_what_was_looked_for_and_what_to_type(tmp_path):
    write_zip(tmp_path / "hr-lspet.zip", fake_files("lspet"))  # has its own name and split
    with pytest.raises(DataError) as caught:
        LspSource("lspet", None, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"lspet not found: looked in {tmp_path} for joints.mat with images/")
    assert "for lspet_dataset.zip and for a folder" in message
    assert "type data.source=/path/to/lspet_dataset.zip" in message
    assert "CONVPOSE_DATA" in message


def test_a_given_source_is_not_replaced_by_a_download(tmp_path):
    with pytest.raises(DataError, match=r"data.source=.*nowhere: no such file or folder; type"):
        LspSource("lsp", tmp_path / "nowhere", tmp_path, ["http://127.0.0.1:9"])
    with pytest.raises(DataError, match="lsp not found: looked in"):
        LspSource("lsp", tmp_path, tmp_path, ["http://127.0.0.1:9"])


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown data set 'coco'; choose one of lsp, lspet, hr"):
        LspSource("coco", None, tmp_path)


# --- what is wrong with the annotations ---


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"no MATLAB file", "not a MATLAB file"),
        (matlab(points=np.zeros((3, 14, 8))), "expected the variable joints, found points"),
        (matlab(joints="text"), "joints holds <U4, no numbers"),
        (matlab(joints=np.zeros((14, 2, 8))), r"shape \(14, 2, 8\)"),
        (matlab(joints=np.zeros((3, 16, 8))), r"shape \(3, 16, 8\)"),
        (matlab(joints=np.zeros((8, 14, 3))), r"shape \(8, 14, 3\)"),
        (matlab(joints=np.zeros((14, 3))), r"shape \(14, 3\)"),
        (matlab(joints=np.full((14, 3, 8), np.nan)), "NaN"),
        (matlab(joints=np.full((14, 3, 8), 2.0)), "flags like 2"),
    ],
)
def test_joints_of_another_form_are_refused(tmp_path, content, problem):
    files = fake_files("lsp") | {"joints.mat": content}
    with pytest.raises(DataError, match=problem) as caught:
        source_of(tmp_path, files)
    assert "archive.zip: joints.mat: " in str(caught.value)
    assert (
        "in the shape (3, 14, N) or (14, 3, N); use joints.mat of the official lsp_dataset.zip"
        in str(caught.value)
    )


@pytest.mark.parametrize(("name", "other"), [("lsp", "lspet"), ("lspet", "lsp")])
def test_the_flags_of_the_other_data_set_are_noticed(tmp_path, name, other):
    with pytest.raises(DataError, match=f"are not those of {name} .* type data={other}"):
        source_of(tmp_path, fake_files(other), name)


def test_lspet_flags_on_garbage_are_noticed(tmp_path):
    joints = fake_joints("lspet")
    joints[:, 2] = 1 - joints[:, 2]
    with pytest.raises(DataError, match=r"flags of joints.mat .* 0% of these and 100% of the"):
        source_of(tmp_path, fake_files("lspet", joints), "lspet")


def test_joints_without_any_label_are_refused(tmp_path):
    joints = fake_joints("lspet")
    joints[:, 0], joints[:, 1:] = -5, 0
    with pytest.raises(DataError, match="labels no joint at all"):
        source_of(tmp_path, fake_files("lspet", joints), "lspet")


@pytest.mark.parametrize("name", ["lsp", "lspet"])
@pytest.mark.parametrize(
    ("factor", "fault"),
    [(3.0, "100% of the people reach beyond their image"), (1 / 3, "upper left part")],
)
def test_coordinates_of_the_other_image_size_are_noticed(tmp_path, name, factor, fault):
    joints = fake_joints(name)
    joints[:, :2] *= factor
    with pytest.raises(DataError, match=f"{fault}.*joints.mat and images/ from the same archive"):
        source_of(tmp_path, fake_files(name, joints), name)


# --- what is wrong with the images ---


def huge_jpeg():
    """A JPEG whose header claims 65,535 pixels a side."""
    content = bytearray(jpeg(np.random.default_rng(0)))
    size = content.index(b"\xff\xc0") + 5  # height and width in the start-of-frame segment
    content[size : size + 4] = b"\xff\xff\xff\xff"
    return bytes(content)


def test_a_missing_image_is_named(tmp_path):
    files = fake_files("lsp")
    del files["images/im0003.jpg"]
    with pytest.raises(
        DataError, match=r"annotates 8 images, but images/ holds 7 \(images/im0003.jpg is missing"
    ):
        source_of(tmp_path, files)
    files["images/im0009.jpg"] = files["images/im0001.jpg"]  # the count is right again
    with pytest.raises(DataError, match=r"im0003.jpg is missing\); unpack or download"):
        source_of(tmp_path, files)


def test_too_many_or_no_images_are_counted(tmp_path):
    files = fake_files("lsp")
    with pytest.raises(DataError, match=r"but images/ holds 9 \(too many\)"):
        source_of(tmp_path, files | {"images/im0009.jpg": files["images/im0001.jpg"]})
    with pytest.raises(DataError, match=r"holds 0 \(images/im00001.jpg is missing\)"):
        source_of(tmp_path, {"joints.mat": files["joints.mat"], "x": b""})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ""),
        (b"<html></html>", ""),
        (b"\xff\xd8\xff\xe0", ""),
        (huge_jpeg(), "decompression bomb"),
    ],
    ids=["empty", "page", "header alone", "huge"],
)
def test_a_file_that_is_no_image_is_named_at_once(tmp_path, content, reason):
    files = fake_files("lsp") | {"images/im0005.jpg": content}
    with pytest.raises(DataError, match=rf"im0005.jpg is not a readable JPEG or PNG .*{reason}"):
        source_of(tmp_path, files)


def test_a_truncated_image_is_named_when_it_is_read(tmp_path):
    files = fake_files("lsp")
    whole = files["images/im0005.jpg"]
    files["images/im0005.jpg"] = whole[: len(whole) // 2]
    source = source_of(tmp_path, files)
    source.read_image(3)
    with pytest.raises(DataError, match=r"im0005.jpg is not a readable JPEG .*\(truncated\)"):
        source.read_image(4)


# --- the real archives ---


@pytest.mark.archive
def test_the_real_lsp_holds_what_is_published(lsp):
    visibility = np.stack([a.visibility for a in lsp.annotations])
    points_px = np.stack([a.keypoints_px for a in lsp.annotations])
    assert visibility.shape == (2000, 14)
    assert (visibility == 1).sum() == 2044
    assert (visibility == 0).sum() == 0
    assert np.isfinite(points_px).all()
    torso_px = np.linalg.norm(points_px[:, 9] - points_px[:, 2], axis=1)
    assert lsp.annotations[int(torso_px.argmin())].image_id == "im1185"
    assert torso_px.min() == pytest.approx(2.55, abs=0.01)


@pytest.mark.archive
def test_the_real_lsp_is_cropped_around_pixels_that_start_at_zero(lsp):
    """The ground for `ORIGIN_PX`: joints lie in the middle of 0 … W − 1, not of 1 … W."""
    points_px = np.stack([a.keypoints_px for a in lsp.annotations])
    size_px = np.array([(a.width_px, a.height_px) for a in lsp.annotations])
    middle_px = np.median(points_px.min(1) + points_px.max(1) - size_px, axis=0)
    np.testing.assert_allclose(middle_px, -1, atol=0.15)


@pytest.mark.archive
def test_the_real_lspet_holds_what_is_published(lspet):
    visibility = np.stack([a.visibility for a in lspet.annotations])
    points_px = np.stack([a.keypoints_px for a in lspet.annotations])
    size_px = np.array([(a.width_px, a.height_px) for a in lspet.annotations])[:, None]
    labelled = visibility == 2
    assert labelled.shape == (10000, 14)
    assert labelled.sum() == 123213
    assert labelled.all(1).sum() == 3945
    assert labelled.sum(1).min() == 4
    np.testing.assert_array_equal(np.isfinite(points_px).all(-1), labelled)
    assert ((points_px < 0) | (points_px > size_px)).any(-1).sum() == 8
    assert lspet.annotations[9999].image_id == "im10000"


@pytest.mark.archive
def test_real_images_have_the_size_of_their_annotation(lsp, lspet):
    for source in (lsp, lspet):
        for i in range(0, len(source.annotations), 97):
            annotation = source.annotations[i]
            image, _ = source.read_image(i)
            assert image.shape == (annotation.height_px, annotation.width_px, 3)


@pytest.mark.archive
def test_the_real_lspet_is_not_taken_for_lsp(lspet):
    with pytest.raises(DataError, match="type data=lspet"):
        module._check_flags("lsp", lspet.archive, *module._read_joints(lspet.archive))
