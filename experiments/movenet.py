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
from torch import nn

from convpose.data.build import build_datamodule
from convpose.evaluate.scoring import on_device, predict
from convpose.files import conf_folder
from convpose.models.backbones.movenet import MoveNet
from convpose.models.backbones.movenet_weights import load_folded, read_movenet
from convpose.models.keypoints.movenet import ROWS, Branch
from convpose.models.pose_model import PoseOutput

NETWORKS = {"lightning": (1.0, 192), "thunder": (1.75, 256)}
COCO_KEYPOINTS = 17
NEAR = 1.8  # cells, added to a distance before a score is divided by it


class PublishedMoveNet(nn.Module):
    """MoveNet Lightning or Thunder, untouched; answers as `PoseModel` does.

    The person is where the centre's map, weighted towards the middle of the crop, is highest; from
    there the keypoints are regressed, and each keypoint's heatmap is searched near its regressed
    place; an offset leads from the cell to the point.

    Args:
        width: 1.0 for Lightning, 1.75 for Thunder.
        weights: file of the arrays, see `read_movenet`.
        num_keypoints: 17 of COCO, or LSP's 14; there the neck is the middle of the shoulders, and
            for the head top, which COCO has not, stands the nose.

    Raises:
        ConfigError, ModelError: see `MoveNet`.
    """

    def __init__(self, width: float, weights: str, num_keypoints: int = 14) -> None:
        super().__init__()
        self.rows = ROWS[num_keypoints]
        self.backbone = MoveNet(width, weights)
        arrays = read_movenet(weights, "head")
        inside, sides = MoveNet.out_channels[0], 2 * COCO_KEYPOINTS
        self.branches = nn.ModuleDict()
        for name, out in (
            *(("center", 1), ("kpt_heatmap", COCO_KEYPOINTS)),
            *(("kpt_regress", sides), ("kpt_offset", sides)),
        ):
            branch = Branch(inside, 96, out)
            start = f"{name}."
            own = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
            load_folded(branch, own, weights, f"MoveNet's {name}")
            self.branches[name] = branch

    def forward(self, image: torch.Tensor) -> PoseOutput:
        """Estimate the keypoints of (B, 3, S, S) uint8 RGB crops."""
        finest = self.backbone(image.float() / 127.5 - 1)[0]
        keypoints, scores = decode_published(
            *(self.branches[name](finest) for name in self.branches)
        )
        return {
            "keypoints": torch.stack([keypoints[:, list(of)].mean(dim=1) for of in self.rows], 1),
            "scores": torch.stack([scores[:, list(of)].mean(dim=1) for of in self.rows], 1),
        }


def decode_published(
    center: torch.Tensor, heatmap: torch.Tensor, regress: torch.Tensor, offset: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode as Google's graph does.

    Args:
        center: (B, 1, S, S) logits.
        heatmap: (B, K, S, S) logits.
        regress: (B, 2K, S, S), y and x of each keypoint from a centre there, in cells.
        offset: (B, 2K, S, S), y and x of each keypoint from a cell's corner, in cells.

    Returns:
        Unit keypoints (B, K, 2) as (x, y), and scores (B, K), the heatmap where it was taken.
    """
    batch, joints, side, _ = heatmap.shape
    cell = torch.arange(side, device=heatmap.device, dtype=torch.float32)
    middle = side // 2
    away = ((cell[:, None] - middle).square() + (cell - middle).square()).sqrt()
    person = (center.sigmoid().squeeze(1) / (away + NEAR)).flatten(1).argmax(dim=1)  # (B,)
    row, column = person // side, person % side
    every = torch.arange(batch, device=heatmap.device)
    moves = regress[every, :, row, column].view(batch, joints, 2)
    y, x = row[:, None] + moves[..., 0], column[:, None] + moves[..., 1]  # (B, K)
    down = (cell[:, None] - y[..., None, None]).square()  # (B, K, S, 1)
    across = (cell - x[..., None, None]).square()  # (B, K, 1, S)
    score = heatmap.sigmoid()
    peak = (score / ((down + across).sqrt() + NEAR)).flatten(2).argmax(dim=2)  # (B, K)
    pairs = offset.reshape(batch, joints, 2, side * side)
    found = pairs.gather(3, peak[:, :, None, None].expand(-1, -1, 2, 1)).squeeze(3)  # y, x
    place = torch.stack([peak % side + found[..., 1], peak // side + found[..., 0]], dim=2)
    return place / side, score.flatten(2).gather(2, peak.unsqueeze(2)).squeeze(2)


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
