"""A source in memory, whose pictures say where the joints are."""

import numpy as np

from convpose.data.annotation import Annotation
from convpose.geometry import identity
from convpose.skeleton import LSP14

K = LSP14.num_keypoints
WIDTH_PX, HEIGHT_PX = 150, 120
RED, BLUE = LSP14.index("left_wrist"), LSP14.index("right_wrist")  # the colours of their dots


def annotation(
    keypoints_px,
    visibility=None,
    size_px=(WIDTH_PX, HEIGHT_PX),
    image_id="im00001",
    dataset="lspet",
):
    """An annotation, NaN where it is unlabelled."""
    points = np.array(keypoints_px, np.float32)
    visible = np.full(len(points), 2) if visibility is None else np.array(visibility)
    points[visible == 0] = np.nan
    return Annotation(image_id, dataset, *size_px, points, visible.astype(np.uint8))


class ArraySource:
    """Annotations with their pictures."""

    def __init__(self, annotations, images):
        self.annotations = annotations
        self.images = images

    def read_image(self, index):
        return self.images[index], identity()


def dotted_source(count=6, seed=0, dataset="lspet"):
    """People whose left wrist is a soft red dot and whose right wrist is a soft blue one.

    Of the other joints some are occluded and some unlabelled; black elsewhere.
    """
    rng = np.random.default_rng(seed)
    annotations, images = [], []
    for i in range(count):
        size = np.array([WIDTH_PX, HEIGHT_PX])
        points = rng.uniform(0.2, 0.8, (K, 2)) * size
        points[RED] = rng.uniform((0.25, 0.3), (0.4, 0.7)) * size
        points[BLUE] = rng.uniform((0.6, 0.3), (0.75, 0.7)) * size
        visibility = rng.integers(0, 3, K)
        visibility[[RED, BLUE]] = (2, 1)
        image_id = f"im{i + 1:05d}"
        annotations.append(annotation(points, visibility, image_id=image_id, dataset=dataset))
        image = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
        image[..., 0], image[..., 2] = dot(points[RED]), dot(points[BLUE])
        images.append(image)
    return ArraySource(annotations, images)


def dot(centre_px, sigma_px=2.5, brightness=240):
    """(H, W) uint8, a soft dot."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    squared = (x - centre_px[0]) ** 2 + (y - centre_px[1]) ** 2
    return np.rint(brightness * np.exp(-squared / (2 * sigma_px**2))).astype(np.uint8)


def dot_positions(image):
    """Centroids (2, 2) of the red and the blue dot of a sample's image (3, S, S), in its pixels.

    What is grey lies outside the picture and does not count.
    """
    pixels = image.numpy().astype(float)
    coloured = pixels.max(axis=0) - pixels.min(axis=0)
    y, x = np.mgrid[: pixels.shape[1], : pixels.shape[2]]
    found = []
    for channel in (0, 2):
        weight = np.where(pixels[channel] > pixels[2 - channel], coloured, 0.0)
        found.append(np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum())
    return np.stack(found)
