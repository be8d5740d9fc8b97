"""Score one look and two looks of the packaged network at whole frames of validation images.

``python experiments/019-looks/looks.py [OVERRIDE…]``; the overrides are of `convpose.evaluate`'s
data, such as ``paths.data=FOLDER``. It prints a table, and writes looks.csv and looks.png
beside this file.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from convpose.data import crop
from convpose.data.build import build_datamodule
from convpose.evaluate.predictions import Predictions
from convpose.evaluate.scoring import GroundTruth, look_again, predict
from convpose.files import conf_folder
from convpose.plot.curves import BLUE, INK, MUTED, new_figure, save_figure
from convpose.runtime.packaged import load_packaged

HERE = Path(__file__).parent
SETS = {
    "LSPET": ("data=lspet", "data.split=paper", "data.crop=letterbox"),
    "LSP": ("data=lsp",),
}
# lowest score of a keypoint that counts, how many have to; the last pair is the default
CHOICES = ((0.0, 0), (0.2, 3), (0.4, 3), (0.5, 3), (0.3, 3))


def measures(truth: GroundTruth, predictions: Predictions) -> list[float]:
    """Return PCK@0.2 of the 12 limb joints and of all 14, in percent."""
    scored = truth.score(torch.from_numpy(predictions.keypoints_px))
    return [round(100 * pck, 2) for pck in (scored["limbs"]["pck@0.2"], scored["pck@0.2"])]


def draw(rows: Sequence[Sequence[object]]) -> None:
    """Draw PCK@0.2 of the limb joints, one bar a row of the table and one panel a data set."""
    figure, panels = new_figure("Whole frames: one look, and two by the trust", len(SETS), 8.4)
    figure.set_figheight(2.8)
    for axes, name in zip(panels, SETS, strict=True):
        own = sorted((row for row in rows if row[0] == name), key=lambda row: str(row[3:5]))
        for y, (_, _, looks, _, _, limbs, _) in enumerate(own):
            axes.barh(y, float(str(limbs)), 0.7, color=MUTED if looks == 1 else BLUE)
            axes.annotate(f"{limbs:.1f}", (1, y), va="center", color="white")
        labels = ["one look", *(f"score ≥ {row[3]}" for row in own[1:])]
        axes.set_yticks(range(len(own)), labels, color=INK)
        axes.set(xlabel="PCK@0.2 of limb joints, %", title=f"{name} validation")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    save_figure(figure, HERE / "looks.png")


def main() -> None:
    """Measure both data sets."""
    packaged = load_packaged(accelerator="cpu", precision="32-true")
    torch.set_num_threads(1)
    rows: list[list[object]] = []
    for name, overrides in SETS.items():
        size = f"data.input_size_px={packaged.spec.input_size_px}"
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            cfg = compose("evaluate", [*overrides, size, *sys.argv[1:]])
        data = build_datamodule(cfg)
        data.setup()

        def network(crops: torch.Tensor) -> dict[str, torch.Tensor]:
            with torch.inference_mode():
                output: dict[str, torch.Tensor] = packaged.model(crops)
            return output

        truth = GroundTruth.of(data.datasets["val"], data.skeleton)
        first = predict(network, data.loader("val"), name)
        rows.append([name, len(truth.image_ids), 1, "", "", *measures(truth, first)])
        print(*rows[-1], flush=True)
        for crop.TRUSTED, crop.LEAST_TRUSTED in CHOICES:
            second = look_again(network, data, "val", first, packaged.spec.box_scale)
            used = [crop.TRUSTED, crop.LEAST_TRUSTED]
            rows.append([name, len(truth.image_ids), 2, *used, *measures(truth, second)])
            print(*rows[-1], flush=True)
    draw(rows)
    with (HERE / "looks.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["set", "images", "looks", "trusted", "least", "limbs", "joints"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
