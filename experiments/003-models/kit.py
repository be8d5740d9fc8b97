"""Carry the people of training and validation to a GPU machine that has no network.

``python experiments/003-models/kit.py COMMAND ARGUMENT…``::

    pack KIT              with CONVPOSE_DATA: people.npz, and their photographs as 0.zip and 1.zip
    unpack KIT CANVASES   there: canvases of the photographs that have come, for gpu.py

A person of LSP or LSPET is about 150 px across. What is further from one than 0.9 of its size is
stored as a frame of 340 px shows it. The test parts stay at home.
"""

import io
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from convpose.data.crop import whole_frame
from convpose.geometry import Affine, compose, warp

if TYPE_CHECKING:
    from convpose.data.datamodule import PoseDataModule

FRAME_PX, QUALITY, FIRST = 340, 74, 0.44  # of the people are in 0.zip, which travels with weights
NEAR, FRAME, REACH = 448, 384, 2.0  # px of the canvases; side of the near one in crops
People = dict[str, np.ndarray]


def smaller(pixels: np.ndarray, keypoints_px: np.ndarray) -> bytes:
    """Encode a photograph as WebP, sharp around the person."""
    image = Image.fromarray(pixels)
    if max(image.size) > FRAME_PX:
        low, high = np.nanmin(keypoints_px, axis=0), np.nanmax(keypoints_px, axis=0)
        centre, reach = (low + high) / 2, 0.9 * max(high - low)
        share = FRAME_PX / max(image.size)
        seen = image.resize([max(1, round(side * share)) for side in image.size])
        near = Image.new("L", image.size)
        near.paste(255, [*map(int, np.maximum(centre - reach, 0)), *map(int, centre + reach)])
        near = near.filter(ImageFilter.GaussianBlur(4))
        image = Image.composite(image, seen.resize(image.size), near)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=4)
    return out.getvalue()


def configured() -> "PoseDataModule":
    """Open the data of ``experiment=large``."""
    # not on the GPU machine, which has no Albumentations
    from hydra import compose as composed
    from hydra import initialize_config_dir

    from convpose.data.build import build_datamodule
    from convpose.files import conf_folder

    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return build_datamodule(composed("train", ["experiment=large", "data.num_workers=0"]))


def pack(kit: Path, data: "PoseDataModule") -> None:
    """Write people and photographs."""
    data.setup()
    kit.mkdir(parents=True, exist_ok=True)
    sets = [data.datasets["val"], data.datasets["train"]]
    source = sets[0].source
    indices = [i for subset in sets for i in subset.indices]
    people = [source.annotations[i] for i in indices]
    np.savez_compressed(
        kit / "people.npz",
        ids=[a.image_id for a in people],
        dataset=[a.dataset for a in people],
        train=np.arange(len(people)) >= len(sets[0]),
        size_px=[(a.width_px, a.height_px) for a in people],
        keypoints_px=[a.keypoints_px for a in people],
        visibility=[a.visibility for a in people],
        box_px=[a.extent_px for a in people],
        unit_to_px=[data.crop.unit_to_px(a) for a in people],
    )
    cut = (0, round(FIRST * len(people)), len(people))
    for part in range(2):
        with ProcessPoolExecutor() as pool, zipfile.ZipFile(kit / f"{part}.zip", "w") as out:
            for start in range(cut[part], cut[part + 1], 200):
                rows = range(start, min(start + 200, cut[part + 1]))
                images = [source.read_image(indices[i])[0] for i in rows]
                points = [people[i].keypoints_px for i in rows]
                for i, made in zip(rows, pool.map(smaller, images, points), strict=True):
                    out.writestr(f"{i}.webp", made)


def read(folder: Path) -> People:
    """Read people.npz."""
    with np.load(folder / "people.npz") as file:
        return {name: file[name] for name in file.files}


def regions(people: People, i: int) -> tuple[Affine, Affine]:
    """Compute the affines from the unit square of both canvases to pixels: near, and the frame."""
    widen = np.array([[REACH, 0, (1 - REACH) / 2], [0, REACH, (1 - REACH) / 2]])
    frame = whole_frame("letterbox", *map(int, people["size_px"][i]))
    return compose(people["unit_to_px"][i], widen), frame


def open_canvases(target: Path, mode: Any = "r") -> list[np.ndarray]:
    """Map the canvases (N, 3, S, S) into memory: near and frame."""
    return [np.load(target / f"{name}.npy", mmap_mode=mode) for name in ("near", "frame")]


def draw(rows: list[int], part: Path, target: Path) -> list[int]:
    """Draw the canvases of some people."""
    people, canvases = read(target), open_canvases(target, "r+")
    with zipfile.ZipFile(part) as archive:
        for i in rows:
            photograph = Image.open(io.BytesIO(archive.read(f"{i}.webp"))).convert("RGB")
            for values, region in zip(canvases, regions(people, i), strict=True):
                drawn = warp(np.asarray(photograph), region, values.shape[-1])
                values[i] = drawn.transpose(2, 0, 1)
    return rows


def unpack(kit: Path, target: Path) -> None:
    """Draw the canvases of all photographs that are here and have none yet."""
    target.mkdir(parents=True, exist_ok=True)
    count, here = len(read(kit)["ids"]), target / "here.txt"
    if not here.exists():
        (target / "people.npz").write_bytes((kit / "people.npz").read_bytes())
        for name, side in (("near", NEAR), ("frame", FRAME)):
            shape = (count, 3, side, side)
            np.lib.format.open_memmap(target / f"{name}.npy", "w+", np.uint8, shape)
    done = set(np.loadtxt(here, int, ndmin=1)) if here.exists() else set()
    for part in sorted(kit.glob("?.zip")):
        rows = sorted({int(Path(n).stem) for n in zipfile.ZipFile(part).namelist()} - done)
        some = [rows[k : k + 100] for k in range(0, len(rows), 100)]
        with ProcessPoolExecutor() as pool:
            done.update(*pool.map(partial(draw, part=part, target=target), some))
    np.savetxt(here, sorted(done), "%d")
    print(f"{len(done)} of {count} people drawn", flush=True)


if __name__ == "__main__":
    command, *folders = sys.argv[1:]
    if command == "pack":
        pack(Path(folders[0]), configured())
    else:
        unpack(Path(folders[0]), Path(folders[1]))
