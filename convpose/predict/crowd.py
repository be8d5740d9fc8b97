"""Notice that a frame that was taken for one person holds several."""

import numpy as np

from convpose.predict.images import Picture
from convpose.predict.predictor import Person, PosePredictor

# Chosen on LSP's validation photographs: of 200 none was taken for several people, of 100 pairs of
# them side by side 88 were. A person who is one of several gets a mean score below `UNSURE` where
# the skeleton is stretched over both.
SURE = 0.65
UNSURE = 0.85
WITHIN = 0.7  # share of the keypoints that lie in the part of the frame that was looked at
NARROWEST = 0.2  # width of a part that is looked at, over the height of the frame


def holds_several(predictor: PosePredictor, picture: Picture, person: Person) -> bool:
    """Cut a frame beside the person, or through one that is unsure; tell if both parts hold one.

    Args:
        predictor: looks at the parts, at most six.
        picture: the frame.
        person: that was found in it.
    """
    width, height = picture.size_px
    left, _, right, _ = person.extent_px.tolist()
    cuts = [left, right] + [(left + right) / 2] * bool(person.scores.mean() < UNSURE)
    cuts = [cut for cut in cuts if min(cut, width - cut) >= NARROWEST * height]
    if not cuts:
        return False
    parts = np.array([part for cut in cuts for part in ((0, cut), (cut, width))])
    boxes = np.insert(parts, 1, 0, axis=1)
    boxes = np.insert(boxes, 3, height, axis=1) - 0.5
    (found,) = predictor.predict_pictures([picture], [boxes])
    one = [_is_within(other, box) for other, box in zip(found, boxes, strict=True)]
    return any(a and b for a, b in zip(one[::2], one[1::2], strict=True))


def _is_within(person: Person, box_px: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    x = person.keypoints_px[:, 0]
    inside = (x >= box_px[0] - 2) & (x <= box_px[2] + 2)
    return bool(person.scores.mean() >= SURE and inside.mean() >= WITHIN)
