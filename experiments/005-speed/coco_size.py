"""Measure how long a data set of COCO's size takes to be indexed, and how much memory.

``python experiments/005-speed/coco_size.py FOLDER`` writes train2017 as large as it is, with tiny
images: 118,287 photographs in a zip, and 262,465 people with outlines in a JSON file beside it, in
64,115 of them; 149,813 have joints. Then it opens them in a process of its own, as a training does.
"""

import io
import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path

from PIL import Image

PHOTOS, WITH_PEOPLE, PEOPLE, WITH_JOINTS = 118_287, 64_115, 262_465, 149_813
SIZE_PX = 64
OPEN = """
import resource, sys, time
from convpose.data.coco import CocoSource
start = time.perf_counter()
source = CocoSource(sys.argv[1], skeleton="coco17", min_joints=1)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
seconds = f"{time.perf_counter() - start:.0f} s ({time.process_time():.0f} s of a core)"
print(f"{len(source.annotations):,} people, {seconds}, {peak:.2f} GiB")
"""


def main(folder: Path) -> None:
    """Write the data set if it is not there, open it, and print what it took."""
    from convpose.skeleton import COCO17

    folder.mkdir(parents=True, exist_ok=True)
    photos, labels = folder / "train2017.zip", folder / "person_keypoints_train2017.json"
    names = [f"{i:012d}.jpg" for i in range(PHOTOS)]
    if not photos.exists():
        pixels = io.BytesIO()
        Image.new("RGB", (SIZE_PX, SIZE_PX)).save(pixels, "JPEG")
        with zipfile.ZipFile(photos, "w") as file:
            for name in names:
                file.writestr(f"train2017/{name}", pixels.getvalue())
    if not labels.exists():
        draw = random.Random(0)
        size = {"width": SIZE_PX, "height": SIZE_PX}
        images = [{"id": i, "file_name": n, "license": 1, **size} for i, n in enumerate(names)]
        person = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}
        with labels.open("w") as file:
            file.write(f'{{"images": {json.dumps(images)}, "categories": [{json.dumps(person)}], ')
            file.write('"annotations": [\n')
            for number in range(PEOPLE):
                joints = [v for _ in range(17) for v in (draw.randrange(64), draw.randrange(64), 2)]
                one = {
                    "segmentation": [[round(64 * draw.random(), 2) for _ in range(60)]],
                    "num_keypoints": 17,
                    "area": 900.5,
                    "iscrowd": 0,
                    "keypoints": joints if number < WITH_JOINTS else [0] * 51,
                    "image_id": number % WITH_PEOPLE,
                    "bbox": [2.25, 3.5, 58.0, 57.0],
                    "category_id": 1,
                    "id": number,
                }
                file.write(("" if number == 0 else ",\n") + json.dumps(one))
            file.write("]}")
    print(f"{labels.stat().st_size / 1e6:.0f} MB of labels, {photos.stat().st_size / 1e6:.0f} MB")
    subprocess.run([sys.executable, "-c", OPEN, str(labels)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
