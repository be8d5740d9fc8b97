"""Study sides of the packaged network: ``python experiments/017-sides/sides.py [OVERRIDE…]``.

The overrides are of `convpose.evaluate`'s data, such as ``paths.data=FOLDER``. The tables are
printed; sides.csv and sides.png go beside this file.
"""

import csv
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from torch import Tensor

from convpose.data.build import build_datamodule
from convpose.evaluate.scoring import GroundTruth
from convpose.files import conf_folder
from convpose.geometry import transform
from convpose.metrics.functional import HIT
from convpose.models.keypoints.heatmap import decode
from convpose.plot.curves import INK, MUTED, ORANGE, new_figure, save_figure
from convpose.progress import progress
from convpose.runtime.packaged import load_packaged
from convpose.skeleton import LSP14, SIDES

LSPET = ("data=lspet", "data.split=paper", "data.crop=box")
PARTS = {"LSPET test": (LSPET, "test"), "LSP test": (("data=lsp",), "test")}
CHOSEN_ON = {"LSPET validation": (LSPET, "val"), "LSP validation": (("data=lsp",), "val")}
JOINTS = ("hip", "shoulder", "knee", "ankle", "elbow", "wrist")
KINDS = {
    "found": "#d5d8dd",
    "both on one": ORANGE,
    "exchanged": "#b04a00",
    "on the other's": "#f7b267",
    "elsewhere": MUTED,
}
HERE = Path(__file__).parent
SWAP = list(LSP14.mirror)
PAIRS = [tuple(LSP14.index(f"{side}_{joint}") for side in SIDES) for joint in JOINTS]


def look(overrides: tuple[str, ...], split: str) -> tuple[GroundTruth, Tensor, Tensor]:
    """Return the ground truth of a subset, the logits (N, K, S, S) and the affines of its crops."""
    packaged = load_packaged(accelerator="cpu", precision="32-true")
    size = f"data.input_size_px={packaged.spec.input_size_px}"
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        cfg = compose("evaluate", [*overrides, size, *sys.argv[1:]])
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    logits, affines = [], []
    for batch in progress(datamodule.loader(split), f"{cfg.data.split} {split}"):
        with torch.inference_mode():
            logits.append(packaged.model(batch["image"])["heatmap_logits"])
        affines.append(batch["unit_to_px"])
    truth = GroundTruth.of(datamodule.datasets[split], datamodule.skeleton)
    return truth, torch.cat(logits), torch.cat(affines)


def kinds(truth: GroundTruth, px: Tensor) -> dict[str, Tensor]:
    """Sort the joints that have a labelled partner into `KINDS`: masks (N, K)."""
    own = torch.from_numpy(truth.errors(px))
    to_other = torch.from_numpy(truth.errors(px[:, SWAP]))[:, SWAP]  # its place to the other's
    other_there, other_here = own[:, SWAP] <= HIT, to_other[:, SWAP] <= HIT
    known = own.isfinite() & own[:, SWAP].isfinite()
    wrong = known & (own > HIT)
    beside = wrong & (to_other <= HIT)
    found = {
        "found": known & (own <= HIT),
        "both on one": beside & other_there,
        "exchanged": beside & ~other_there & other_here,
        "on the other's": beside & ~other_there & ~other_here,
    }
    return {**found, "elsewhere": wrong & ~beside}


def told(truth: GroundTruth, px: Tensor, groups: list[tuple[str, ...]]) -> tuple[float, float]:
    """Compute PCK@0.2 if the better order of both sides were known for each group of joints.

    Returns:
        PCK@0.2 and the share of people with an exchanged group, both in percent.
    """
    own = torch.from_numpy(truth.errors(px))
    swapped = torch.from_numpy(truth.errors(px[:, SWAP]))
    hit, known = own <= HIT, own.isfinite()
    touched = torch.zeros(len(px), dtype=torch.bool)
    for group in groups:
        mine = torch.tensor([name.partition("_")[2] in group for name in LSP14.keypoints])
        better = ((swapped <= HIT) & mine).sum(1) > ((own <= HIT) & mine).sum(1)
        hit = torch.where(better[:, None] & mine, swapped <= HIT, hit)
        touched |= better
    return 100 * float(hit[known].double().mean()), 100 * float(touched.double().mean())


