"""The base of the readers finds photographs, boxes, files and names."""

import io
import json

import numpy as np
import pytest
from fake_lsp import write_folder, write_zip
from fake_people import HEIGHT_PX, WIDTH_PX, photo
from PIL import Image

from convpose.data.annotation import AnnotatedPerson
from convpose.data.coco import CocoSource
from convpose.data.flic import FlicSource
from convpose.data.mpii import MpiiJsonSource, MpiiSource
from convpose.data.reading import stem_of, subset_of
from convpose.data.reading.archive import Archive
from convpose.data.reading.images import photo_header, read_photo
from convpose.data.reading.person_source import PeopleSource
from convpose.errors import ConfigError, DataError
from convpose.predict.images import decode
from convpose.skeleton import LSP14

JOINTS = ("nose", *LSP14.keypoints)
PHOTO = photo(np.random.default_rng(0))


def person(file="a.jpg", image_id=None, **others):
    points = np.stack([np.arange(15.0) + 10, np.arange(15.0) + 5], axis=1)
    return AnnotatedPerson(
        image_id or f"{file}_1", file, points, np.full(15, 2, np.uint8), **others
    )


def source(folder, *people, joints=JOINTS, **keys):
    class Some(PeopleSource):
        NAME = "some"
        PATTERNS = ("people.csv",)

        def read_people(self, file, content, left_out):
            return joints, people

    return Some(str(folder), **keys)


@pytest.fixture
def photos(tmp_path):
    def write(*names):
        return write_folder(tmp_path / "photos", dict.fromkeys((*names, "people.csv"), PHOTO))

    return write


@pytest.mark.parametrize(
    ("file", "there"),
    [
        ("a.jpg", "val2017/a.jpg"),
        ("val2017/a.jpg", "val2017/a.jpg"),
        ("/home/me/coco/val2017/a.jpg", "val2017/a.jpg"),
        ("coco\\val2017\\a.jpg", "val2017/a.jpg"),
        ("b.jpg", "b.jpg"),  # and not x/b.jpg
        ("x/b.jpg", "x/b.jpg"),
    ],
)
def test_photographs_are_found_by_the_end_of_their_path(photos, file, there):
    archive = photos("val2017/a.jpg", "b.jpg", "x/b.jpg", "x/aa.jpg")
    assert source(archive, person(file)).annotations[0].file == there


@pytest.mark.parametrize(
    ("file", "there"),
    [
        ("fu\u0308r.jpg", "f\u00fcr.jpg"),  # NFD and NFC
        ("f\u00fcr.jpg", "fu\u0308r.jpg"),
        ("a.JPG", "a.jpg"),
        ("A/b c.jpg", "a/B%20C.jpg"),
        ("a/b%20c.jpg", "a/b c.jpg"),
        ("F%C3%BCR.JPG", "fu\u0308r.jpg"),
    ],
)
def test_names_that_are_written_another_way_are_found(photos, file, there):
    archive = photos(there, "x/other.jpg")
    assert source(archive, person(file)).annotations[0].file == there
    assert source(photos(file), person(file)).annotations[0].file == file  # the same one first


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        (("cam1/1.jpg", "cam2/1.jpg"), []),
        (("1.jpg", "cam2/1.jpg"), ["1.jpg"]),
        (("cam1/1.jpg", "cam1\\1.jpg", "./cam1//1.jpg"), ["1.jpg"] * 3),  # one name
        (("x/2.jpg", "2.jpg"), ["x/2.jpg"] * 2),  # no folder that is not there
        (("1.JPG", "1.jpg"), ["1.jpg"]),
    ],
)
def test_two_names_are_not_one_photograph(photos, caplog, files, kept):
    archive = photos("1.jpg", "x/2.jpg", "b.jpg")
    people = [person(file, str(i)) for i, file in enumerate(("b.jpg", *files))]
    found = source(archive, *people).annotations
    assert [a.file for a in found] == ["b.jpg", *kept]
    if len(kept) < len(files):
        count, first = len(files) - len(kept), next(file for file in files if file not in kept)
        message = f"of {count} of {len(people)} people of some are missing or not unique, the first"
        assert f"{message} is {first} (the labels have another name, too, that would" in caplog.text
    few = person("cam1/1.jpg")  # who is left out, yet has a name
    few.visibility[:] = 0
    few = [few, person("cam2/1.jpg"), person("b.jpg")]
    assert [a.file for a in source(archive, *few).annotations] == ["b.jpg"]


