"""Everybody's labels: what each tool exports is read, trained on, scored, drawn and given back."""

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from tiny import composed

sys.path.append(str(Path(__file__).parent.parent / "data"))
import fake_labels
from fake_labels import COUNT, NAMES, VAL, people

from convpose.data.build import build_datamodule
from convpose.data.coco import CocoSource
from convpose.data.command import inspect
from convpose.data.labelstudio import LabelStudioSource
from convpose.data.sleap import SleapSource
from convpose.data.yolo import YoloSource
from convpose.errors import DataError
from convpose.evaluate.command import evaluate
from convpose.predict.images import Picture
from convpose.predict.people import Person
from convpose.predict.sources import Frame
from convpose.predict.writers import open_keypoints
from convpose.skeleton import Skeleton
from convpose.train.command import train

pytestmark = pytest.mark.slow
SMALL = (
    *("data.input_size_px=32", "data.batch_size=4", "data.num_workers=0", "logger=none"),
    *("trainer=cpu", "trainer.max_epochs=1", "model.depth=11", "model.width=0.0625"),
    *("callbacks.preview=null", "augment=default"),
)
# fake, reader, keys of data, and whether the tool tells the subsets
FORMATS = {
    "cvat": (fake_labels.cvat, "coco", ("data.category=dog",), False),
    "roboflow": (fake_labels.roboflow, "coco", (), True),
    "yolo": (fake_labels.yolo, "yolo", (), True),
    "labelstudio": (fake_labels.labelstudio, "labelstudio", (), False),
    "sleap": (fake_labels.sleap, "sleap", (), False),
    "sleap package": (fake_labels.sleap_package, "sleap", (), False),
    "deeplabcut": (fake_labels.deeplabcut, "sleap", (), False),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_labels_go_in_and_come_out_again(kind, tmp_path, caplog):
    fake, reader, keys, subsets = FORMATS[kind]
    folder = labels = fake(tmp_path / "dogs")
    if reader == "sleap":
        labels = next(p for p in folder.rglob("*") if p.suffix in (".slp", ".csv"))
    keys = (f"data={reader}", f"data.source={labels}", *keys)
    run = tmp_path / "run"
    train(composed("train", *SMALL, *keys), run)
    evaluate(composed("evaluate", f"run={run}", "split=val", "gallery=1"))
    assert (run / "evaluate_val" / "sample.png").is_file()

    out = tmp_path / "people.json"
    picture = f"data.gallery={tmp_path}/drawn.png"
    inspect(composed("data", *keys, picture, f"coco={out}"))
    assert cv2.imread(str(tmp_path / "drawn.png")).std() > 10
    expected, photos = people()
    if kind == "sleap package":  # whose frames are nowhere else
        for i, pixels in enumerate(photos):
            fake_labels.photo(folder / "labels.pkg-0" / f"{i:06d}.png", pixels)
    again = CocoSource(str(out), images=str(folder), skeleton=Skeleton("dog", tuple(NAMES)))
    assert len(again.annotations) == COUNT
    told = [a.subset for a in source(reader, labels).annotations]
    assert told == ([None] * COUNT if not subsets else ["train"] * VAL + ["val"] * (COUNT - VAL))
    for a in again.annotations:
        number = int(re.search(r"\d+", Path(a.file).name)[0])
        np.testing.assert_allclose(a.keypoints_px, expected[number], atol=1e-4)
        box = [1.5, 0.5, 61.5, 61.5]
        if reader == "sleap":  # which has no boxes
            box = [*expected[number].min(0), *expected[number].max(0)]
        np.testing.assert_allclose(a.box_px, box, atol=1e-4)
        assert a.visibility.tolist() == [2] * 5


KINDS = {
    "coco": CocoSource,
    "yolo": YoloSource,
    "labelstudio": LabelStudioSource,
    "sleap": SleapSource,
}


def of(reader):
    return None if reader == "sleap" else "dog"


def source(reader, folder, **keys):
    keys = {"source": str(folder), "category": of(reader), **keys}
    return KINDS[reader](**{"skeleton": own(reader, folder), **keys})


def own(reader, folder):
    """The skeleton that a format describes."""
    skeleton = KINDS[reader].own_skeleton({"source": str(folder), "category": of(reader)})
    assert sorted(skeleton.keypoints) == sorted(NAMES)  # DeepLabCut's are in the alphabet's order
    assert sorted(skeleton.pairs) == [("foot l", "foot r"), ("paw l", "paw r")]
    return skeleton


def corrected_studio(folder, photos):
    """Submit the predictions, with the first wrist a tenth further right, and export."""
    file = folder / "keypoints_labelstudio.json"
    tasks = json.loads(file.read_text())
    for number, task in enumerate(tasks):
        (found,) = task.pop("predictions")
        task |= {"id": number, "annotations": [{"id": number, "result": found["result"]}]}
    wrist = next(r for r in tasks[0]["annotations"][0]["result"] if r["id"].endswith("paw l"))
    wrist["value"]["x"] += 10
    (folder / "export.json").write_text(json.dumps(tasks))
    return f"data.source={folder}/export.json", f"data.sources.labelstudio.images={photos}"


def corrected_yolo(folder, photos):
    file = folder / "keypoints_yolo" / "labels" / "0.txt"
    cells = file.read_text().split(" ")
    cells[5] = str(float(cells[5]) + 0.1)
    file.write_text(" ".join(cells))
    return (f"data.source={folder}/keypoints_yolo",)


def corrected_cvat(folder, photos):
    """CVAT gives back what it was given, and knows no key of ours."""
    file = folder / "annotations" / "person_keypoints_default.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["keypoints"][0] += 6.4
    for annotation in content["annotations"]:
        del annotation["convpose_id"]
    file.write_text(json.dumps(content))
    return f"data.source={file}", f"data.sources.coco.images={photos}"


PRELABELS = {
    "labelstudio": ("labelstudio", corrected_studio),
    "yolo": ("yolo", corrected_yolo),
    "cvat": ("coco", corrected_cvat),
}


@pytest.mark.parametrize("kind", PRELABELS)
def test_predictions_are_corrected_in_a_tool_and_trained_on(kind, tmp_path):
    reader, correct = PRELABELS[kind]
    skeleton = Skeleton("dog", tuple(NAMES))
    points, photos = people()
    file = open_keypoints(kind, tmp_path / "out", skeleton)
    for i, pixels in enumerate(photos):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        person = Person(points[i].astype(np.float32), np.full(5, 0.9, np.float32))
        file.write(Frame(str(tmp_path / f"{i}.png"), Picture.of(pixels)), [person])
    file.close()

    keys = (f"data={reader}", "data.split=seeded", *correct(tmp_path / "out", tmp_path))
    datamodule = build_datamodule(cfg := composed("train", *SMALL, *keys))
    assert datamodule.skeleton.keypoints == tuple(NAMES)
    datamodule.setup()
    points[0, 0, 0] += 6.4
    for a in datamodule.datasets["train"].source.annotations:
        number = int(Path(a.file).stem)
        np.testing.assert_allclose(a.keypoints_px, points[number], atol=2e-3)
        low, high = points[number].min(0), points[number].max(0)
        if number:
            np.testing.assert_allclose(a.box_px, [*low, *high], atol=2e-3)
    train(cfg, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.csv").is_file()


@pytest.mark.parametrize("kind", PRELABELS)
def test_clips_have_no_pictures_for_a_tool(kind, tmp_path):
    file = open_keypoints(kind, tmp_path, Skeleton("dog", tuple(NAMES)))
    with pytest.raises(DataError, match="a clip has no pictures for a labelling tool"):
        file.write(Frame("clip.mp4", Picture.of(people()[1][0]), 3, 0.1), [])
    if kind != "labelstudio":  # whose tasks have whole paths
        file.write(Frame("a/1.png", Picture.of(people()[1][0])), [])
        with pytest.raises(DataError, match=r"b/1\.png: another picture is called 1\.png, too"):
            file.write(Frame("b/1.png", Picture.of(people()[1][0])), [])
    file.close(complete=False)


def test_other_categories_are_counted(tmp_path):
    folder = fake_labels.cvat(tmp_path / "dogs")
    assert "coco: 1 people left out of another category than dog" in source("coco", folder).notes
    for category, message in (
        (None, "2 categories have keypoints: cat, dog; type data.category=cat, or another of them"),
        ("cow", "data.category=cow: no category of that name has keypoints; those that have are c"),
    ):
        with pytest.raises(DataError, match=message):
            CocoSource.own_skeleton({"source": str(folder), "category": category})


def test_yolo_without_names_has_numbers_and_its_own_pairs(tmp_path):
    folder = fake_labels.yolo(tmp_path / "dogs", names=False)
    skeleton = YoloSource.own_skeleton({"source": str(folder / "data.yaml")})
    assert skeleton.keypoints == ("point_1", "point_2", "point_3", "point_4", "point_5")
    assert skeleton.pairs == (("point_1", "point_2"), ("point_3", "point_4"))


def test_files_that_sleap_io_cannot_read_are_named(tmp_path):
    sleap_io = pytest.importorskip("sleap_io")
    (tmp_path / "a.slp").write_bytes(b"no labels")
    dogs = [sleap_io.Skeleton(["nose", "tail"], name=name) for name in ("pup", "dog")]
    sleap_io.Labels().save(str(tmp_path / "none.slp"), verbose=False)
    sleap_io.Labels(skeletons=dogs).save(str(tmp_path / "two.slp"), verbose=False)
    for name, message in (
        ("a.slp", "a.slp: not a file that sleap-io reads"),
        ("b.slp", "data.source=.*b.slp: no such file; type the path of the labels"),
        ("none.slp", "none.slp: no labels with a skeleton in it"),
        ("two.slp", "two.slp: type data.category= with one of its skeletons, pup, dog"),
        ("https://a.b/c.slp", "data.source=https:/a.b/c.slp: no such file"),
    ):
        where = name if "//" in name else str(tmp_path / name)
        with pytest.raises(DataError, match=message):
            SleapSource(where)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of pynwb
@pytest.mark.parametrize("kind", ["slp", "annotations", "predictions", "jabs"])
def test_labels_of_a_clip_beside_them(kind, tmp_path, caplog):
    """SLEAP, NWB with labels and with predictions, JABS; SLEAP's folder has been moved."""
    points, photos = fake_labels.clip_of(tmp_path / "made", kind)
    folder = tmp_path / "made"
    if kind == "slp":
        folder = folder.rename(tmp_path / "moved")
    (labels,) = (p for p in folder.rglob("*") if p.suffix in (".slp", ".nwb", ".h5"))
    skeleton = SleapSource.own_skeleton({"source": str(labels)})
    found = SleapSource(str(labels), skeleton=skeleton)
    assert len(found.annotations) == COUNT
    numbers = [int(Path(annotation.file).stem) for annotation in found.annotations]
    assert sorted(numbers) == list(range(COUNT))  # NWB keeps no order
    for i, (number, annotation) in enumerate(zip(numbers, found.annotations, strict=True)):
        np.testing.assert_allclose(annotation.keypoints_px, points[number], atol=1e-4)
        assert annotation.visibility.tolist() == [2] * len(points[number])
        np.testing.assert_array_equal(found.read_image(i)[0], photos[number])
    assert ("a network has predicted them" in caplog.text) == (kind in ("predictions", "jabs"))


YOLO, STUDIO = "labels/train/0.txt", "export.json"


@pytest.mark.parametrize(
    ("kind", "file", "old", "new", "message"),
    [
        ("yolo", "data.yaml", "kpt_shape: [5, 3]", "nc: 1", "data.yaml: expected data.yaml of a p"),
        (
            "yolo",
            "data.yaml",
            "[1, 0, 3, 2, 4]",
            "[1, 0]",
            "flip_idx must have each of 0 to 4 once",
        ),
        ("yolo", YOLO, " 2\n", "\n", r"0.txt: line 1 has 19 numbers, expected class .* 15 or 20"),
        ("yolo", YOLO, " 2\n", " 3\n", "line 1 has a visibility that is none of 0, 1 and 2"),
        ("yolo", YOLO, " 2\n", " x\n", "line 1: could not convert string to float: 'x'; expected"),
        ("labelstudio", STUDIO, "[", "{", "export.json: not a JSON file"),
        (
            "labelstudio",
            STUDIO,
            '"paw l"',
            '"paw r"',
            "task 0 has paw r more than once in one pers",
        ),
        ("labelstudio", STUDIO, '"type"', '"kind"', "task 0 is not as expected .*: 'type'"),
        (
            "labelstudio",
            STUDIO,
            '["nose tip"]',
            "[]",
            "export.json: task 0 has a keypoint without a label; label it there or remove it, and",
        ),
        ("labelstudio", STUDIO, '"data"', '"date"', "task 0 is not as expected .*KeyError: 'data'"),
        ("labelstudio", STUDIO, '"x": ', '"x": null, "z": ', "task 0 is not as expected .Type"),
    ],
)
def test_damaged_labels_are_named(kind, file, old, new, message, tmp_path):
    folder = getattr(fake_labels, kind)(tmp_path / "dogs")
    skeleton = own(kind, folder)
    (folder / file).write_text((folder / file).read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        KINDS[kind](str(folder), skeleton=skeleton)


def _rewritten(file, old, new):
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("kind", "change", "count"),
    [
        ("yolo", lambda d: (d / "images/train/0.png").rename(d / "images/train/0.PNG"), COUNT),
        (
            "yolo",
            lambda d: [
                (d / f"{top}/train/0{end}").rename(d / f"{top}/train/{name}_0{end}")
                for top, end, name in (
                    ("images", ".png", "F\u00f6"),
                    ("labels", ".txt", "fo\u0308"),
                )
            ],
            COUNT,
        ),
        ("yolo", lambda d: (d / "images/train/0.png").unlink(), COUNT - 1),
        ("yolo", lambda d: (d / "labels").rename(d / "Labels"), COUNT),
        ("yolo", lambda d: [(d / k).rename(d / k.upper()) for k in ("labels", "images")], COUNT),
        ("yolo", lambda d: (d / YOLO).rename(d / "labels/train/0.TXT"), COUNT),
        ("yolo", lambda d: _rewritten(d / "data.yaml", "images/val", r"images\val"), COUNT),
        ("yolo", lambda d: _rewritten(d / YOLO, "0 0", "\ufeff0 0"), COUNT),
        ("labelstudio", lambda d: _rewritten(d / STUDIO, '"img"', '"note": "a/dog", "img"'), COUNT),
        ("labelstudio", lambda d: _rewritten(d / STUDIO, '_width": 64', '_width": null'), COUNT),
    ],
)
def test_labels_written_another_way_are_read(kind, change, count, tmp_path):
    folder = getattr(fake_labels, kind)(tmp_path / "dogs")
    skeleton = own(kind, folder)
    change(folder)
    found = KINDS[kind](str(folder), skeleton=skeleton)
    assert len(found.annotations) == count
    lost = any(n == f"{kind}: 1 people left out whose photograph is missing" for n in found.notes)
    assert lost == (count < COUNT)
    expected, _ = people()
    for a in found.annotations:
        number = int(re.search(r"\d+", Path(a.file).name)[0])
        assert kind != "yolo" or a.subset == ("train" if number < VAL else "val")
        np.testing.assert_allclose(a.keypoints_px, expected[number], atol=1e-4)


def test_two_names_of_frames_are_not_one_photograph(tmp_path):
    sleap_io = pytest.importorskip("sleap_io")
    names = [tmp_path / f"cam{i}" / "a.png" for i in range(2)]
    for name in names:
        fake_labels.photo(name, people()[1][0])
    video = sleap_io.Video.from_filename(list(map(str, names)))
    dog = sleap_io.Skeleton(["nose", "tail"])
    one = sleap_io.Instance.from_numpy(np.ones((2, 2)), skeleton=dog)
    frames = [sleap_io.LabeledFrame(video, i, instances=[one]) for i in range(2)]
    sleap_io.Labels(frames).save(str(tmp_path / "a.slp"), verbose=False)
    names[0].rename(tmp_path / "a.png")
    names[1].unlink()
    with pytest.raises(DataError, match=r"cam0/a.png and .*cam1/a.png would both be .*/a.png; put"):
        SleapSource(str(tmp_path / "a.slp"), skeleton=Skeleton("dog", ("nose", "tail")))


@pytest.mark.parametrize("kind", ["yolo", "labelstudio"])
def test_two_names_in_the_labels_are_not_one_photograph(kind, tmp_path, caplog):
    """The photographs have lost their folders: 0 and 1 meet, and the others are found."""
    folder = getattr(fake_labels, kind)(tmp_path / "dogs")
    if kind == "yolo":
        for i in range(2):
            (folder / f"labels/cam{i}").mkdir()
            (folder / f"labels/train/{i}.txt").rename(folder / f"labels/cam{i}/a.txt")
        (folder / "images/train/0.png").rename(folder / "a.png")
    else:
        _rewritten(folder / STUDIO, "0a1b2c3d-0.png", "0a1b2c3d-a.png")
        _rewritten(folder / STUDIO, "local-files/?d=d/1.png", "upload/3/00000000-a.png")
        (folder / "0.png").rename(folder / "a.png")
        _rewritten(folder / STUDIO, "/data/upload/3/", "")
    found = source(kind, folder)
    assert sorted(int(Path(a.file).stem) for a in found.annotations) == list(range(2, COUNT))
    assert f"of 2 of {COUNT} people of {kind} are missing or not unique" in caplog.text
    if kind == "yolo":
        (folder / "labels/cam0/a.txt").write_text("")  # nobody is in it, yet it is a photograph
        assert len(source(kind, folder).annotations) == COUNT - 2


def test_yolo_names_the_keypoints_of_each_class(tmp_path):
    folder = fake_labels.yolo(tmp_path / "dogs")
    keys = {"source": str(folder)}
    _rewritten(folder / YOLO, "0 0", "1 0")
    _rewritten(folder / "data.yaml", "0: dog", "0: dog\n  1: cat")
    for others, message in (
        (
            "",
            r"data\.yaml: the kpt_names of the classes dog, cat differ; type data\.category=dog",
        ),
        ("\n  1: [paw r, paw l, a, b, c]", "classes dog, cat differ"),
    ):
        text = (folder / "data.yaml").read_text()
        (folder / "data.yaml").write_text(text + others)
        with pytest.raises(DataError, match=message):
            YoloSource.own_skeleton(keys)
        with pytest.raises(DataError, match=message):
            YoloSource(str(folder))
    with pytest.raises(DataError, match=r"data\.category=cow: no such class; there are dog, cat"):
        YoloSource.own_skeleton(keys | {"category": "cow"})
    cat = YoloSource.own_skeleton(keys | {"category": "cat"})
    assert cat.keypoints == ("paw r", "paw l", "a", "b", "c")
    found = YoloSource(str(folder), skeleton=cat, category="cat")
    (a,) = found.annotations
    np.testing.assert_allclose(a.keypoints_px, people()[0][0], atol=1e-4)  # in the file's order
    assert own("yolo", folder).keypoints == tuple(NAMES)
    _rewritten(folder / "data.yaml", "paw r, paw l, a, b, c", ", ".join(NAMES))
    both = YoloSource(str(folder), skeleton=own("yolo", folder))
    assert "yolo: read as one: cat (1), dog (11); data.category=NAME reads one alone" in both.notes


def test_label_studio_says_that_categories_are_read_as_one(tmp_path):
    folder = fake_labels.labelstudio(tmp_path / "dogs")
    file = folder / STUDIO
    file.write_text(file.read_text().replace('["dog"]', '["cat"]', 1))
    both = source("labelstudio", folder, category=None)
    assert len(both.annotations) == COUNT
    assert both.notes[-1].startswith("labelstudio: read as one: cat (1), dog (11); data.category=")
    assert "read as one" not in "".join(source("labelstudio", folder).notes)
    file.write_text(file.read_text().replace('"nose tip"', '"snout"', 1))  # of the cat
    skeletons = {
        c: LabelStudioSource.own_skeleton({"source": str(folder), "category": c})
        for c in ("cat", "dog", None)
    }
    assert skeletons["cat"].keypoints == (*NAMES[:4], "snout")
    assert skeletons["dog"].keypoints == tuple(NAMES)
    assert skeletons[None].keypoints == (*NAMES[:4], "snout", NAMES[4])
    with pytest.raises(DataError, match=r"data\.category=cow: nobody is; there are cat, dog"):
        source("labelstudio", folder, category="cow", skeleton=skeletons["cat"])
    file.write_text(file.read_text().replace('["dog"]', "[]", 1))
    assert len(source("labelstudio", folder).annotations) == COUNT - 2


LISTS = ("train.txt", "lists/val.txt")


@pytest.mark.parametrize(
    "line",
    [
        "images/{}/{}.png",
        "./images/{}/{}.png",
        "/me/dogs/images/{}/{}.png",
        r"C:\dogs\images\{}\{}.png",
    ],
)
def test_yolo_reads_lists_of_photographs(line, tmp_path, caplog):
    """With train and val exchanged, so that no folder tells the subset."""
    folder = fake_labels.yolo(tmp_path / "dogs")
    _rewritten(folder / "data.yaml", "train: images/train", f"train: {LISTS[0]}")
    _rewritten(folder / "data.yaml", "val: images/val", f"val: ./{LISTS[1]}")
    (folder / "lists").mkdir()
    for name, subset, numbers in zip(
        LISTS, ("val", "train"), (range(9, 12), range(8)), strict=True
    ):
        lines = [line.format(subset, i) for i in numbers]
        (folder / name).write_text("\n".join(lines) + "\n\n")
    told = {int(Path(a.file).stem): a.subset for a in source("yolo", folder).annotations}
    assert told == dict.fromkeys(range(8), "val") | {8: None} | dict.fromkeys(range(9, 12), "train")
    assert "nobody is of a subset" not in caplog.text


def test_yolo_says_that_no_subset_is_where_it_should_be(tmp_path, caplog):
    folder = fake_labels.yolo(tmp_path / "dogs")
    _rewritten(folder / "data.yaml", "images/", "pictures/")
    assert {a.subset for a in source("yolo", folder).annotations} == {None}
    said = "data.yaml: no photograph with labels is in train: pictures/train, val: pictures/val, so"
    assert said in caplog.text
    _rewritten(folder / "data.yaml", "pictures/val", "val.txt")
    said = (
        r"data\.yaml: val: val\.txt is not in .*dogs; put the list there, or type the folder of t"
    )
    with pytest.raises(DataError, match=said):
        source("yolo", folder)


def test_two_texts_of_one_photograph_are_refused(tmp_path):
    folder = fake_labels.yolo(tmp_path / "dogs")
    (folder / "Labels" / "train").mkdir(parents=True)
    (folder / "Labels" / "train" / "0.txt").write_text("0 0 0 1 1\n")
    with pytest.raises(
        DataError, match=r"Labels/train/0\.txt and labels/train/0\.txt are both of "
    ):
        YoloSource(str(folder), skeleton=own("yolo", folder))


def test_photographs_without_labels_say_where_labels_belong(tmp_path):
    folder = fake_labels.yolo(tmp_path / "dogs")
    skeleton = own("yolo", folder)
    (folder / "labels").rename(folder / "text")
    with pytest.raises(
        DataError, match=r"no text file in a folder labels; expected labels/…/a\.txt"
    ):
        YoloSource(str(folder), skeleton=skeleton)


def test_yolo_says_that_photographs_are_turned(tmp_path):
    folder = fake_labels.yolo(tmp_path / "dogs")
    photo = next(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    Image.open(photo).copy().save(photo, exif=exif)
    (doubt,) = YoloSource(str(folder), skeleton=own("yolo", folder)).doubts
    assert doubt.startswith("yolo: 1 photographs have an EXIF orientation that no width and height")
    assert doubt.endswith("type data.sources.yolo.upright=exif or =stored")
