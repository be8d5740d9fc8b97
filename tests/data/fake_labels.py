"""One set of people as the tools of labellers export them, each a folder."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from convpose.data.synthetic import SyntheticSource
from convpose.skeleton import LSP14

JOINTS = {"left_wrist": "paw l", "right_wrist": "paw r", "left_ankle": "foot l"}
JOINTS |= {"right_ankle": "foot r", "head_top": "nose tip"}
NAMES = list(JOINTS.values())
SIDE_PX = 64
COUNT = 12
VAL = 9  # photographs from here on are the validation's, where a tool knows subsets


def people():
    """(N, 5, 2) pixels with centres at integers, and the photographs."""
    source = SyntheticSource(COUNT, SIDE_PX, seed=5)
    index = [LSP14.index(name) for name in JOINTS]
    points = np.stack([a.keypoints_px[index] for a in source.annotations])
    return points.round(2).astype(np.float64), [source.read_image(i)[0] for i in range(COUNT)]


def photo(file: Path, pixels):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def coco(entries, categories, **person):
    """A COCO file of numbered photographs: (id, name, points) each."""
    images = [{"id": i, "file_name": n, "width": SIDE_PX, "height": SIDE_PX} for i, n, _ in entries]
    annotations = [
        {
            "id": 100 + i,
            "image_id": i,
            "keypoints": [v for x, y in points.tolist() for v in (x, y, 2)],
            "bbox": [2.0, 1.0, 60.0, 61.0],
            "area": 3660.0,
            "iscrowd": 0,
            **person,
        }
        for i, _, points in entries
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def cvat(folder: Path):
    """Two categories with joints; ids are texts, as some versions have them."""
    points, photos = people()
    cat = {"id": 1, "name": "cat", "keypoints": ["tail", "ear"], "skeleton": []}
    dog = {"id": 2, "name": "dog", "keypoints": NAMES, "skeleton": [[1, 5], [2, 5]]}
    entries = [(i, f"{i}.png", points[i]) for i in range(COUNT)]
    content = coco(entries, [cat, dog], category_id="2")
    content["annotations"].append(
        {"id": 7, "image_id": 0, "category_id": 1, "keypoints": [1, 1, 2, 3, 3, 2], "bbox": [0] * 4}
    )
    for i, pixels in enumerate(photos):
        photo(folder / "images" / "default" / f"{i}.png", pixels)
    (folder / "annotations").mkdir()
    file = folder / "annotations" / "person_keypoints_default.json"
    file.write_text(json.dumps(content))
    return folder


def roboflow(folder: Path):
    """Subsets are folders, each with its labels; the first category has no joints."""
    points, photos = people()
    named = {"id": 1, "name": "dog", "supercategory": "dogs", "keypoints": NAMES, "skeleton": []}
    for subset, numbers in (("train", range(VAL)), ("valid", range(VAL, COUNT))):
        entries = [(i, f"{i}_png.rf.{i:032x}.png", points[i]) for i in numbers]
        content = coco(entries, [{"id": 0, "name": "dogs"}, named], category_id=1)
        for i, name, _ in entries:
            photo(folder / subset / name, photos[i])
        (folder / subset / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def yolo(folder: Path, names: bool = True):
    points, photos = people()
    for i, pixels in enumerate(photos):
        subset = "train" if i < VAL else "val"
        photo(folder / "images" / subset / f"{i}.png", pixels)
        values = [(2 + 30) / SIDE_PX, (1 + 30.5) / SIDE_PX, 60 / SIDE_PX, 61 / SIDE_PX]
        values += [v for x, y in (points[i] / SIDE_PX).tolist() for v in (x, y, 2)]
        text = " ".join(f"{v:.8g}" for v in (0, *values))
        label = folder / "labels" / subset / f"{i}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(text + "\n")
    lines = ["path: ../datasets/dogs", "train: images/train", "val: images/val"]
    lines += ["kpt_shape: [5, 3]", "flip_idx: [1, 0, 3, 2, 4]", "names:", "  0: dog"]
    if names:
        lines += ["kpt_names:", "  0: [" + ", ".join(NAMES) + "]"]
    (folder / "data.yaml").write_text("\n".join(lines))
    return folder


def labelstudio(folder: Path):
    """One task as it is exported after an upload, the others of local files."""
    points, photos = people()
    tasks = []
    for i, pixels in enumerate(photos):
        photo(folder / f"{i}.png", pixels)
        where = {"original_width": SIDE_PX, "original_height": SIDE_PX, "image_rotation": 0}
        box = {"x": 200 / 64, "y": 100 / 64, "width": 6000 / 64, "height": 6100 / 64, "rotation": 0}
        result = [
            {
                "id": f"box{i}",
                "type": "rectanglelabels",
                "value": {**box, "rectanglelabels": ["dog"]},
                **where,
            }
        ]
        for name, (x, y) in zip(NAMES, ((points[i] + 0.5) / SIDE_PX * 100).tolist(), strict=True):
            value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [name]}
            parent = {"parentID": f"box{i}"} if i % 2 else {}
            result.append(
                {"id": f"{i}{name}", "type": "keypointlabels", "value": value, **parent, **where}
            )
        path = f"/data/upload/3/0a1b2c3d-{i}.png" if i == 0 else f"/data/local-files/?d=d/{i}.png"
        skipped = {"was_cancelled": True, "result": []}
        annotations = [{"id": i, "was_cancelled": False, "result": result}, skipped]
        tasks.append({"id": i, "data": {"img": path}, "annotations": annotations})
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder


def sleap(folder: Path, file="labels.slp", **options):
    """Labels of images, or with the images in them."""
    sleap_io = pytest.importorskip("sleap_io")
    points, photos = people()
    for i, pixels in enumerate(photos):
        photo(folder / "frames" / f"{i}.png", pixels)
    names = [str(folder / "frames" / f"{i}.png") for i in range(COUNT)]
    video = sleap_io.Video.from_filename(names, grayscale=False)
    pairs = [("paw l", "paw r"), ("foot l", "foot r")]
    edges = [("paw l", "nose tip"), ("paw r", "nose tip")]
    skeleton = sleap_io.Skeleton(nodes=list(NAMES), edges=edges, symmetries=pairs, name="dog")
    frames = [
        sleap_io.LabeledFrame(
            video=video,
            frame_idx=i,
            instances=[sleap_io.Instance.from_numpy(points[i], skeleton=skeleton)],
        )
        for i in range(COUNT)
    ]
    sleap_io.Labels(frames).save(str(folder / file), verbose=False, **options)
    return folder


def clip_of(folder: Path, kind: str):
    """Labels of a clip beside them: points (COUNT, K, 2), and the file."""
    sleap_io = pytest.importorskip("sleap_io")
    from sleap_io.io.jabs import JABS_DEFAULT_SKELETON

    points, photos = people()
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / "dogs.avi"), "w") as clip:
        stream = clip.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = SIDE_PX, SIDE_PX, "bgr0"
        for pixels in photos:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            clip.mux(stream.encode(frame))
        clip.mux(stream.encode())
    video = sleap_io.Video.from_filename(str(folder / "dogs.avi"))
    skeleton = sleap_io.Skeleton(nodes=list(NAMES), name="dog")
    if kind == "jabs":  # which has whole numbers, and a skeleton of its own
        points = np.random.default_rng(0).integers(4, 60, (COUNT, 12, 2)).astype(float)
        skeleton = JABS_DEFAULT_SKELETON
    one = sleap_io.PredictedInstance if "predictions" in kind else sleap_io.Instance
    track = sleap_io.Track("0")
    animals = [one.from_numpy(points[i], skeleton=skeleton, track=track) for i in range(COUNT)]
    labels = sleap_io.Labels(
        [sleap_io.LabeledFrame(video, i, instances=[animals[i]]) for i in range(COUNT)]
    )
    if kind == "slp":
        labels.save(str(folder / "dogs.slp"), verbose=False)
    elif kind == "jabs":
        sleap_io.save_jabs(labels, 2, str(folder))
    else:
        sleap_io.save_nwb(labels, str(folder / "dogs.nwb"), nwb_format=kind)
    return points, photos


def sleap_package(folder: Path):
    sleap(folder, "labels.pkg.slp", embed=True)
    shutil.rmtree(folder / "frames")
    return folder


def deeplabcut(folder: Path):
    pytest.importorskip("sleap_io")
    points, photos = people()
    head = [["scorer", *["me"] * 10], ["bodyparts", *[n for n in NAMES for _ in "xy"]]]
    rows = [*head, ["coords", *["x", "y"] * 5]]
    for i, pixels in enumerate(photos):
        photo(folder / "labeled-data" / "dogs" / f"img{i:02d}.png", pixels)
        rows.append([f"labeled-data/dogs/img{i:02d}.png", *points[i].ravel().tolist()])
    text = "\n".join(",".join(map(str, row)) for row in rows)
    (folder / "labeled-data" / "dogs" / "CollectedData_me.csv").write_text(text + "\n")
    return folder
