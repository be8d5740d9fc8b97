"""Named splits into the subsets train, val and test, as lists of ids that a run folder keeps.

- ``paper``: ``order = numpy.random.default_rng(0).permutation(N)``; the first 70 % train, the next
  15 % validate, the last 15 % test (7,000 / 1,500 / 1,500 of LSPET's 10,000).
- ``lsp``: LSPET and LSP 1–1000 train, but for 200 images of LSP 1–1000 that validate (fixed by
  ``default_rng(0)``); LSP 1001–2000 test, as everybody reports.
- ``lsp_paper``: LSP split as by ``lsp`` and LSPET as by ``paper``, for one network that is scored
  on both tests.
- ``seeded``: the same as ``paper``, for other data. It shuffles photographs: all people of one are
  in the same subset. HR-LSPET's images are in the subset of LSPET's of the same number, so that a
  network of the one may be tested on the other.
- ``grouped``: the same, but whole videos are drawn where file names tell at least six videos:
  ``dance_0001.jpg``, or a folder of frames. Names of cameras (``IMG_0001.jpg``) tell none.
- ``official``: the subsets that the makers of a data set name. If they name two (COCO, FLIC, MPII's
  JSON files), the second is the test, and a tenth of the training photographs, drawn by
  ``default_rng(0)``, validates. A data set that names only a training subset just trains, data
  that name none are split as by ``seeded``.
- ``whole``: everybody is in every subset, to score a network on data that it has never seen.
- a path: a JSON file ``{"train": [ids], "val": [ids], "test": [ids]}`` such as a run's
  ``splits.json``.

A training image that is a near-duplicate of a validation or test image leaves the training subset.
"""

import re
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath

import numpy as np

from convpose.bounded import MAX_BYTES, load_json
from convpose.data.annotation import Annotation
from convpose.errors import ConfigError, DataError

SUBSETS = ("train", "val", "test")
FEWEST_VIDEOS = 6  # fewer can hardly be split, and are rather the names of cameras
_FRAME = re.compile(r"[-_ .]*(?:frame|img|image|f)?[-_ .]*\d+$", re.IGNORECASE)
Split = dict[str, list[str]]


def make_split(name: str, annotations: Sequence[Annotation]) -> Split:
    """Split annotations into the ids of the three subsets.

    Args:
        name: one of the above, or the path of a JSON file.
        annotations: all annotations of the source, in its order.

    Raises:
        ConfigError: unknown name, or a subset that would be empty.
        DataError: a file that is no split of these annotations.
    """
    if name.endswith(".json"):
        split = _from_file(Path(name), {a.image_id for a in annotations})
    elif name in NAMED:
        split = NAMED[name](annotations)
    else:
        *others, last = (f"data.split={known}" for known in NAMED)
        raise ConfigError(
            f"data.split={name}: unknown split; type {', '.join(others)}, {last} or the path of a "
            "splits.json"
        )
    if name == "whole":
        return split
    split["train"] = without_duplicates(split)
    empty = [subset for subset in SUBSETS if not split[subset]]
    if empty:
        datasets = ", ".join(sorted({a.dataset for a in annotations})) or "no data set"
        raise ConfigError(
            f"data.split={name}: the {' and '.join(empty)} subset is empty for {len(annotations)} "
            f"images of {datasets}; the split lsp needs LSP (data=lsp or data=lsp_lspet), the "
            "splits paper and seeded at least 6 images, the split official a data set whose makers "
            "name two subsets; type data.split=seeded, or data.split=whole to evaluate on everybody"
        )
    return split


def without_duplicates(split: Split) -> list[str]:
    """Return the training ids without near-duplicates of validation and test images."""
    held_out = {*split["val"], *split["test"]}
    leaving = {a for pair in duplicate_pairs() for a, b in (pair, pair[::-1]) if b in held_out}
    return [image_id for image_id in split["train"] if image_id not in leaving]