def test_a_photograph_without_people_has_a_name_too(tmp_path):
    images = [{"id": i, "file_name": f"cam{i}/1.jpg"} for i in range(2)]
    joints = [v for i in range(14) for v in (i + 5, i + 9, 2)]
    table = {"images": images, "annotations": [{"id": 1, "image_id": 1, "keypoints": joints}]}
    table["categories"] = [{"id": 1, "keypoints": LSP14.keypoints}]
    write_folder(tmp_path / "a", {"1.jpg": PHOTO, "a.json": json.dumps(table).encode()})
    with pytest.raises(DataError, match=r"1 of 1 people of coco .* the first is cam1/1\.jpg \(the"):
        CocoSource(str(tmp_path / "a" / "a.json"))
    images.pop(0)
    (tmp_path / "a" / "a.json").write_text(json.dumps(table))
    assert CocoSource(str(tmp_path / "a" / "a.json")).annotations[0].file == "1.jpg"


def test_of_two_that_are_written_another_way_none_is_taken(photos):
    with pytest.raises(DataError, match=r"the first is A\.JPG \(is it .*a\.jp?g\?\)"):
        source(photos("x/a.jpg", "y/a.jpg"), person("A.JPG"))


def test_the_near_match_is_named(photos):
    with pytest.raises(DataError, match=r"the first is photo_1\.jpeg \(is it x/photo_1\.jpg\?\);"):
        source(photos("x/photo_1.jpg", "b.jpg"), person("photo_1.jpeg"))
    with pytest.raises(DataError, match=r"the first is other\.jpg; unpack"):
        source(photos("x/photo_1.jpg", "b.jpg"), person("other.jpg"))


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "cp437"])
def test_names_of_a_zip_without_its_flag_are_found(tmp_path, encoding):
    """A Mac writes UTF-8, Windows its code page; Python reads both as cp437."""
    path = write_zip(tmp_path / "photos.zip", {"fXYr.jpg": PHOTO, "people.csv": b""})
    name = "f\u00fcr.jpg".encode(encoding)
    plain = path.read_bytes().replace(b"fXYr.jpg", name.rjust(8, b"_"))
    path.write_bytes(plain)
    file = "f\u00fcr.jpg".rjust(15 - len(name), "_")
    assert source(path, person(file)).read_image(0)[0].shape == (HEIGHT_PX, WIDTH_PX, 3)


def test_the_folder_of_the_subset_decides_between_equal_names(photos):
    archive = photos("train/1.jpg", "val/1.jpg")
    for subset in ("train", "val"):
        (annotation,) = source(archive, person("1.jpg", subset=subset)).annotations
        assert annotation.file == f"{subset}/1.jpg"
    with pytest.raises(
        DataError, match=r"photographs of 1 of 1 people of some are missing or not u"
    ):
        source(archive, person("1.jpg"))
    with pytest.raises(DataError, match=r"the first is y/1\.jpg"):
        source(archive, person("y/1.jpg"))


def test_sizes_come_from_the_header_unless_they_are_given(photos):
    archive = photos("a.jpg")
    (known,) = source(archive, person(size_px=(7, 8))).annotations
    assert (known.width_px, known.height_px) == (7, 8)
    (read,) = source(archive, person()).annotations
    assert (read.width_px, read.height_px) == (WIDTH_PX, HEIGHT_PX)


