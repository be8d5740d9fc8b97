"""Try an installed convpose as a stranger would: copy this file out of the checkout and run it.

Runs commands on synthetic people in an empty folder, and checks what they leave. The export needs
the extra ``onnx``.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import convpose
from convpose.data.synthetic import SyntheticSource

TINY = (
    *("data=synthetic", "data.sources.synthetic.num_images=40", "data.num_workers=0"),
    *("data.batch_size=8", "model=vgg_narrow", "trainer=cpu", "trainer.max_epochs=1"),
)
STEPS = [  # a command, and a file that it leaves
    (("--version",), None),
    (("predict", "photo.jpg"), "runs/predict/photo_pose.jpg"),
    (("predict", "photo.jpg", "network=large", "format=csv"), "runs/predict/keypoints.csv"),
    (("train", "study=tiny", *TINY), "runs/tiny/*/checkpoints/best.ckpt"),
    (("evaluate", "run=runs/tiny", "accelerator=cpu"), "runs/tiny/*/evaluate_test/report.md"),
    (("compare", "study=runs/tiny"), "runs/tiny/compare.html"),
    (("export", "run=runs/tiny", "format=onnx"), "runs/tiny/*/exported/*.onnx"),
    (("predict", "photo.jpg", "run=runs/tiny", "engine=onnx", "output=two"), "two/photo_pose.jpg"),
]


def main() -> None:
    """Run the steps; the first that fails ends it with its exit code."""
    print("convpose", convpose.__version__, "in", Path(convpose.__file__).parent)
    if "site-packages" not in convpose.__file__:
        sys.exit("error: this is a checkout; go to another folder")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        Image.fromarray(SyntheticSource(1, 256).read_image(0)[0]).save(folder / "photo.jpg")
        for arguments, left in STEPS:
            print("$ convpose", *arguments, flush=True)
            subprocess.run([sys.executable, "-m", "convpose", *arguments], cwd=folder, check=True)
            if left and not any(folder.glob(left)):
                sys.exit(f"error: left no {left}")


if __name__ == "__main__":
    main()
