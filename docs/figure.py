"""Draw the README's picture: ``python docs/figure.py``, painted people and what is found on them.

The network is ``network=large``, which was trained on photographs alone and is shown whole frames,
as ``convpose predict`` does. Those are shown whose worst keypoint is nearest to its place.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from convpose import PosePredictor
from convpose.data.synthetic import SyntheticSource
from convpose.geometry import Image
from convpose.plot.skeletons import draw_pose, grid

PEOPLE, SEED, PAINTED_PX = 100, 2, 512
SHOWN, COLUMNS, SIDE_PX = 8, 4, 380


def best(people: int, shown: int) -> list[Image]:
    """Draw the people whose worst keypoint is nearest to its place, compared with their size."""
    predictor = PosePredictor("large")
    skeleton = predictor.skeleton
    source = SyntheticSource(people, PAINTED_PX, SEED)
    drawn: list[tuple[float, Image]] = []
    for i, truth in enumerate(source.annotations):
        image, _ = source.read_image(i)
        (person,) = predictor(image)
        error_px = np.linalg.norm(person.keypoints_px - truth.keypoints_px, axis=-1).max()
        worst = float(error_px / np.ptp(truth.keypoints_px, axis=0).max())
        drawn.append((worst, draw_pose(image, person.keypoints_px, skeleton)))
    return [image for _, image in sorted(drawn, key=lambda item: item[0])[:shown]]


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE, help="painted, to choose from")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("people.png"))
    given = parser.parse_args()
    tiles = [PillowImage.fromarray(tile) for tile in best(given.people, SHOWN)]
    sheet = grid([np.asarray(tile.resize((SIDE_PX, SIDE_PX))) for tile in tiles], COLUMNS)
    picture = PillowImage.fromarray(sheet)
    picture = picture.quantize(256, dither=PillowImage.Dither.FLOYDSTEINBERG)
    picture.save(given.output, optimize=True)


if __name__ == "__main__":
    main()
