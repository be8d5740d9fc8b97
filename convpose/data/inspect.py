"""Look at a data set: counts, sizes and problems of its labels; a contact sheet of its samples."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from convpose.data.annotation import Annotation, PoseSample, PoseSource, listed
from convpose.data.dataset import PoseLandmarksDataset
from convpose.errors import DataError
from convpose.geometry import Image
from convpose.metrics.functional import Reference, reference_size
from convpose.metrics.pose_metrics import DEGENERATE_TORSO_PX
from convpose.plot.skeletons import draw_pose, draw_truth_and_prediction, enlarge, grid
from convpose.plot.tables import Table
from convpose.skeleton import Skeleton


@dataclass(frozen=True)
class PixelRange:
    """Smallest, median and largest value, in pixels."""

    smallest: float
    median: float
    largest: float

    def __str__(self) -> str:
        return f"{self.smallest:.0f} / {self.median:.0f} / {self.largest:.0f}"


@dataclass(frozen=True)
class Inspection:
    """Findings of `inspect_source`.

    Attributes:
        people: number of annotations, by data set.
        images: number of images, by data set; some show several people.
        keypoints: the K keypoint names.
        visible, occluded, missing: number of keypoints of each kind, (K,).
        complete: images with all K keypoints labelled.
        fewest: smallest number of labelled keypoints of a person.
        width_px, height_px: of the images.
        box_px: longest side of the boxes around the labelled keypoints.
        torso_px: torso lengths, of the images that have both ends labelled; None if no image has.
        without_torso: images without a labelled torso, of either diagonal.
        outside: ``image_id keypoint`` of labelled keypoints beyond the edge of their image, which
            spans −0.5 … W−0.5.
        degenerate: ids of images with a torso below 5 px.
        repeated: ids that occur more than once.
        undecodable: one message for each image that cannot be decoded; None if none was tried.
        notes: sentences of the reader about what it mapped, masked and left out.
        doubts: its sentences about labels that are hardly meant (`convpose.data.annotation`).
        reference: what PCK divides by, in a word; ``torso_px`` and the like are of it.
    """

    people: dict[str, int]
    images: dict[str, int]
    keypoints: tuple[str, ...]
    visible: NDArray[np.int64]
    occluded: NDArray[np.int64]
    missing: NDArray[np.int64]
    complete: int
    fewest: int
    width_px: PixelRange
    height_px: PixelRange
    box_px: PixelRange
    torso_px: PixelRange | None
    without_torso: int
    outside: tuple[str, ...]
    degenerate: tuple[str, ...]
    repeated: tuple[str, ...]
    undecodable: tuple[str, ...] | None
    notes: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    reference: str = "torso"

    @property
    def problems(self) -> list[str]:
        """List the problems, one line a kind, worst first; empty if there are none."""
        kinds = (
            ("images that cannot be decoded", self.undecodable or ()),
            ("image ids that occur more than once", self.repeated),
            ("labelled keypoints outside their image", self.outside),
            (f"{self.reference}s shorter than {DEGENERATE_TORSO_PX:g} px", self.degenerate),
        )
        return [listed(kind, found) for kind, found in kinds if found] + list(self.doubts)


def inspect_source(source: PoseSource, skeleton: Skeleton, decode: bool = False) -> Inspection:
    """Count and measure all annotations of a source, and decode all of its images if asked.

    Args:
        source: annotations with the K keypoints of `skeleton`, and their images.
        skeleton: names the keypoints and the torso.
        decode: also read every image.

    Raises:
        DataError: no keypoint is labelled at all.
    """
    annotations = source.annotations
    if not any(a.labelled.any() for a in annotations):
        raise DataError(
            f"the data set has {len(annotations)} annotations and no labelled keypoint; choose "
            "another one with data= or data.source="
        )
    visibility = np.stack([a.visibility for a in annotations])
    points_px = np.stack([a.keypoints_px for a in annotations]).astype(np.float64)
    size_px = np.array([(a.width_px, a.height_px) for a in annotations])
    labelled = visibility > 0
    boxes = torch.tensor(np.stack([a.extent_px for a in annotations]))
    truth = torch.tensor(points_px), torch.tensor(visibility)
    sizes, kinds = reference_size(*truth, skeleton, boxes)
    torso_px = np.where(kinds == Reference.MAIN, sizes, np.nan)
    beyond = (points_px < -0.5) | (points_px > size_px[:, None] - 0.5)  # False where NaN
    posed_px = points_px[labelled.any(axis=1)]
    sides_px = np.nanmax(posed_px, axis=1) - np.nanmin(posed_px, axis=1)
    ids = [a.image_id for a in annotations]
    photos = {(a.dataset, a.file or i) for i, a in enumerate(annotations)}
    return Inspection(
        people=dict(Counter(a.dataset for a in annotations)),
        images=dict(Counter(dataset for dataset, _ in photos)),
        keypoints=skeleton.keypoints,
        visible=np.count_nonzero(visibility == 2, axis=0),
        occluded=np.count_nonzero(visibility == 1, axis=0),
        missing=np.count_nonzero(visibility == 0, axis=0),
        complete=int(labelled.all(axis=1).sum()),
        fewest=int(labelled.sum(axis=1).min()),
        width_px=_pixel_range(size_px[:, 0]),
        height_px=_pixel_range(size_px[:, 1]),
        box_px=_pixel_range(sides_px.max(axis=1)),
        torso_px=None if np.isnan(torso_px).all() else _pixel_range(torso_px),
        without_torso=int((kinds == Reference.NONE).sum()),
        reference=skeleton.reference.replace("_", " "),
        outside=tuple(
            f"{ids[i]} {skeleton.keypoints[k]}" for i, k in np.argwhere(beyond.any(axis=-1))
        ),
        degenerate=tuple(ids[i] for i in np.flatnonzero(torso_px < DEGENERATE_TORSO_PX)),
        repeated=tuple(image_id for image_id, count in Counter(ids).items() if count > 1),
        undecodable=_undecodable(source, annotations) if decode else None,
        notes=tuple(getattr(source, "notes", ())),
        doubts=tuple(getattr(source, "doubts", ())),
    )


def render(inspection: Inspection) -> RenderableType:
    """Make tables for a terminal: the data set as a whole, each keypoint, and the problems."""
    i = inspection
    total = sum(i.people.values())
    decoded = (
        "not looked at" if i.undecodable is None else f"{total - len(i.undecodable):,} of {total:,}"
    )
    rows: list[Sequence[str]] = []
    for name, count in i.people.items():
        rows.append((f"images of {name}", f"{i.images[name]:,}"))
        rows += [(f"people of {name}", f"{count:,}")] * (count > i.images[name])
    rows += [
        ("complete annotations", f"{i.complete:,} ({i.complete / total:.1%})"),
        ("fewest labelled keypoints", str(i.fewest)),
        ("image width, px (min / median / max)", str(i.width_px)),
        ("image height, px", str(i.height_px)),
        ("longest side of the box, px", str(i.box_px)),
        (f"{i.reference}, px", str(i.torso_px or "none labelled")),
        (f"images without a {i.reference}", f"{i.without_torso:,}"),
        ("images decoded", "all" if i.undecodable == () else decoded),
    ]
    whole = Table("data set", ("", "value"), rows)
    counts = np.stack([i.visible, i.occluded, i.missing], axis=1)
    names = (*i.keypoints, "all")
    counted = np.concatenate([counts, counts.sum(axis=0, keepdims=True)]).tolist()
    shares = [(name, *_shares(*row)) for name, row in zip(names, counted, strict=True)]
    joints = Table("keypoints", ("keypoint", "labelled", "visible", "occluded", "missing"), shares)
    said = Text("\n".join([*i.notes, *(i.problems or ["no problems"])]))
    return Group(whole.to_rich(), joints.to_rich(), said)


def gallery(
    dataset: PoseLandmarksDataset,
    positions: Sequence[int],
    skeleton: Skeleton,
    predicted: Sequence[torch.Tensor] | None = None,
    notes: Sequence[str] | None = None,
    columns: int = 5,
    letters: float = 0.052,
) -> Image:
    """Draw samples with their ground truth, and predictions if given, as one contact sheet.

    Args:
        dataset: the samples.
        positions: of the samples to draw.
        skeleton: of the keypoints.
        predicted: (K, 2) unit coordinates for each position; None draws the ground truth alone.
        notes: a text for each position that goes before its id in the caption.
        columns: tiles a row.
        letters: height of the captions as a fraction of a tile's width.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    poses = [None] * len(positions) if predicted is None else predicted
    tiles = [
        tile(dataset[position], skeleton, pose)
        for position, pose in zip(positions, poses, strict=True)
    ]
    ids = [dataset.image_ids[position] for position in positions]
    titles = ids if notes is None else [f"{n}  {i}" for i, n in zip(ids, notes, strict=True)]
    return grid(tiles, columns, titles, letters)


