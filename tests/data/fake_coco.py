"""A fake of COCO 2017's keypoints, in its layout."""

import json

import numpy as np
from fake_people import HEIGHT_PX, WIDTH_PX, body_px, photo

from convpose.skeleton import COCO17


def image_entry(number, file_name=None):
    return {
        "license": 4,
        "file_name": file_name or f"{number:012d}.jpg",
        "coco_url": f"http://images.cocodataset.org/val2017/{number:012d}.jpg",
        "height": HEIGHT_PX,
        "width": WIDTH_PX,
        "date_captured": "2013-11-14 17:02:52",
        "flickr_url": "http://farm7.staticflickr.com/1.jpg",
        "id": number,
    }


def person_entry(number, image, points_px, visibility, **others):
    """An annotation; unlabelled joints are 0, 0, 0, and the box ends in the corners of pixels."""
    flat = [v for (x, y), v in zip(points_px, visibility, strict=True) for v in (x, y, v)]
    keypoints = [int(value) for value in flat]
    for i in np.flatnonzero(np.array(visibility) == 0):
        keypoints[3 * i : 3 * i + 3] = (0, 0, 0)
    left, top = (points_px.min(axis=0) - 2.0).tolist()
    right, bottom = (points_px.max(axis=0) + 2.0).tolist()
    return {
        "segmentation": [[left, top, right, top, right, bottom]],
        "num_keypoints": int(np.count_nonzero(visibility)),
        "area": 500.25,
        "iscrowd": 0,
        "keypoints": keypoints,
        "image_id": image,
        "bbox": [left + 0.25, top + 0.5, right - left, bottom - top],
        "category_id": 1,
        "id": number,
        **others,
    }


CATEGORY = {
    "supercategory": "person",
    "id": 1,
    "name": "person",
    "keypoints": list(COCO17.keypoints),
    "skeleton": [[16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7]],
}


def content(images, annotations):
    return {
        "info": {"description": "COCO 2017 Dataset", "year": 2017},
        "licenses": [{"id": 4, "name": "Attribution License"}],
        "images": images,
        "annotations": annotations,
        "categories": [CATEGORY],
    }


def coco_part(count, first=1, seed=0):
    """Images with one or two people, every third with a crowd and somebody without keypoints."""
    rng = np.random.default_rng(seed)
    images, people = [], []
    for number in range(first, first + count):
        images.append(image_entry(number))
        for _ in range(1 + number % 2):
            visibility = rng.choice([0, 1, 2], 17, p=(0.1, 0.2, 0.7))
            visibility[5:7] = visibility[11:13] = 2  # with a torso
            points = body_px(COCO17.keypoints, rng)
            people.append(person_entry(1000 + len(people) + first, number, points, visibility))
        if number % 3 == 0:
            nobody = np.zeros(17)
            box = np.ones((17, 2)) * 5
            people.append(person_entry(5000 + 2 * number, number, box, nobody))
            people.append(person_entry(5001 + 2 * number, number, box, nobody, iscrowd=1))
    return content(images, people)


def fake_coco(train=24, val=6):
    """Contents by name."""
    rng = np.random.default_rng(1)
    parts = {"train2017": coco_part(train), "val2017": coco_part(val, 900, 2)}
    files = {
        "annotations/captions_val2017.json": b"{}",
        "annotations/instances_val2017.json": b"{}",
    }
    for part, listed in parts.items():
        files[f"annotations/person_keypoints_{part}.json"] = json.dumps(listed).encode()
        files |= {f"{part}/{image['file_name']}": photo(rng) for image in listed["images"]}
    return files
