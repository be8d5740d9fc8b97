"""Score people as COCO does: average precision and recall over object keypoint similarity (OKS).

pycocotools computes them. It is the code behind the published numbers, and needs NumPy alone.
faster-coco-eval is a faster copy of it; but val2017 takes seconds here, and minutes to predict.

The score of a person is that of the box (1 for the ground truth's own) times the mean score of the
keypoints; `convpose.evaluate.coco_truth` says what the ground truth is.

Source: cocodataset.org, "Keypoint Evaluation".
"""

import contextlib
import copy
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convpose import files
from convpose.bounded import MAX_BYTES, UNEXPECTED, load_json
from convpose.data.annotation import AnnotatedPerson
from convpose.data.coco import CocoSource, as_text, size_of
from convpose.data.crop import Crop
from convpose.data.datamodule import PoseDataModule
from convpose.data.reading import PhotoNames, subset_of
from convpose.data.reading.images import place_in_frames
from convpose.errors import ConfigError, DataError
from convpose.evaluate.coco_truth import CocoTruth, read_truth
from convpose.evaluate.predictions import Predictions
from convpose.evaluate.request import EXPECTED
from convpose.evaluate.scoring import Network, make_loader, predict

log = logging.getLogger(__name__)
STATS = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
RESULTS = "coco_results.json"


def score_coco(
    datamodule: PoseDataModule,
    subset: str,
    predictions: Predictions,
    folder: Path,
    boxes: str | None = None,
    network: Network | None = None,
) -> dict[str, Any]:
    """Score a subset of a COCO file, and write ``coco_results.json``, which COCO's server takes.

    Args:
        datamodule: of one COCO file; for other data nothing is scored.
        subset: ``train``, ``val`` or ``test``.
        predictions: of the subset, in the people's own boxes.
        folder: for the results.
        boxes: file of the people that a detector found; the network looks at these instead.
        network: see `predict`; only for `boxes`.

    Returns:
        `STATS`, ``boxes``, ``joints``, ``num_images`` and ``num_people``; empty for other data.

    Raises:
        ConfigError: `boxes` for other data, for a file of predictions or with a crop cache.
        DataError: `boxes` is no such file.
    """
    truth = _truth(datamodule, subset, boxes)
    if truth is None:
        return {}
    if boxes is None:
        known = [i for i, who in enumerate(predictions.image_id.tolist()) if who in truth.people]
        scores = None if predictions.scores is None else predictions.scores[known]
        ids = predictions.image_id[known]
        found = Predictions(ids, predictions.keypoints_px[known], scores)
        results = truth.results([truth.people[who] for who in ids.tolist()], found)
        if (lost := truth.num_people - len(known)) > 0:
            log.warning(
                "AP: %d of %d people of %s are left out of the data, and count as not found; "
                "data.sources.%s.min_joints=1 reads them",
                *(lost, truth.num_people, Path(truth.file).name, next(iter(datamodule.sources))),
            )
    else:
        results = _results_in_boxes(truth, datamodule, subset, Path(boxes), network)
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / RESULTS, json.dumps(results))
    known_joints = sum(row >= 0 for row in truth.rows)
    return {
        **average_precision(truth.content, results, truth.sigmas),
        "boxes": "ground truth" if boxes is None else Path(boxes).name,
        "joints": f"{known_joints} of {len(truth.rows)}",
        "num_images": len(truth.content["images"]),
        "num_people": truth.num_people,
    }


