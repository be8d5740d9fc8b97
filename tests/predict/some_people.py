"""People and frames for tests of what comes after the network."""

import numpy as np
from fake_network import K

from convpose.predict.images import Picture
from convpose.predict.people import Person
from convpose.predict.sources import Frame


def person(x=50.0, y=60.0, side=40.0, score=0.75, **facts):
    """Keypoints on the edge of a square around (x, y), and its box."""
    angle = np.linspace(0, 2 * np.pi, K, endpoint=False)
    points = np.stack([x + side / 2 * np.cos(angle), y + side / 2 * np.sin(angle)], axis=1)
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    scores = np.full(K, score, np.float32)
    return Person(points.astype(np.float32), scores, **({"box_px": box} | facts))


def frame(name="folder/photo 7.jpg", size=(160, 120), index=0, time_s=None, colour=90):
    image = np.full((size[1], size[0], 3), colour, np.uint8)
    return Frame(name, Picture.of(image), index, time_s)
