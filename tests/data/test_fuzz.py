"""Every reader gets damaged and generated files, and raises nothing but errors of convpose."""

import csv
import io
import json
import random
import tempfile
import warnings
from pathlib import Path

import fake_labels
import numpy as np
import pytest
from attack import tries
from fake_coco import fake_coco
from fake_flic import fake_flic
from fake_lsp import fake_files
from fake_mpii import fake_mpii, fake_mpii_json
from omegaconf import OmegaConf

from convpose.compare.run_result import read_run_result
from convpose.config.allowlist import read_config
from convpose.data.coco import CocoSource
from convpose.data.csv_source import CsvSource
from convpose.data.flic import FlicSource
from convpose.data.labelstudio import LabelStudioSource
from convpose.data.lsp import LspSource
from convpose.data.mpii import MpiiJsonSource, MpiiSource
from convpose.data.splits import make_split
from convpose.data.synthetic import SyntheticSource
from convpose.data.yolo import YoloSource
from convpose.errors import ConvposeError
from convpose.evaluate.predictions import Predictions, match
from convpose.history import read_history
from convpose.models.backbones.movenet_weights import _manifest
from convpose.predict.cluster import read_summary
from convpose.predict.people import BoxFile
from convpose.run import Run
from convpose.runtime import read_spec
from convpose.runtime.pytorch import network_config
from convpose.skeleton import LSP14

OLD_RUN = Path(__file__).parents[1] / "runs_of_0.1.0" / "heatmap"
ODD = (
    *(None, True, 0, -1, 10**18, 10**40, -0.5, 1e39, 1e308, float("nan"), float("inf"), "", "x"),
    *("9" * 400, "\ud800".encode("utf-8", "surrogatepass"), "\0", "${a}", "../..", [], {}, [[]]),
    *([None], {"a": [1]}, [1e400] * 3, "im0001", "é" * 99),
)


def predictions() -> bytes:
    file = io.BytesIO()
    np.savez(file, image_id=np.array(["a", "b"]), keypoints_px=np.zeros((2, 14, 2), np.float32))
    return file.getvalue()


def people_csv() -> bytes:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["image", *(f"{n}_{c}" for n in LSP14.keypoints for c in "xy")])
    for i in range(3):
        table.writerow([f"{1 + i:09d}.jpg", *range(5, 5 + 28)])
    return text.getvalue().encode()


BOXES = [{"image": "a.jpg", "box_px": [1, 2, 3, 4], "score": 0.5, "id": 1, "frame": 0}]
COCO_BOXES = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}
FAILED = {"name": "a.jpg", "message": "a.jpg: broken"}
SHARD = {"inputs": 1, "frames": 2, "people": 3, "failures": [FAILED], "notes": ["b.gif: a note"]}
SPEC = {"version": 1, "spec": {"input_size_px": 64, "frame": "image", "box_scale": 1.25}}
SPEC["spec"] |= {"skeleton": "lsp14", "keypoints": list(LSP14.keypoints)}
MANIFEST = {"weightsManifest": [{"paths": ["a.bin"], "weights": [{"name": "a", "shape": [1]}]}]}
ANNOTATIONS = SyntheticSource(6, 64).annotations
FIVE = {"name": "dog", "keypoints": fake_labels.NAMES}
SPLIT = {"train": ["synthetic_000000"], "val": ["synthetic_000001"], "test": ["synthetic_000002"]}


def files_of(kind):
    """The files of a reader, the one to be damaged, and how it is read in a folder."""
    mpii = {k: v for k, v in fake_mpii_json(4, 2).items() if "train.json" in k or "images/" in k}
    mat = fake_mpii(6)
    release = next(name for name in mat if name.endswith(".mat"))
    coco = fake_coco(6, 2)
    people = next(name for name in coco if "train" in name and name.endswith(".json"))
    photos = {k: v for k, v in fake_mpii_json(4, 2).items() if k.startswith("images/")}
    table = {
        "coco": (coco, people, lambda f: CocoSource(str(f), "")),
        "coco skeleton": (coco, people, lambda f: CocoSource.own_skeleton({"source": str(f)})),
        "mpii": (mat, release, lambda f: MpiiSource(str(f), "")),
        "mpii json": (mpii, "annot/train.json", lambda f: MpiiJsonSource(str(f), "")),
        "flic": (fake_flic(4, 2), "examples.mat", lambda f: FlicSource(str(f), "")),
        "lsp": (fake_files("lsp"), "joints.mat", lambda f: LspSource("lsp", f, f)),
        "csv": (photos | {"a.csv": people_csv()}, "a.csv", lambda f: CsvSource(str(f), "")),
        "labelstudio": (
            of_tool(fake_labels.labelstudio),
            "export.json",
            lambda f: LabelStudioSource(str(f), "", skeleton=FIVE),
        ),
        "yolo": (
            of_tool(fake_labels.yolo),
            "labels/train/0.txt",
            lambda f: YoloSource(str(f), "", skeleton=FIVE),
        ),
        "yolo facts": (
            of_tool(fake_labels.yolo),
            "data.yaml",
            lambda f: YoloSource(str(f), "", skeleton=FIVE),
        ),
        "boxes": ({"a.json": dumped(BOXES)}, "a.json", lambda f: BoxFile(f / "a.json")),
        "coco boxes": ({"a.json": dumped(COCO_BOXES)}, "a.json", lambda f: BoxFile(f / "a.json")),
        "csv boxes": (
            {"a.csv": b"image,x0,y0,x1,y1,score\na.jpg,1,2,3,4,0.5\nb.jpg,1,2,3,4,\n"},
            "a.csv",
            lambda f: BoxFile(f / "a.csv"),
        ),
        "split": (
            {"a.json": dumped(SPLIT)},
            "a.json",
            lambda f: make_split(str(f / "a.json"), ANNOTATIONS),
        ),
        "predictions": ({"a.npz": predictions()}, "a.npz", lambda f: scored(f / "a.npz")),
        "history": (
            {"metrics.csv": (OLD_RUN / "metrics.csv").read_bytes()},
            "metrics.csv",
            lambda f: read_history(f / "metrics.csv"),
        ),
        "shard": (
            {"done/000000.json": dumped(SHARD)},
            "done/000000.json",
            lambda f: read_summary(f, 0),
        ),
        "facts": ({"a": dumped(SPEC)}, "a", lambda f: read_spec(f, text_of(f / "a"))),
        "manifest": ({"a.json": dumped(MANIFEST)}, "a.json", lambda f: _manifest(f / "a.json")),
    }
    for name in ("config.yaml", "run.json", "splits.json"):
        run = {p.name: p.read_bytes() for p in OLD_RUN.iterdir() if p.is_file()}
        if name in run:
            table[name] = (run, name, compared)
    return table[kind]