def tile(
    sample: PoseSample,
    skeleton: Skeleton,
    predicted: torch.Tensor | None = None,
    side_px: int = 256,
) -> Image:
    """Draw a sample's crop with its ground truth, and a prediction (K, 2) in unit coordinates."""
    crop = np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy())
    image, truth_px = enlarge(crop, in_crop_px(sample["keypoints"], crop), side_px)
    visibility = sample["visibility"].numpy()
    if predicted is None:
        return draw_pose(image, truth_px, skeleton, visibility)
    _, predicted_px = enlarge(crop, in_crop_px(predicted, crop), side_px)
    return draw_truth_and_prediction(image, predicted_px, truth_px, skeleton, visibility)


def in_crop_px(keypoints: torch.Tensor, crop: Image) -> NDArray[np.float64]:
    """Convert unit coordinates (K, 2) to pixels of the crop image; NaN stays NaN."""
    height, width = crop.shape[:2]
    scaled: NDArray[np.float64] = keypoints.double().numpy() * [width, height] - 0.5
    return scaled


def _shares(visible: int, occluded: int, missing: int) -> list[str]:
    total = visible + occluded + missing
    counts = (visible + occluded, occluded, missing)
    labelled, *others = [f"{count:,} ({count / total:.1%})" for count in counts]
    return [labelled, f"{visible:,}", *others]


def _undecodable(source: PoseSource, annotations: Sequence[Annotation]) -> tuple[str, ...]:
    messages = []
    for index, annotation in enumerate(annotations):
        try:
            source.read_image(index)
        except DataError as error:
            messages.append(f"{annotation.image_id} ({error})")
    return tuple(messages)


def _pixel_range(values: NDArray[np.generic]) -> PixelRange:
    return PixelRange(*np.nanquantile(values.astype(np.float64), (0, 0.5, 1)).tolist())
