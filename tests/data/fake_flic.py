"""A fake of FLIC's ``examples.mat``, in its layout."""

import numpy as np
from fake_people import HEIGHT_PX, WIDTH_PX, body_px, mat, photo, structs

from convpose.data.flic import COLUMNS
from convpose.skeleton import FLIC11

FIELDS = ("poselet_hit_idx", "moviename", "coords", "filepath", "imgdims", "currframe", "torsobox")
FLAGS = ("istrain", "istest")
FULL = ("isbad", "isunchecked")  # of FLIC-full


def example(name, points_px, train, **others):
    """One example with 1-based coordinates, NaN in the 18 columns that nobody annotated."""
    coords = np.full((2, 29), np.nan)
    coords[:, list(COLUMNS)] = points_px.T + 1
    return {
        "poselet_hit_idx": np.array([[3, 17]], dtype=np.uint16),
        "moviename": name.rpartition("-")[0],
        "coords": coords,
        "filepath": name,
        "imgdims": np.array([[HEIGHT_PX, WIDTH_PX, 3]], dtype=float),
        "currframe": 3571.0,
        "torsobox": np.array([[20.0, 10.0, 40.0, 30.0]]),
        "istrain": int(train),
        "istest": int(not train),
        **others,
    }


def examples(rows, full=False):
    """The bytes of ``examples.mat``."""
    fields = (*FIELDS, *FLAGS, *FULL) if full else (*FIELDS, *FLAGS)
    return mat(examples=structs(rows, *fields))


def flic_rows(train=24, test=6, seed=0):
    """Frames with one or two people, every fifth without a wrist."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(1, train + test + 1):
        for _ in range(1 + number % 2):
            points = body_px(FLIC11.keypoints, rng)
            if number % 5 == 0:
                points[FLIC11.index("left_wrist")] = np.nan
            rows.append(example(f"some-film-{number:08d}.jpg", points, number <= train))
    return rows


def fake_flic(train=24, test=6):
    """Contents by name."""
    rng = np.random.default_rng(1)
    rows = flic_rows(train, test)
    names = sorted({row["filepath"] for row in rows})
    return {"examples.mat": examples(rows)} | {f"images/{name}": photo(rng) for name in names}
