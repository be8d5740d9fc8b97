"""Carry the archives to a GPU machine that has no network, and ask gpu.sh's runs.

``python experiments/003-models/kit.py COMMAND ARGUMENT…``::

    pack FOLDER         the archives in CONVPOSE_DATA as WebP, 87 MB, with the joints
    unpack FOLDER DATA  there: folders of JPEG that convpose reads
    best RUN…           the run folder with the best validation
    pace RUN            seconds of its last epoch for each image
    slim RUN TARGET     its settings, numbers and best weights in half precision

A person of LSP or LSPET is about 150 px across. What is further from one than 0.8 of its size is
stored as a frame of 340 px shows it; so train on these, and evaluate on the archives.
"""

import csv
import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy.io import loadmat, savemat

FRAME_PX, QUALITY, PARTS = 340, 48, {"lspet": (0, 5100, 10000), "lsp": (0, 2000)}


def smaller(content: bytes, points: np.ndarray) -> bytes:
    """Encode a photograph as WebP, sharp around the person."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    if max(image.size) > FRAME_PX:
        low, high = points.min(axis=0), points.max(axis=0)
        centre, reach = (low + high) / 2, 0.9 * max(high - low)
        share = FRAME_PX / max(image.size)
        seen = image.resize([max(1, round(side * share)) for side in image.size])
        near = Image.new("L", image.size)
        near.paste(255, [*map(int, np.maximum(centre - reach, 0)), *map(int, centre + reach)])
        near = near.filter(ImageFilter.GaussianBlur(4))
        image = Image.composite(image, seen.resize(image.size), near)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY, method=5)
    return out.getvalue()


def pack(folder: str) -> None:
    """Write the zips, and the joints once more."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, cuts in PARTS.items():
        archive = zipfile.ZipFile(Path(os.environ["CONVPOSE_DATA"]) / f"{name}_dataset.zip")
        joints = loadmat(io.BytesIO(archive.read("joints.mat")))["joints"]
        savemat(Path(folder) / f"{name}.mat", {"joints": joints}, do_compression=True)
        rows = joints.transpose(2, 0, 1) if name == "lspet" else joints.transpose(2, 1, 0)
        shown = [row[row[:, 2] > 0, :2] if name == "lspet" else row[:, :2] for row in rows]
        files = sorted(file for file in archive.namelist() if file.endswith(".jpg"))
        for part, (first, last) in enumerate(pairwise(cuts)):
            some = files[first:last]
            with ProcessPoolExecutor() as pool, _zip(folder, f"{name}{part}") as out:
                contents = map(archive.read, some)
                for file, made in zip(
                    some, pool.map(smaller, contents, shown[first:last], chunksize=50), strict=True
                ):
                    out.writestr(f"{Path(file).stem}.webp", made)


def _zip(folder: str, name: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(Path(folder) / f"{name}.zip", "w")


def jpeg(path: Path, content: bytes) -> None:
    """Write a photograph as OpenCV decodes it fastest."""
    Image.open(io.BytesIO(content)).save(path, "JPEG", quality=93, subsampling=0)


def unpack(folder: str, data: str) -> None:
    """Write the folders that stand for the archives."""
    for file in sorted(Path(folder).glob("ls*.zip")):
        images = Path(data) / f"{file.stem[:-1]}_dataset" / "images"
        images.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.with_name(f"{file.stem[:-1]}.mat"), images.parent / "joints.mat")
        archive = zipfile.ZipFile(file)
        with ProcessPoolExecutor() as pool:
            paths = [images / f"{Path(name).stem}.jpg" for name in archive.namelist()]
            contents = map(archive.read, archive.namelist())
            list(pool.map(jpeg, paths, contents, chunksize=50))


def rows_of(run: str) -> Iterator[dict[str, str]]:
    """Read the epochs of a run."""
    with (Path(run) / "metrics.csv").open() as file:
        yield from csv.DictReader(file)


def best(*runs: str) -> None:
    """Print the folder of the best run."""
    print(max(runs, key=lambda run: max(float(r["val/pck@0.2"] or 0) for r in rows_of(run))))


def pace(run: str) -> None:
    """Print seconds an image."""
    images = len(json.loads((Path(run) / "splits.json").read_text())["train"])
    print(float(list(rows_of(run))[-1]["seconds"]) / images)


def slim(run: str, target: str) -> None:
    """Copy what a network needs to be evaluated, packed and continued from."""
    import torch  # the other commands do without

    (Path(target) / "checkpoints").mkdir(parents=True)
    for path in Path(run).iterdir():
        if path.suffix in (".json", ".csv", ".md", ".yaml"):
            shutil.copy(path, target)
    state = torch.load(Path(run) / "checkpoints/best.ckpt", "cpu", weights_only=True)["state_dict"]
    half = {k: v.half() if v.ndim > 1 else v for k, v in state.items() if k.startswith("model.")}
    torch.save({"state_dict": half}, Path(target) / "checkpoints/best.ckpt")


if __name__ == "__main__":
    commands = {c.__name__: c for c in (pack, unpack, best, pace, slim)}
    commands[sys.argv[1]](*sys.argv[2:])
