"""Labels stay on people whatever EXIF says: stored or upright, by size, by key, there and back."""

import io
import json

import numpy as np
import pytest
from fake_coco import content, image_entry, person_entry
from fake_people import mat, structs
from PIL import Image

from convpose.data.coco import CocoSource, write_coco
from convpose.data.csv_source import CsvSource
from convpose.data.flic import FlicSource
from convpose.data.mpii import MpiiJsonSource, MpiiSource
from convpose.skeleton import COCO17, LSP14

ORIENTATION = 274
STORED_AS = {  # of an upright image: its pixels in a file of that EXIF orientation
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image, -1),
}
SQUARE, WIDE = (64, 64), (64, 40)  # width and height of the upright picture
JOINTS = COCO17.keypoints


def marked(size_px, seed):
    """A grey picture with a white spot of 3 px at each of 17 points; the points (17, 2)."""
    width, height = size_px
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 60, np.uint8)
    cells = rng.permutation((width // 6) * (height // 6))[:17]
    points = np.stack([cells % (width // 6), cells // (width // 6)], axis=1) * 6 + 2
    for x, y in points:
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    return image, points


def file(upright_image, orientation, kind="PNG"):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    pixels = np.ascontiguousarray(STORED_AS[orientation](upright_image))
    Image.fromarray(pixels).save(buffer, kind, exif=exif)
    return buffer.getvalue()


def in_stored(points, size_px, orientation):
    """The same points in the pixels as stored, found by turning an image of indices."""
    width, height = size_px
    index = np.arange(width * height).reshape(height, width, 1)
    stored = STORED_AS[orientation](index)[..., 0]
    place = {int(v): (x, y) for y, row in enumerate(stored) for x, v in enumerate(row)}
    return np.array([place[int(y * width + x)] for x, y in points])


def lies_on_people(source):
    """Tell if every labelled joint lies on a white spot of the picture that is read."""
    for i, a in enumerate(source.annotations):
        image, _ = source.read_image(i)
        assert image.shape[:2] == (a.height_px, a.width_px)
        x, y = np.round(a.keypoints_px[a.labelled]).astype(int).T
        if not (image[y, x] > 150).all():
            return False
    return True


def write_photos(folder, size_px, kind="PNG"):
    """Eight pictures, of each orientation; their upright points by name."""
    points = {}
    for orientation in STORED_AS:
        image, points[f"{orientation}.png"] = marked(size_px, orientation)
        (folder / f"{orientation}.png").write_bytes(file(image, orientation, kind))
    return points


def coco(folder, points, size_px, labels, **keys):
    """Labels of the upright or the stored picture, with its size in the file."""
    images, people = [], []
    for number, (name, upright) in enumerate(points.items(), start=1):
        orientation = int(name[0])
        own = in_stored(upright, size_px, orientation) if labels == "stored" else upright
        turned = labels != "upright" and orientation > 4
        width, height = size_px[::-1] if turned else size_px
        images.append(image_entry(number, name) | {"width": width, "height": height})
        people.append(person_entry(number, number, own, [2] * 17))
    (folder / "people.json").write_text(json.dumps(content(images, people)))
    return CocoSource(str(folder / "people.json"), **keys)


@pytest.mark.parametrize("size_px", [SQUARE, WIDE])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_labels_of_the_upright_picture_lie_on_people(tmp_path, size_px, kind):
    source = coco(tmp_path, write_photos(tmp_path, size_px, kind), size_px, "upright")
    assert lies_on_people(source)
    undecided = 7 if size_px == SQUARE else 3  # a turn by 90° of a wide picture is in its size
    (doubt,) = source.doubts
    assert doubt.startswith(f"coco: {undecided} photographs have an EXIF orientation that no width")
    assert doubt.endswith("type data.sources.coco.upright=exif or =stored")
    assert (
        coco(tmp_path, write_photos(tmp_path, size_px), size_px, "upright", upright="exif").doubts
        == []
    )


@pytest.mark.parametrize("size_px", [SQUARE, WIDE])
def test_labels_of_the_stored_picture_lie_on_people_if_the_key_says_so(tmp_path, size_px):
    points = write_photos(tmp_path, size_px)
    assert not lies_on_people(coco(tmp_path, points, size_px, "stored"))
    source = coco(tmp_path, points, size_px, "stored", upright="stored")
    assert lies_on_people(source)
    assert source.doubts == []


def test_a_size_settles_it(tmp_path):
    points = {n: p for n, p in write_photos(tmp_path, WIDE).items() if int(n[0]) > 4}
    source = coco(tmp_path, points, WIDE, "stored")
    assert lies_on_people(source)
    (doubt,) = source.doubts
    assert "4 photographs have an EXIF orientation and the size of the stored picture" in doubt
    upright = coco(tmp_path, points, WIDE, "upright")
    assert lies_on_people(upright)
    assert upright.doubts == []


def test_labels_beyond_the_stored_frame_overrule_its_size(tmp_path):
    """Label Studio: the size of the stored picture, the points of the upright one."""
    points = {n: p for n, p in write_photos(tmp_path, WIDE).items() if int(n[0]) > 4}
    source = coco(tmp_path, points, WIDE, "label studio")
    assert lies_on_people(source)
    assert "beyond it are labels, so upright" in source.doubts[0]
    assert lies_on_people(coco(tmp_path, points, WIDE, "label studio", upright="exif"))


@pytest.mark.parametrize("size_px", [SQUARE, WIDE])
@pytest.mark.parametrize("labels", ["upright", "stored"])
def test_the_round_trip_keeps_labels_on_people(tmp_path, size_px, labels):
    points = write_photos(tmp_path, size_px)
    key = "exif" if labels == "upright" else "stored"
    source = coco(tmp_path, points, size_px, labels, upright=key, skeleton="coco17")
    write_coco(source.annotations, COCO17, tmp_path / "again.json")
    again = CocoSource(str(tmp_path / "again.json"), skeleton="coco17")
    assert lies_on_people(again)
    assert again.doubts == []
    for a, b in zip(source.annotations, again.annotations, strict=True):
        np.testing.assert_array_equal(a.keypoints_px, b.keypoints_px)
        assert (a.width_px, a.height_px) == (b.width_px, b.height_px)


def csv(folder, points):
    names = [n for n in JOINTS if n in LSP14.keypoints]
    lines = [",".join(["image", *(f"{n}_{c}" for n in names for c in "xy")])]
    for name, own in points.items():
        rows = own[[JOINTS.index(n) for n in names]]
        lines.append(",".join([name, *map(str, rows.ravel())]))
    (folder / "people.csv").write_text("\n".join(lines))
    return lambda **keys: CsvSource(str(folder / "people.csv"), **keys)


def mpii_json(folder, points):
    people = [
        {"image": n, "joints": (own[:16] + 1).tolist(), "joints_vis": [1] * 16}
        for n, own in points.items()
    ]
    (folder / "valid.json").write_text(json.dumps(people))
    return lambda **keys: MpiiJsonSource(str(folder / "valid.json"), **keys)


def mpii(folder, points):
    def point(i, x, y):
        return {"id": i, "x": x + 1, "y": y + 1}

    people = [
        {
            "image": structs([{"name": n}], "name"),
            "annorect": structs(
                [
                    {
                        "annopoints": structs(
                            [
                                {
                                    "point": structs(
                                        [point(i, *p) for i, p in enumerate(own[:16].tolist())],
                                        "id",
                                        "x",
                                        "y",
                                    )
                                }
                            ],
                            "point",
                        )
                    }
                ],
                "annopoints",
            ),
        }
        for n, own in points.items()
    ]
    release = {"annolist": structs(people, "image", "annorect"), "img_train": np.ones((1, 8))}
    (folder / "mpii.mat").write_bytes(mat(RELEASE=structs([release], *release)))
    return lambda **keys: MpiiSource(str(folder / "mpii.mat"), **keys)


def flic(folder, points):
    people = []
    for name, own in points.items():
        coords = np.full((2, 29), np.nan)
        coords[:, [0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16]] = own[:11].T + 1
        people.append({"filepath": name, "coords": coords, "istrain": 1, "istest": 0})
    (folder / "examples.mat").write_bytes(mat(examples=structs(people, *people[0])))
    return lambda **keys: FlicSource(str(folder / "examples.mat"), **keys)


@pytest.mark.parametrize("reader", [csv, mpii, mpii_json, flic])
@pytest.mark.parametrize("labels", ["exif", "stored"])
def test_readers_without_sizes_take_them_upright_and_have_the_key(tmp_path, reader, labels):
    points = write_photos(tmp_path, WIDE)
    own = {n: in_stored(p, WIDE, int(n[0])) for n, p in points.items()}
    read = reader(tmp_path, points if labels == "exif" else own)
    assert lies_on_people(read(upright=labels, min_joints=1))
    plain = read(min_joints=1)
    assert lies_on_people(plain) == (labels == "exif")
    told = [doubt for doubt in plain.doubts if "EXIF" in doubt]
    assert len(told) == (0 if reader is csv else 1)  # a CSV is of the upright picture by contract
    assert all("7 photographs" in doubt for doubt in told)
