"""MoveNet as published on a test part, to hold the port against its makers' graph.

``python experiments/movenet.py FILE lightning OUTPUT.npz [OVERRIDE…]``

FILE has the arrays (``.json`` of the TF.js model, or ``.safetensors``), the overrides choose the
data, such as ``data=lsp`` or ``data=lspet data.split=paper data.crop=box``. Then
``python -m convpose.evaluate predictions=OUTPUT.npz`` with the same overrides scores what was
found; MoveNet has no neck and no head top, so read the row of the limbs.
"""

import sys
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from convpose.data.build import build_datamodule
from convpose.evaluate.scoring import on_device, predict
from convpose.files import conf_folder
from convpose.models.backbones.movenet_published import PublishedMoveNet

NETWORKS = {"lightning": (1.0, 192), "thunder": (1.75, 256)}


def main(weights: str, name: str, output: str, *overrides: str) -> None:
    """Predict a test part and save what was found."""
    width, size = NETWORKS[name]
    keys = ["data.batch_size=32", f"data.input_size_px={size}"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        cfg = compose("evaluate", [*overrides, *keys])
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    network = on_device(PublishedMoveNet(width, weights), torch.device("cpu"), "32-true")
    found = predict(network, datamodule.loader("test"))
    found.save(Path(output))


if __name__ == "__main__":
    main(*sys.argv[1:])
