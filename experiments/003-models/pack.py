"""Package a run as ``small`` or ``large``, with its model card.

``python experiments/003-models/pack.py NAME RUN_FOLDER``; the card takes over the measures of the
evaluations that lie in the run folder. ``python experiments/003-models/pack.py NAME`` alone writes
the ONNX file beside packaged weights, with which ``convpose predict`` answers without torch.
"""

import hashlib
import json
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from convpose.export.network import exported
from convpose.runtime.engines import FOLDER
from convpose.runtime.packaged import pack

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
    "people upside down (see per_torso_angle of the evaluations; quarter_turns=true helps). Left "
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
FIRST = (
    "python -m convpose.train experiment={} model.weights=movenet_{}.safetensors trainer=cpu "
    "trainer.devices=2 trainer.strategy=ddp data.batch_size=16 trainer.precision=bf16-mixed"
)
GPU = (
    "bash experiments/003-models/gpu.sh",
    "python experiments/003-models/average.py RUN MEAN CHECKPOINT...",
)
ABOUT = {
    "small": {
        "what": "MoveNet Lightning at 192 px, fine-tuned with large as teacher, in three cycles as "
        "large itself: 14 joints of one person a crop; the default of convpose.predict",
        "start": START.format("Lightning"),
        "command": [
            FIRST.format("small", "lightning"),
            "python -m convpose.train experiment=small weights=FIRST loss.teacher=large "
            "callbacks.ema.decay=0.99 trainer.max_epochs=3 trainer=cpu",
            *GPU,
            "python -m convpose.train experiment=small weights=MEAN loss.teacher=LARGE "
            "data.repeat={lsp:3} scheduler.warmup=0.05 callbacks.ema.decay=0.99 "
            "trainer.max_epochs=3 trainer=cpu",
        ],
        "revision": "10c5597, ec5639d, 55960ca",
    },
    "large": {
        "what": "MoveNet Thunder at 256 px, fine-tuned on the labels and then, in a second and "
        "third cycle, on those and itself as teacher: 14 joints of one person a crop",
        "start": START.format("Thunder"),
        "command": [
            FIRST.format("large", "thunder"),
            "python -m convpose.train experiment=large weights=FIRST loss=distill "
            "loss.teacher=FIRST data.batch_size=128 optimizer.lr=4.0e-4 callbacks.ema.decay=0.98 "
            "trainer=gpu trainer.max_epochs=12  # stopped in the seventh epoch",
            "python -m convpose.train experiment=large weights=SECOND loss=distill "
            "loss.teacher=FIRST optimizer.lr=1.0e-4 scheduler.warmup=0.03 "
            "callbacks.ema.decay=0.98 trainer.max_epochs=1 trainer=cpu",
            *GPU,
            "python -m convpose.train experiment=large weights=MEAN loss=distill "
            "loss.teacher=MEAN data.repeat={lsp:3} optimizer.lr=1.0e-4 scheduler.warmup=0.05 "
            "callbacks.ema.decay=0.99 trainer.max_epochs=2 trainer=cpu",
        ],
        "revision": "6c78024, ec5639d, ec5639d, 55960ca",
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


def write_onnx(name: str) -> None:
    """Write the ONNX file of packaged weights, as small as they are.

    The export has folded batch norm into its weights, which are no longer those in half precision.
    They are stored as these and a factor for each channel; the engine multiplies at its start.
    """
    packed = FOLDER / f"{name}.safetensors"
    model, halves = onnx.load(exported("onnx", None, name)), load_file(packed)
    made = []
    for whole in list(model.graph.initializer):
        half = halves.get(whole.name.removeprefix("model."))
        value = numpy_helper.to_array(whole)
        if half is None or half.dtype != np.float16 or half.shape != value.shape or half.ndim < 2:
            continue
        rows = half.astype(np.float64).reshape(len(half), -1)
        wanted = value.astype(np.float64).reshape(len(half), -1)
        factor = (rows * wanted).sum(1) / np.maximum((rows**2).sum(1), 1e-30)
        assert np.abs(rows * factor[:, None] - wanted).max() < 1e-5 * np.abs(wanted).max()
        factor = factor.astype(np.float32).reshape(-1, *[1] * (half.ndim - 1))
        parts = [f"{whole.name}_{part}" for part in ("half", "factor", "float")]
        model.graph.initializer.remove(whole)
        model.graph.initializer.append(numpy_helper.from_array(half, parts[0]))
        model.graph.initializer.append(numpy_helper.from_array(factor, parts[1]))
        made.append(helper.make_node("Cast", [parts[0]], [parts[2]], to=TensorProto.FLOAT))
        made.append(helper.make_node("Mul", [parts[2], parts[1]], [whole.name]))
    nodes = [*made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    packed.with_suffix(".onnx").write_bytes(model.SerializeToString())


if __name__ == "__main__":
    if sys.argv[2:]:
        main(*sys.argv[1:])
    if sys.argv[1] == "small":  # the default of `convpose.predict`
        write_onnx(sys.argv[1])
