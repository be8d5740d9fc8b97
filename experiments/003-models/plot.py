"""Draw what the networks find of the limb joints, beside MoveNet and MediaPipe: reached.png.

``python experiments/003-models/plot.py``; the numbers are those of this page and of README.md.
"""

from pathlib import Path

from convpose.plot.curves import BLUE, INK, MUTED, new_figure, save_figure

LIMBS = {  # PCK@0.2 of 12 joints: LSP test, whole frame; LSPET test, box
    "convpose 0.1": (72.6, 61.1),
    "MoveNet Lightning": (83.6, 60.4),
    "MediaPipe heavy": (86.9, 46.9),
    "MoveNet Thunder": (87.8, 67.0),
    "small": (88.0, 72.6),
    "large": (91.2, 77.2),
}


def main() -> None:
    """Draw one panel a data set."""
    figure, panels = new_figure("Limb joints found in photographs, PCK@0.2 in %", 2, 8.4)
    figure.set_figheight(2.9)
    titles = "LSP test, whole frame", "LSPET test, box"
    for axes, title, values in zip(panels, titles, zip(*LIMBS.values(), strict=True), strict=True):
        for y, (name, value) in enumerate(zip(LIMBS, values, strict=True)):
            axes.barh(y, value, 0.7, color=BLUE if name in ("small", "large") else MUTED)
            axes.annotate(f"{value:.1f}", (1, y), va="center", color="white")
        axes.set_yticks(range(len(LIMBS)), list(LIMBS), color=INK)
        axes.set(xlim=(0, 100), title=title)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    save_figure(figure, Path(__file__).with_name("reached.png"))


if __name__ == "__main__":
    main()