@pytest.mark.parametrize("box", [None, [np.nan] * 4, [5, 5, 5, 9], [9, 5, 5, 9]])
def test_without_a_box_it_is_drawn_around_what_the_skeleton_drops(photos, box):
    archive = photos("a.jpg")
    given = person(box_px=None if box is None else np.array(box, dtype=float))
    (annotation,) = source(archive, given).annotations
    assert annotation.box_px.tolist() == [10, 5, 24, 19]  # with the nose
    given.visibility[0] = 0  # no nose: nothing is dropped, the crop is around the joints anyway
    assert source(archive, given).annotations[0].box_px is None


def test_a_box_that_is_given_stays(photos):
    box = np.array([1.0, 2.0, 30.0, 40.0])
    (annotation,) = source(photos("a.jpg"), person(box_px=box)).annotations
    assert annotation.box_px is box


def test_what_is_no_number_is_unlabelled(photos):
    given = person()
    given.points_px[[1, 2, 3]] = (np.nan, 1), (2, np.nan), (np.nan, np.nan)
    some = source(photos("a.jpg"), given)
    (annotation,) = some.annotations
    assert some.doubts[-1].endswith(
        f"unlabelled: 2 ({JOINTS[1]} of a.jpg_1, {JOINTS[2]} of a.jpg_1)"
    )
    assert annotation.visibility.tolist() == [0, 0, 0] + [2] * 11
    assert np.isnan(annotation.keypoints_px[:3]).all()
    assert annotation.keypoints_px.dtype == np.float32
    assert annotation.visibility.dtype == np.uint8


def test_nobody_at_all(photos):
    with pytest.raises(DataError, match=r"no people left of some for lsp14 \(there are none\)"):
        source(photos("a.jpg"))


def test_joints_of_nothing_human_are_listed_beside_ours(photos):
    with pytest.raises(DataError) as caught:
        source(photos("a.jpg"), person(), joints=[f"paw_{i}" for i in range(15)])
    message = str(caught.value)
    assert "none of the joint names of some is one of lsp14: paw_0, paw_1, " in message
    assert "; lsp14 has right_ankle, right_knee, " in message


def test_joints_that_are_spelled_another_way_are_mapped_and_noted(photos):
    spelled = ["Nose", *(k.replace("_", " ").title() for k in LSP14.keypoints)]
    found = source(photos("a.jpg"), person(), joints=spelled)
    assert found.annotations[0].keypoints_px[:, 0].tolist() == list(range(11, 25))
    assert found.notes[0].startswith("some: Right Ankle is the right_ankle, Right Knee is the r")


def test_an_unknown_skeleton_lists_the_known(photos):
    with pytest.raises(
        ConfigError,
        match=r"data\.skeleton=lsp: unknown skeleton; type one of aic14, coco17, crowdpose14",
    ):
        source(photos("a.jpg"), person(), skeleton="lsp")


@pytest.mark.parametrize(
    ("name", "subset"),
    [
        ("annotations/person_keypoints_train2017.json", "train"),
        ("valid.json", "val"),
        ("Test.json", "test"),
        ("train/people.json", None),  # a folder is not the name
        ("latest.json", None),
        ("people.json", None),
    ],
)
def test_names_tell_subsets(name, subset):
    assert subset_of(name) == subset


@pytest.mark.parametrize(
    ("file", "stem"),
    [("a.jpg", "a"), ("a/b.c.jpg", "a-b.c"), ("/a/b.png", "a-b"), ("a\\b.jpg", "a-b")],
)
def test_stems_are_in_one_piece(file, stem):
    assert stem_of(file) == stem


@pytest.mark.parametrize(
    ("reader", "stem", "looked_for"),
    [
        (CocoSource, "coco", "for coco or coco.zip; type data.source=/path/to/coco, or put"),
        (MpiiSource, "mpii", "for mpii or mpii.zip; type data.source=/path/to/mpii, or put"),
        (MpiiJsonSource, "mpii", "for mpii or mpii.zip; type"),
        (FlicSource, "FLIC", "for FLIC or FLIC.zip or FLIC-full or FLIC-full.zip or flic or"),
        (FlicSource, "FLIC-full", "for FLIC or FLIC.zip or FLIC-full or FLIC-full.zip or flic or"),
    ],
)
def test_data_are_found_in_the_data_folder(fakes, tmp_path, reader, stem, looked_for):
    with pytest.raises(DataError) as caught:
        reader(None, str(tmp_path))
    assert f"{reader.NAME} not found: looked in {tmp_path} {looked_for}" in str(caught.value)
    assert "CONVPOSE_DATA" in str(caught.value)
    (tmp_path / stem).symlink_to(fakes / stem.removesuffix("-full"))
    assert reader(None, str(tmp_path)).annotations[0].subset == "train"


