"""Fakes of MPII's own file and of the JSON files of Simple Baselines, in their layouts."""

import json

import numpy as np
from fake_people import body_px, mat, photo, structs

from convpose.skeleton import MPII16

HEAD = (8, 9)  # upper neck and head top: the real file has no is_visible for them


def person(points_px, occluded=(), missing=(), **others):
    """An ``annorect`` entry with 1-based coordinates."""
    points = []
    for joint in (6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15):  # the real order
        if joint in missing:
            continue
        x, y = points_px[joint] + 1
        point = {"x": x, "y": y, "id": joint}
        if joint not in HEAD:
            # numbers and texts both occur
            flag = 0 if joint in occluded else 1
            point["is_visible"] = str(flag) if joint % 2 else flag
        points.append(point)
    (left, top), (right, bottom) = points_px.min(0), points_px.max(0)
    return {
        "x1": points_px[9, 0] - 4,
        "y1": points_px[9, 1],
        "x2": points_px[8, 0] + 4,
        "y2": points_px[8, 1],
        "annopoints": {"point": structs(points, "x", "y", "id", "is_visible")},
        "scale": (bottom - top) / 200,
        "objpos": {"x": np.round((left + right) / 2), "y": np.round((top + bottom) / 2)},
        **others,
    }


FIELDS = ("x1", "y1", "x2", "y2", "annopoints", "scale", "objpos")


def release(images, **others):
    """The bytes of ``mpii_human_pose_v1_u12_1.mat``: (name, people or None, train) each."""
    rows = [
        {
            "image": {"name": name},
            "annorect": np.zeros((0, 0))
            if people is None
            else structs(people, *(f for f in FIELDS if any(f in p for p in people))),
            "frame_sec": np.zeros((0, 0)),
            "vididx": np.zeros((0, 0)),
        }
        for name, people, _ in images
    ]
    content = {
        "annolist": structs(rows, "image", "annorect", "frame_sec", "vididx"),
        "img_train": np.array([[int(train) for *_, train in images]]),
        "version": "12",
        "single_person": np.empty((len(images), 1), dtype=object),
        **others,
    }
    content["single_person"][:, 0] = [np.array([[1]])] * len(images)
    return mat(RELEASE=content)


def mpii_images(count=20, seed=0):
    """Training images with one or two people, then one of test, one empty, one without joints."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(1, count + 1):
        people = []
        for _ in range(1 + number % 2):
            points = body_px(MPII16.keypoints, rng)
            occluded, missing = rng.choice(8, 2, replace=False)
            people.append(person(points, {occluded}, {missing} - {2, 3}))
        images.append((f"{number:09d}.jpg", people, True))
    placed = {"scale": 0.2, "objpos": {"x": 30.0, "y": 20.0}}
    images.append(("000000901.jpg", [placed, placed], False))
    images.append(("000000902.jpg", None, True))
    images.append(("000000903.jpg", [placed], True))
    return images


def fake_mpii(count=20):
    """Contents by name."""
    rng = np.random.default_rng(1)
    images = mpii_images(count)
    files = {f"images/{name}": photo(rng) for name, *_ in images}
    return files | {"mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat": release(images)}


def json_entry(name, points_px, labelled):
    """One person of ``train.json``; unlabelled joints are −1."""
    joints = np.where(np.array(labelled)[:, None] > 0, points_px + 1.0, -1.0)
    (left, top), (right, bottom) = points_px.min(0), points_px.max(0)
    return {
        "joints_vis": [int(flag) for flag in labelled],
        "joints": joints.tolist(),
        "image": name,
        "scale": (bottom - top) / 200,
        "center": [float(np.round((left + right) / 2)), float(np.round((top + bottom) / 2))],
    }


def json_people(count, first=1, seed=0):
    rng = np.random.default_rng(seed)
    people = []
    for number in range(first, first + count):
        for _ in range(1 + number % 2):
            labelled = rng.random(16) < 0.9
            labelled[[2, 13]] = True
            people.append(json_entry(f"{number:09d}.jpg", body_px(MPII16.keypoints, rng), labelled))
    return people


def fake_mpii_json(train=24, valid=6):
    """Contents by name."""
    rng = np.random.default_rng(1)
    parts = {"train": json_people(train), "valid": json_people(valid, 900, 2)}
    test = [{"image": "000000950.jpg", "scale": 1.0, "center": [30.0, 20.0]}]
    names = {person["image"] for people in (*parts.values(), test) for person in people}
    files = {f"images/{name}": photo(rng) for name in sorted(names)}
    parts |= {"test": test, "trainval": [*parts["train"], *parts["valid"]]}
    return files | {f"annot/{part}.json": json.dumps(p).encode() for part, p in parts.items()}
