"""Compute keypoints from crops, in whatever engine.

A predictor knows no network. It cuts the crops that a `CropSpec` describes and hands them to a
`Runtime`: `TorchRuntime`, or an exported network in another engine, which needs no torch.
Here is also what all engines ask of an exported file.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from convpose.bounded import MAX_FACTS, parse_json
from convpose.config.instantiate import build_skeleton
from convpose.config.schema import Side, check_value
from convpose.data.crop import Scale, around_box, whole_frame
from convpose.errors import ConfigError, DataError, ModelError, require_extra
from convpose.geometry import Affine
from convpose.skeleton import LSP14, Skeleton, bundled

VERSION = 1  # of the facts
KEY = "convpose"  # under which a file's metadata holds the facts about it
INPUT, OUTPUTS = "crops", ("keypoints", "scores")
CROP_FACTS = {"input_size_px": Side, "box_scale": Scale, "frame": Literal["image", "letterbox"]}


@dataclass(frozen=True, slots=True)
class CropSpec:
    """Crops that a network was trained on, and the meaning of its keypoints.

    Attributes:
        input_size_px: side S of the square crops.
        frame: crop of a picture without a box: ``image`` or ``letterbox``.
        box_scale: side of the crop around a box over the box's longer side.
        skeleton: names the keypoints.
    """

    input_size_px: int
    frame: str
    box_scale: float
    skeleton: Skeleton

    @classmethod
    def from_config(cls, data: DictConfig) -> "CropSpec":
        """Read the ``data`` group of a training.

        A network that was trained on boxes only gets whole frames letterboxed: undistorted.
        """
        crop = data.crop
        modes = [crop] if isinstance(crop, str) else list(crop.values())
        whole = [mode for mode in modes if mode != "box"]
        frame = whole[0] if whole else "letterbox"
        skeleton = build_skeleton(data.get("skeleton", LSP14.name))
        return cls(int(data.input_size_px), frame, float(data.box_scale), skeleton)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "CropSpec":
        """Read what `to_dict` wrote into the metadata of a file.

        Raises:
            ModelError: a missing fact, or one that cannot be.
        """
        try:
            skeleton = _skeleton_of_facts(facts["skeleton"], facts["keypoints"])
            for key, hint in CROP_FACTS.items():
                check_value(key, facts[key], hint)
            size, scale = int(facts["input_size_px"]), float(facts["box_scale"])
            return cls(size, str(facts["frame"]), scale, skeleton)
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise ModelError(f"the description of the network is incomplete ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the metadata of a file."""
        return {
            "input_size_px": self.input_size_px,
            "frame": self.frame,
            "box_scale": self.box_scale,
            "skeleton": self.skeleton.to_dict(),
            "keypoints": list(self.skeleton.keypoints),
        }

    def unit_to_px(self, size_px: tuple[int, int], box_px: NDArray[np.float64] | None) -> Affine:
        """Place the crop in a picture of width and height: around a box, or the whole frame."""
        if box_px is None:
            return whole_frame(self.frame, *size_px)
        return around_box(box_px[:2], box_px[2:], self.box_scale)


def _skeleton_of_facts(given: Any, keypoints: Any) -> Skeleton:
    """Build the skeleton in a file's metadata; files of version 0.1 have its name alone."""
    mapping = isinstance(given, Mapping)
    known = build_skeleton(given, "skeleton") if mapping else bundled().get(given)
    if known is None or list(known.keypoints) != list(keypoints):
        raise ModelError(
            f"skeleton {known.name if known else given} with {len(keypoints)} keypoints is not "
            f"known here, only {', '.join(bundled())}; update convpose"
        )
    return known


class Runtime(Protocol):
    """Compute keypoints from crops.

    Attributes:
        spec: of the crops that it wants.
    """

    @property
    def spec(self) -> CropSpec:
        """Describe the crops that are wanted."""
        ...

    def __call__(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Turn (B, 3, S, S) uint8 RGB into unit keypoints (B, K, 2) and scores (B, K)."""
        ...


def check_file(path: Path) -> None:
    """Refuse an exported file that is not there."""
    if not path.is_file():
        raise ModelError(f"weights={path}: no such file; python -m convpose.export writes one")


def check_external_data(path: Path) -> None:
    """Refuse an ONNX file that names a file outside its folder as the place of its weights.

    Raises:
        ModelError: it does, or is no ONNX file.
        ConfigError: onnx, which reads the names, is not installed.
    """
    content = path.read_bytes()
    if b"location" not in content:  # the key that names a file; texts stand in the file as they are
        return
    require_extra("onnx", "onnx")
    onnx: Any = importlib.import_module("onnx")
    with reading(path, "ONNX"):
        graph = onnx.load_from_string(content)
    folder = path.parent.resolve()
    for location in _locations(graph):
        if not (folder / location).resolve().is_relative_to(folder):
            raise ModelError(
                f"weights={path}: wants to read {location}, outside its folder; use a file that "
                "convpose.export wrote"
            )


def _locations(message: Any) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in [value] if hasattr(value, "ListFields") else value:
            if field.name == "external_data" and part.key == "location":
                yield part.value
            else:
                yield from _locations(part)


def read_spec(path: Path, facts: str | None) -> CropSpec:
    """Read the `CropSpec` in the facts of a file.

    Raises:
        ModelError: no facts, or facts of another version.
    """
    try:
        content: dict[str, Any] = parse_json(str(path), facts or "", most=MAX_FACTS)
        version, spec = content["version"], content["spec"]
    except (DataError, LookupError, TypeError) as error:
        raise ModelError(
            f"weights={path}: does not say what crops it wants and what its keypoints are; use a "
            "file that convpose.export wrote"
        ) from error
    if version != VERSION:
        raise ModelError(
            f"weights={path}: format version {version}, this convpose reads {VERSION}; export the "
            "network again"
        )
    return CropSpec.from_dict(spec)


@contextmanager
def reading(path: str | Path, kind: str, key: str = "weights") -> Iterator[None]:
    """Raise ModelError where an engine cannot read a file; ``key`` is how the user named it."""
    try:
        yield
    except Exception as error:  # the engines' own types, which share no base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{key}={path}: not a readable {kind} file ({reason})") from error


def check_answer(runtime: Runtime, path: str | Path) -> Runtime:
    """Return the runtime of a file if it answers a black crop as its description says.

    Raises:
        ModelError: it wants crops of another size, or answers with other keypoints.
    """
    size, count = runtime.spec.input_size_px, len(runtime.spec.skeleton.keypoints)
    reason = ""
    try:
        keypoints, scores = runtime(np.zeros((1, 3, size, size), dtype=np.uint8))
        if keypoints.shape != (1, count, 2) or scores.shape != (1, count):
            reason = f"keypoints {keypoints.shape}, scores {scores.shape}"
    except Exception as error:  # the engines' own types, as in `reading`
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if reason:
        raise ModelError(
            f"weights={path}: not the network of {count} keypoints in crops of {size} px that it "
            f"says it is ({reason}); export it again"
        )
    return runtime
