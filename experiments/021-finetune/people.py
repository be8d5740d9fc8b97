"""Write LSP's people as labels of ten keypoints that convpose does not know, in COCO's format.

``python experiments/021-finetune/people.py FOLDER [OVERRIDE…]`` writes the photographs,
``labels.json``, ``ten.yaml`` (the skeleton), and a split for each number of labelled photographs.
Of them a fifth validates. The test subset of each is LSP's validation subset: no packaged network
was trained on it, and LSP's own test part stays unread.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from convpose.data.build import build_datamodule
from convpose.data.coco import write_coco
from convpose.files import conf_folder
from convpose.skeleton import Skeleton

PARTS = {"ankle": "foot", "knee": "leg", "hip": "thigh", "shoulder": "collar", "wrist": "hand"}
LIMBS = (("foot", "leg"), ("leg", "thigh"), ("thigh", "collar"), ("collar", "hand"))
NUMBERS = (30, 100, 300, 800)


def ten() -> Skeleton:
    """Return the skeleton; its PCK is divided by the torso, as LSP's."""
    return Skeleton(
        "ten",
        tuple(f"{new}_{side}" for new in PARTS.values() for side in "rl"),
        tuple((f"{a}_{side}", f"{b}_{side}") for a, b in LIMBS for side in "rl"),
        normaliser={"torso": (("collar_l", "thigh_r"), ("collar_r", "thigh_l"))},
    )


def main(folder: Path, *overrides: str) -> None:
    """Write the photographs, their labels and the splits."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        cfg = compose("evaluate", ["data=lsp", *overrides])
    data = build_datamodule(cfg)
    data.setup()
    source = data.datasets["train"].source
    known = data.skeleton.keypoints
    rows = [known.index(f"{side}_{old}") for old in PARTS for side in ("right", "left")]
    chosen = {s: sorted(data.split[s]) for s in ("train", "val")}
    wanted = {*chosen["train"], *chosen["val"]}
    folder.mkdir(parents=True, exist_ok=True)
    people = []
    for index, a in enumerate(source.annotations):
        if a.image_id in wanted:
            name = f"{a.image_id}.jpg"
            Image.fromarray(source.read_image(index)[0]).save(folder / name, quality=95)
            own = {"keypoints_px": a.keypoints_px[rows], "visibility": a.visibility[rows]}
            people.append(replace(a, file=name, **own))
    write_coco(people, ten(), folder / "labels.json")
    (folder / "ten.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(ten().to_dict())), "utf-8")
    for number in NUMBERS:
        own_ids = chosen["train"][:number]
        split = {"train": own_ids[number // 5 :], "val": own_ids[: number // 5]}
        text = json.dumps(split | {"test": chosen["val"]})
        (folder / f"{number}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