# --- photographs ---


def test_what_a_phone_appends_is_no_damage(tmp_path):
    archive = Archive(write_zip(tmp_path / "a.zip", {"a.jpg": PHOTO + b"SEFT" * 100, "b": b""}))
    assert read_photo(archive, "a.jpg").shape == (HEIGHT_PX, WIDTH_PX, 3)


def test_the_end_of_a_thumbnail_is_not_the_end(tmp_path):
    """A thumbnail in the header is a JPEG of its own; the photograph behind it is cut off."""
    segment = b"Exif\0\0" + photo(np.random.default_rng(1), 8, 8)
    with_thumbnail = PHOTO[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    with_thumbnail += PHOTO[2:]
    files = {"whole.jpg": with_thumbnail, "cut.jpg": with_thumbnail[:-200]}
    archive = Archive(write_zip(tmp_path / "a.zip", files))
    assert photo_header(archive, "cut.jpg") == ((WIDTH_PX, HEIGHT_PX), 1)
    assert read_photo(archive, "whole.jpg").shape == (HEIGHT_PX, WIDTH_PX, 3)
    with pytest.raises(DataError, match=r"cut\.jpg is not a readable JPEG or PNG .*truncated"):
        read_photo(archive, "cut.jpg")


def test_a_name_does_not_make_a_format(tmp_path):
    png = photo(np.random.default_rng(0), ending=".png")
    archive = Archive(write_zip(tmp_path / "a.zip", {"a.jpg": png, "b": b""}))
    assert read_photo(archive, "a.jpg").shape == (HEIGHT_PX, WIDTH_PX, 3)


@pytest.mark.parametrize(
    ("mode", "kind", "colour", "expected"),
    [
        ("RGBA", "PNG", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", "PNG", (200, 100, 0, 128), (227, 177, 127)),
        ("RGBA", "WEBP", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", "TIFF", (10, 20, 30, 0), (255, 255, 255)),
        ("LA", "PNG", (10, 0), (255, 255, 255)),
        ("P", "PNG", 0, (255, 255, 255)),  # with a transparent colour
        ("P", "GIF", 0, (255, 255, 255)),
        ("RGB", "PNG", (10, 20, 30), (10, 20, 30)),
        ("L", "PNG", 77, (77, 77, 77)),
        ("I;16", "PNG", 77 << 8, (77, 77, 77)),
        ("CMYK", "TIFF", (0, 0, 0, 0), (255, 255, 255)),
    ],
)
def test_training_sees_the_pixels_that_prediction_sees(tmp_path, mode, kind, colour, expected):
    image, buffer = Image.new(mode, (20, 10), colour), io.BytesIO()
    image.save(buffer, kind, **({"transparency": 0} if mode == "P" else {"lossless": True}))
    write_folder(tmp_path, {"a.png": buffer.getvalue(), "b.jpg": PHOTO})
    pixels = read_photo(Archive(tmp_path), "a.png")
    assert pixels.shape == (10, 20, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(pixels, decode(tmp_path / "a.png").image)
    np.testing.assert_array_equal(
        read_photo(Archive(tmp_path), "b.jpg"), decode(tmp_path / "b.jpg").image
    )


def test_a_png_that_is_cut_off_is_refused(tmp_path):
    png = photo(np.random.default_rng(0), ending=".png")
    archive = Archive(write_folder(tmp_path, {"a.png": png[:-900]}))
    with pytest.raises(DataError, match=r"a\.png is not a readable JPEG or PNG image \(.*trunc"):
        read_photo(archive, "a.png")
