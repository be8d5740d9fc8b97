"""A folder of somebody's own labels: synthetic people, joints by own names, COCO's format."""

import json
from pathlib import Path

from PIL import Image

from convpose.data.synthetic import SyntheticSource
from convpose.skeleton import LSP14

OWN = {  # ten of LSP's joints, and how she calls them
    "right_ankle": "Foot R",
    "left_ankle": "Foot L",
    "right_hip": "R-Hip",
    "left_hip": "L-Hip",
    "right_wrist": "hand_r",
    "left_wrist": "hand_l",
    "right_shoulder": "RShoulder",
    "left_shoulder": "LShoulder",
    "neck": "throat",
    "head_top": "crown",
}
LIMBS = [[1, 3], [2, 4], [3, 7], [4, 8], [5, 7], [6, 8], [7, 9], [8, 9], [9, 10]]


def own_folder(folder: Path, count: int = 24, names: dict[str, str] = OWN) -> Path:
    """Write photographs and ``labels.json``; return the file."""
    joints = [LSP14.index(name) for name in names]
    limbs = [limb for limb in LIMBS if max(limb) <= len(joints)]
    source = SyntheticSource(count, 64, seed=3)
    images, people = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for i, person in enumerate(source.annotations):
        Image.fromarray(source.read_image(i)[0]).save(folder / f"{i:03d}.png")
        images.append({"id": i, "file_name": f"{i:03d}.png", "width": 64, "height": 64})
        flat = [v for x, y in person.keypoints_px[joints].tolist() for v in (x, y, 2)]
        box = {"bbox": [4, 4, 56, 56], "area": 3136.0}
        people.append({"id": i, "image_id": i, "category_id": 7, "keypoints": flat, **box})
    category = {"id": 7, "name": "dancer", "keypoints": list(names.values()), "skeleton": limbs}
    content = {"images": images, "annotations": people, "categories": [category]}
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"