def average_precision(
    content: Mapping[str, Any], results: Sequence[Mapping[str, Any]], sigmas: Sequence[float]
) -> dict[str, float]:
    """Compute `STATS`, fractions in [0, 1]; NaN where nobody is of that size.

    Args:
        content: a COCO file.
        results: people as COCO's server takes them, at least one.
        sigmas: (J,) of OKS.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a table of its own
        truth = COCO()
        truth.dataset = copy.deepcopy(dict(content))  # it adds to what it is given
        truth.createIndex()
        scored = COCOeval(truth, truth.loadRes(list(map(dict, results))), "keypoints")
        scored.params.kpt_oks_sigmas = np.array(sigmas)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    values = map(float, scored.stats)
    return {k: v if v >= 0 else float("nan") for k, v in zip(STATS, values, strict=True)}


def _truth(datamodule: PoseDataModule, subset: str, boxes: str | None) -> CocoTruth | None:
    """Read the ground truth of a subset; None for data that are no COCO file."""
    opener: Any = next(iter(datamodule.sources.values()))
    reader: Any = getattr(opener, "func", object)
    if not issubclass(reader, CocoSource) or len(datamodule.sources) > 1:
        if boxes is not None:
            raise ConfigError(f"boxes={boxes}: people in boxes are scored with data=coco alone")
        return None
    dataset = datamodule.datasets[subset]
    everybody = dataset.source.annotations
    own = {everybody[i].image_id: everybody[i].subset for i in dataset.indices}
    try:
        found, _ = reader.find_files(opener.keywords)
    except (DataError, OSError) as error:
        if datamodule.cache is None:
            raise
        log.warning("no AP: the crop cache has no annotation file, and %s", error)
        return None
    named = {f: c for f, c in found.items() if len(found) == 1 or subset_of(f) in own.values()}
    if len(named) != 1:
        log.warning("no AP: the subset is in %d files; name one with data.source=", len(named))
        return None
    file, content = next(iter(named.items()))
    others = {a.image_id for a in everybody} - own.keys()
    return read_truth(file, content, opener.keywords, datamodule.skeleton, set(own), others)


def _results_in_boxes(
    truth: CocoTruth, datamodule: PoseDataModule, subset: str, path: Path, network: Network | None
) -> list[dict[str, Any]]:
    """Predict the people whom a detector found in the photographs of a subset."""
    source = datamodule.datasets[subset].source
    if network is None:
        raise ConfigError(f"boxes={path}: a file of predictions has no network; type run=FOLDER")
    if not isinstance(source, CocoSource):
        raise ConfigError(f"boxes={path}: a crop cache has no other crops; type data.cache=null")
    category = as_text(truth.content["categories"][0]["id"])
    images = {as_text(image["id"]): image for image in truth.content["images"]}
    file_subset = subset_of(truth.file)
    names = PhotoNames(source.photos.names())
    photo_of = names.find_all((image["file_name"], file_subset) for image in images.values())
    nowhere = np.full((len(source.target.keypoints), 2), np.nan)
    people, photos, scores = [], [], []
    try:
        for number, record in enumerate(load_json(path, most=MAX_BYTES)):
            image = images.get(as_text(record["image_id"]))
            if image is None or as_text(record.get("category_id", category)) != category:
                continue
            file = photo_of[image["file_name"], file_subset]
            left, top, width, height = map(float, record["bbox"])
            if file is not None and width > 0 and height > 0:
                box = np.array([left, top, left + width, top + height]) - 0.5
                size, upright = size_of(image), image.get("convpose_upright")
                unlabelled = nowhere, np.zeros(len(nowhere), np.uint8)
                who = str(number)
                people.append(AnnotatedPerson(who, file, *unlabelled, box, None, size, upright))
                photos.append(image["id"])
                scores.append(float(record.get("score", 1.0)))
    except UNEXPECTED as error:
        raise DataError(f"boxes={path}: {type(error).__name__}: {error}; {EXPECTED}") from error
    if not people:
        raise DataError(f"boxes={path}: nobody in the {len(images)} images of the subset")
    placed, _ = place_in_frames(source.name, source.photos, people, source.upright)
    detected = copy.copy(source)
    detected.annotations = [source.annotate(person) for person in placed]
    crop = Crop("box", datamodule.crop.box_scale)
    loader = make_loader(datamodule, detected, range(len(placed)), crop)
    return truth.results(photos, predict(network, loader, "predicting in boxes"), scores)
