"""Plot accuracy over milliseconds to tradeoff.png: ``python experiments/005-speed/plot.py``."""

from pathlib import Path

from matplotlib.ticker import NullFormatter

from convpose.plot.curves import BLUE, INK, ORANGE, new_figure

OURS = ("small", "large", "0.1.0")
# ms from JPEG to keypoints on one thread, PCK@0.2 of the 12 limb joints; MediaPipe full was timed
# beside small and large, 0.1.0 beside it on another day (3.9 ms to its 19.8), the others elsewhere
PANELS = {
    "LSP test, whole frame": (
        ("small", 9.2, 88.0, "above"),
        ("large", 30.1, 91.2, "above"),
        ("0.1.0", 6.6, 72.6, "below"),
        ("MoveNet Lightning", 6.2, 83.6, "below"),
        ("MoveNet Thunder", 28.8, 87.8, "below"),
        ("MediaPipe lite", 25, 79.4, "below"),
        ("MediaPipe heavy", 63, 86.9, "above"),
    ),
    "LSPET test, box crop": (
        ("small", 9.2, 72.6, "above"),
        ("large", 30.1, 77.2, "above"),
        ("0.1.0", 6.6, 61.1, "above"),
        ("MoveNet Lightning", 6.2, 60.4, "below"),
        ("MoveNet Thunder", 28.8, 67.0, "below"),
        ("MediaPipe heavy", 63, 46.9, "below"),
    ),
    "LSPET test, whole image, two looks": (
        ("small", 18.1, 69.9, "above"),
        ("large", 57.8, 75.7, "above"),
        ("MoveNet Thunder", 28.8, 45.8, "right"),
        ("MediaPipe lite", 25, 52.1, "left"),
        ("MediaPipe full", 33.5, 57.6, "left"),
        ("MediaPipe heavy", 63, 62.4, "above"),
    ),
}
SHIFTS = {"above": (0, 9), "below": (0, -17), "left": (-9, -4), "right": (9, -4)}
SIDES = {"left": "right", "right": "left"}

figure, row = new_figure("PCK@0.2 of 12 limb joints against time, one thread", 3, 13.2)
for axes, (title, points) in zip(row, PANELS.items(), strict=True):
    for name, ms, pck, place in points:
        ours = name in OURS
        colour = BLUE if ours else ORANGE
        axes.plot(ms, pck, "o", ms=9, mfc=BLUE if ours else "white", mec=colour, mew=1.8)
        text = {"ha": SIDES.get(place, "center"), "color": INK, "fontsize": 9}
        axes.annotate(name, (ms, pck), SHIFTS[place], textcoords="offset points", **text)
    axes.set(xscale="log", xlim=(2, 160), ylim=(40, 95), xlabel="ms from JPEG to keypoints")
    axes.set_xticks([3, 6, 12, 25, 50, 100], ["3", "6", "12", "25", "50", "100"])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title, fontsize=10, color=INK, loc="left")
row[0].set_ylabel("PCK@0.2 %")
figure.savefig(Path(__file__).with_name("tradeoff.png"), dpi=110)