def apart(logits: Tensor, cells: float, gap: float) -> Tensor:
    """Remove the weaker peak from the logits if both sides' peaks lie within `cells`.

    The joint that loses less moves to its next best peak, unless its log-probability falls by more
    than `gap`.
    """
    log = logits.flatten(2).log_softmax(2)
    side = logits.shape[-1]
    cell = torch.arange(side * side)
    for pair in PAIRS:
        peak = log[:, pair].argmax(2, keepdim=True)
        x, y = peak % side, peak // side
        together = ((x[:, 0] - x[:, 1]) ** 2 + (y[:, 0] - y[:, 1]) ** 2).squeeze(1) <= cells**2
        away = (cell % side - x) ** 2 + (cell // side - y) ** 2 > cells**2
        elsewhere = log[:, pair].masked_fill(~away, -torch.inf)
        loss = log[:, pair].amax(2) - elsewhere.amax(2)
        moved = loss.argmin(1)
        for side_index, joint in enumerate(pair):
            rows = together & (moved == side_index) & (loss[:, side_index] < gap)
            log[rows, joint] = elsewhere[rows, side_index]
    return log.view(logits.shape)


def smooth(logits: Tensor, deviation: float) -> Tensor:
    """Blur the heatmaps by a Gaussian of this many cells, and return logits."""
    at = torch.arange(-4, 5)
    bell = torch.exp(-(at**2) / (2 * deviation**2))
    kernel = (bell[:, None] * bell / bell.sum() ** 2).expand(logits.shape[1], 1, 9, 9)
    maps = logits.flatten(2).softmax(2).view(logits.shape)
    return F.conv2d(maps, kernel, padding=4, groups=logits.shape[1]).clamp(min=1e-20).log()


def keypoints_px(logits: Tensor, affines: Tensor) -> Tensor:
    """Decode keypoints (N, K, 2) in pixels of the photographs."""
    return transform(affines, decode(logits, window=2)[0])


rows: list[tuple[str, ...]] = [("part", "joint", *KINDS)]
figure, panels = new_figure("Where the joints of both sides are put", len(PARTS), 9.6)
figure.set_figheight(3.4)
for axes, (name, (overrides, split)) in zip(panels, PARTS.items(), strict=True):
    truth, logits, affines = look(overrides, split)
    px = keypoints_px(logits, affines)
    found = kinds(truth, px)
    for y, joint in enumerate(("all", *JOINTS)):
        ours = sum(PAIRS, ()) if joint == "all" else PAIRS[JOINTS.index(joint)]
        counts = [int(found[kind][:, list(ours)].sum()) for kind in KINDS]
        shares = [100 * count / sum(counts) for count in counts]
        rows.append((name, joint, *(f"{share:.1f}" for share in shares)))
        left = 0.0
        for share, (kind, colour) in zip(shares, KINDS.items(), strict=True):
            axes.barh(y, share, 0.7, left, color=colour, label=kind if y == 0 else None)
            if kind == "found":
                axes.annotate(f"{share:.0f}", (share - 2, y), ha="right", va="center", color=INK)
            left += share
    axes.set_yticks(range(len(JOINTS) + 1), ["all", *JOINTS])
    axes.set(xlim=(0, 100), xlabel="% of the labelled joints", title=name)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    scores = truth.score(px)
    print(f"{name}: PCK@0.2 {100 * scores['pck@0.2']:.1f} %")
    body = [("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]
    for who, groups in {
        "the person": body,
        "arms, legs": [body[0][:3], body[0][3:]],
        "each pair": [(joint,) for joint in JOINTS],
    }.items():
        reached, people = told(truth, px, groups)
        print(f"  sides of {who} known: {reached:.1f} %, exchanged in {people:.1f} % of the people")
handles, labels = panels[0].get_legend_handles_labels()
figure.legend(
    handles, labels, loc="outside lower center", ncols=5, frameon=False, labelcolor=INK, fontsize=9
)
save_figure(figure, HERE / "sides.png")
with (HERE / "sides.csv").open("w", encoding="utf-8", newline="") as file:
    csv.writer(file, lineterminator="\n").writerows(rows)
for row in rows:
    print(*row, sep="\t")

for name, (overrides, split) in CHOSEN_ON.items():
    truth, logits, affines = look(overrides, split)
    ways = {"the peak": logits}
    ways |= {f"apart, gap {gap:g}": apart(logits, 3, gap) for gap in (0.5, 1, 2)}
    ways |= {f"blurred by {cells:g} cells": smooth(logits, cells) for cells in (0.7, 1, 1.5, 2)}
    for way, changed in ways.items():
        px = keypoints_px(changed, affines)
        s = truth.score(px)
        near, nearer, px_off = 100 * s["pck@0.2"], 100 * s["pck@0.1"], s["epe_px"]
        print(f"{name} {way}: PCK@0.2 {near:.2f} %, PCK@0.1 {nearer:.2f} %, EPE {px_off:.2f} px")