def of_tool(fake):
    with tempfile.TemporaryDirectory() as folder:
        files = [p for p in fake(Path(folder) / "dogs").rglob("*") if p.is_file()]
        return {p.relative_to(f"{folder}/dogs").as_posix(): p.read_bytes() for p in files}


def dumped(content) -> bytes:
    return json.dumps(content).encode()


def text_of(path):
    return path.read_bytes().decode("utf-8", "replace")


def scored(path):
    return match(Predictions.load(path), ["a", "b"], LSP14, path)


def compared(folder):
    """Read what compare, predict and evaluate read of a run folder."""
    for read in (
        lambda: read_run_result(folder),
        lambda: network_config(read_config(folder / "config.yaml")),
        lambda: Run(folder).config_to_score(""),
        lambda: Run.find(folder.parent),
    ):
        with_ours_only(read)


def with_ours_only(read) -> bool:
    """Read; whether it was refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numbers that overflow
            read()
    except ConvposeError:
        return True
    return False


def mutated(content: bytes, dice: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(dice.choice((1, 2, 8, 64))):
        at = dice.randrange(len(damaged) + 1)
        step = dice.random()
        if step < 0.6:
            damaged[at : at + 1] = bytes([dice.randrange(256)])
        elif step < 0.8:
            del damaged[at : at + dice.randrange(1, 40)]
        else:
            damaged[at:at] = damaged[at : at + 40] * dice.randrange(1, 4)
    return bytes(damaged)


def replaced(content, dice: random.Random):
    """A JSON structure in which some value is an odd one, gone or nested."""
    odd = dice.choice([o for o in ODD if not isinstance(o, bytes)])
    if not isinstance(content, dict | list) or not content or dice.random() < 0.15:
        return dice.choice((odd, [content], {"a": content}))
    copy = dict(content) if isinstance(content, dict) else list(content)
    key = dice.choice(list(copy)) if isinstance(copy, dict) else dice.randrange(len(copy))
    if dice.random() < 0.1:
        del copy[key]
    else:
        copy[key] = replaced(copy[key], dice)
    return copy


def generated(content: bytes, name: str, dice: random.Random) -> bytes:
    if name.endswith(".yaml"):
        plain = OmegaConf.to_container(OmegaConf.create(content.decode()))
        return json.dumps(replaced(plain, dice)).encode()  # which YAML reads as well
    if name.endswith((".json", "a")) and not name.endswith(".csv"):
        return json.dumps(replaced(json.loads(content), dice)).encode()
    if name.endswith(".csv"):
        rows = [line.split(",") for line in content.decode().splitlines()]
        row = dice.choice(rows)
        row[dice.randrange(len(row))] = str(dice.choice(ODD))
        return "\n".join(map(",".join, rows)).encode("utf-8", "replace")
    return mutated(content, dice)


KINDS = (
    *("coco", "coco skeleton", "mpii", "mpii json", "flic", "lsp", "csv", "boxes", "coco boxes"),
    *("csv boxes", "labelstudio", "yolo", "yolo facts", "split", "predictions", "history"),
    *("facts", "manifest", "config.yaml", "run.json", "splits.json", "shard"),
)
EACH = tries(16, 112)  # 22 readers: 2,464 files


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_our_errors(kind, tmp_path):
    files, name, read = files_of(kind)
    folder = tmp_path / "data" / "folder"
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    assert not with_ours_only(lambda: read(folder)), "what is in order is read"
    dice, refused = random.Random(KINDS.index(kind)), 0
    for number in range(EACH):
        change = mutated if number % 2 else lambda c, d: generated(c, name, d)
        (folder / name).write_bytes(change(files[name], dice))
        try:
            refused += with_ours_only(lambda: read(folder))
        except Exception as error:
            raise AssertionError(f"input {number} of {kind}: {error!r}") from error
    print(f"{kind}: {EACH} files, {refused} refused")