def duplicate_pairs() -> list[tuple[str, str]]:
    """Read the near-duplicates in LSP and LSPET; ``duplicates.tsv`` says how they were found."""
    text = resources.files("convpose.data").joinpath("duplicates.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return [(row[0], row[1]) for row in rows[1:]]


def _seeded(annotations: Sequence[Annotation]) -> Split:
    photos = _photos(annotations)
    names = list(photos)
    if annotations and all(a.dataset == "hr_lspet" for a in annotations):
        names = [f"im{number:05d}" for number in range(1, 10_001)]
    return _shares(photos, names)


def _shares(groups: dict[str, list[str]], names: Sequence[str]) -> Split:
    """Draw 70, 15 and 15 % of the names; return the ids of their groups."""
    order = np.random.default_rng(0).permutation(len(names))
    ends = [round(0.7 * len(names)), round(0.85 * len(names))]
    drawn = zip(SUBSETS, np.split(order, ends), strict=True)
    return {
        subset: [i for n in numbers for i in groups.get(names[n], ())] for subset, numbers in drawn
    }


def _grouped(annotations: Sequence[Annotation]) -> Split:
    photos = _photos(annotations)
    groups: dict[str, list[str]] = {}
    for name in photos:
        groups.setdefault(_FRAME.sub("", str(PurePosixPath(name).with_suffix(""))), []).append(name)
    videos = sum(len(group) > 1 for group in groups.values())
    if videos < max(FEWEST_VIDEOS, len(groups) / 2):
        return _seeded(annotations)
    people = {video: [i for name in group for i in photos[name]] for video, group in groups.items()}
    return _shares(people, list(people))


def _official(annotations: Sequence[Annotation]) -> Split:
    if not any(a.subset for a in annotations):
        return _seeded(annotations)
    split: Split = {subset: [] for subset in SUBSETS}
    held_out = {(a.dataset, a.subset) for a in annotations if a.subset in ("val", "test")}
    for a in annotations:
        both = {(a.dataset, "val"), (a.dataset, "test")} <= held_out
        subset = "test" if a.subset == "val" and not both else a.subset
        if subset is not None:
            split[subset].append(a.image_id)
    if not split["val"]:
        train = set(split["train"])
        photos = list(_photos([a for a in annotations if a.image_id in train]).values())
        drawn = np.random.default_rng(0).permutation(len(photos))[: round(0.1 * len(photos))]
        split["val"] = [image_id for n in sorted(drawn) for image_id in photos[n]]
        validation = set(split["val"])
        split["train"] = [image_id for image_id in split["train"] if image_id not in validation]
    return split


def _whole(annotations: Sequence[Annotation]) -> Split:
    return {subset: [a.image_id for a in annotations] for subset in SUBSETS}


def _photos(annotations: Sequence[Annotation]) -> dict[str, list[str]]:
    """Group ids by photograph; those of LSP and LSPET show one person and have its id as name."""
    photos: dict[str, list[str]] = {}
    for a in annotations:
        alone = a.file is None or a.dataset in ("lsp", "lspet", "hr_lspet")
        photos.setdefault(a.image_id if alone else f"{a.dataset}/{a.file}", []).append(a.image_id)
    return photos


def _lsp(annotations: Sequence[Annotation]) -> Split:
    validation = {f"im{i + 1:04d}" for i in np.random.default_rng(0).permutation(1000)[:200]}
    split: Split = {subset: [] for subset in SUBSETS}
    for a in annotations:
        if a.dataset != "lsp":
            split["train"].append(a.image_id)
        elif int(a.image_id[2:]) > 1000:
            split["test"].append(a.image_id)
        else:
            split["val" if a.image_id in validation else "train"].append(a.image_id)
    return split


def _lsp_paper(annotations: Sequence[Annotation]) -> Split:
    lsp = _lsp([a for a in annotations if a.dataset == "lsp"])
    lspet = _seeded([a for a in annotations if a.dataset != "lsp"])
    return {subset: lsp[subset] + lspet[subset] for subset in SUBSETS}


def _from_file(path: Path, known: set[str]) -> Split:
    remedy = (
        'expected {"train": [ids], "val": [ids], "test": [ids]}; or type data=NAME data.split=…'
    )
    try:
        content = load_json(path, remedy, MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"data.split={path}: {error.strerror}; {remedy}") from None
    if not isinstance(content, dict) or not all(
        isinstance(content.get(subset), list) for subset in SUBSETS
    ):
        raise DataError(f"{path}: not a split; {remedy}")
    ids = [str(image_id) for subset in SUBSETS for image_id in content[subset]]
    unknown = sorted(set(ids) - known)
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} ids are not in the data, the first is {unknown[0]}; "
            "choose the data set that the split was made for with data="
        )
    if len(set(ids)) < len(ids):
        twice = next(image_id for image_id in ids if ids.count(image_id) > 1)
        raise DataError(f"{path}: {twice} is listed twice; each id belongs to one subset only")
    return {subset: [str(image_id) for image_id in content[subset]] for subset in SUBSETS}


NAMED: dict[str, Callable[[Sequence[Annotation]], Split]] = {
    "paper": _seeded,
    "lsp": _lsp,
    "lsp_paper": _lsp_paper,
    "seeded": _seeded,
    "grouped": _grouped,
    "official": _official,
    "whole": _whole,
}
