"""Photographs, standing people and MATLAB structs for the fake archives."""

import io

import cv2
import numpy as np
from scipy.io import savemat

WIDTH_PX, HEIGHT_PX = 64, 48
# A person facing the camera in fractions of a box: height of what lies in the middle, and distance
# from it and height of what there is twice. Left is the image's right.
MIDDLE = {"head_top": 0.0, "nose": 0.1, "neck": 0.18, "upper_neck": 0.18, "thorax": 0.24}
MIDDLE |= {"pelvis": 0.52}
SIDE = {"eye": (0.04, 0.08), "ear": (0.08, 0.09), "shoulder": (0.18, 0.24), "elbow": (0.28, 0.36)}
SIDE |= {"wrist": (0.4, 0.48), "hip": (0.1, 0.52), "knee": (0.12, 0.75), "ankle": (0.14, 1.0)}
BODY = {name: (0.5, y) for name, y in MIDDLE.items()}
BODY |= {f"left_{name}": (0.5 + x, y) for name, (x, y) in SIDE.items()}
BODY |= {f"right_{name}": (0.5 - x, y) for name, (x, y) in SIDE.items()}


def photo(rng, width_px=WIDTH_PX, height_px=HEIGHT_PX, ending=".jpg"):
    image = rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    return cv2.imencode(ending, image)[1].tobytes()


def turned(jpeg):
    """The same JPEG with an EXIF orientation that turns it by 90°."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


def body_px(joints, rng):
    """(J, 2) whole pixels of a person somewhere in the photograph, from 2 px to its edge."""
    height = rng.uniform(0.6, 0.8) * HEIGHT_PX
    left = rng.uniform(3, WIDTH_PX - 4 - 0.6 * height)
    top = rng.uniform(3, HEIGHT_PX - 4 - height)
    points = np.array([BODY[name] for name in joints])
    return np.round(points * (0.6 * height, height) + (left, top))


def mat(**variables):
    """The bytes of a MATLAB file."""
    buffer = io.BytesIO()
    savemat(buffer, variables)
    return buffer.getvalue()


def structs(rows, *fields):
    """A 1×N MATLAB struct array of dictionaries; what one does not have is []."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in fields])
    for i, row in enumerate(rows):
        for name in fields:
            array[name][0, i] = row.get(name, np.zeros((0, 0)))
    return array
