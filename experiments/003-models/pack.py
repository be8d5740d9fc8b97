"""Package a run as ``small`` or ``large``, with its model card.

``python experiments/003-models/pack.py NAME RUN_FOLDER``; the card takes over the measures of the
evaluations that lie in the run folder.
"""

import hashlib
import json
import sys

from convpose.runtime.packaged import FOLDER, pack

START = (
    "MoveNet SinglePose {} (Copyright Google LLC, Apache-2.0; see NOTICE), trained by its authors "
    "on COCO and on Google's Active data set of sports videos"
)
TRAINED = (
    "LSP 1-1000 and LSPET without the test part of its paper split (data=lsp_lspet "
    "data.split=lsp_paper: 7,767 images without near-duplicates, 1,700 more to choose the epoch "
    "by), boxes and whole frames"
)
LIMITS = (
    "Sports photographs, mostly of athletes; one person a crop. Wrists and ankles are worst, and "
    "people upside down (see per_trunk_angle of the evaluations; quarter_turns=true helps). Left "
    "and right are confused where the body is seen from behind or from the side. Several people "
    "need boxes or a detector. Not for decisions about people."
)
CITATION = [
    "S. Johnson and M. Everingham, Clustered Pose and Nonlinear Appearance Models for Human Pose "
    "Estimation, BMVC 2010",
    "S. Johnson and M. Everingham, Learning Effective Human Pose Estimation from Inaccurate "
    "Annotation, CVPR 2011",
    "R. Votel and N. Li, Next-Generation Pose Detection with MoveNet and TensorFlow.js, 2021",
]
ABOUT = {
    "small": {
        "what": "MoveNet Lightning at 192 px, fine-tuned with large as teacher: 14 joints of one "
        "person a crop; the default of convpose.predict",
        "start": START.format("Lightning"),
        "command": "python -m convpose.train experiment=small "
        "model.weights=movenet_lightning.safetensors trainer=cpu trainer.devices=2 "
        "trainer.strategy=ddp data.batch_size=16 trainer.precision=bf16-mixed",
        "revision": "10c5597",
    },
    "large": {
        "what": "MoveNet Thunder at 256 px, fine-tuned: 14 joints of one person a crop",
        "start": START.format("Thunder"),
        "command": "python -m convpose.train experiment=large "
        "model.weights=movenet_thunder.safetensors trainer=cpu trainer.devices=2 "
        "trainer.strategy=ddp data.batch_size=16 trainer.precision=bf16-mixed",
        "revision": "6c78024",
    },
}


def main(name: str, run: str) -> None:
    """Pack the run, and complete the card."""
    target = pack(run, FOLDER / f"{name}.safetensors", blur=3)
    path = target.with_suffix(".json")
    card = json.loads(path.read_text("utf-8"))
    assert card["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    card["about"] = {
        **ABOUT[name],
        "data": TRAINED,
        "seed": 0,
        "limits": LIMITS,
        "licence": "Apache-2.0; the photographs of LSP and LSPET were published for research",
        "citation": CITATION,
    }
    path.write_text(json.dumps(card, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
