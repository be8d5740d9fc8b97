"""Plot accuracy over milliseconds to tradeoff.png: ``python experiments/005-speed/plot.py``."""

from pathlib import Path

from matplotlib.ticker import NullFormatter

from convpose.plot.curves import BLUE, INK, MUTED, ORANGE, new_figure

# ms from JPEG to keypoints on one thread; PCK@0.2 of the 12 limb joints on LSPET and LSP test, None
# where it was not measured; all but convpose's milliseconds come from another processor
POINTS = (
    ("convpose", 3.9, 61.1, 72.6),
    ("MoveNet Lightning", 6.2, 60.4, 83.6),
    ("MoveNet Thunder", 28.8, 67.0, 87.8),
    ("MediaPipe lite", 25, None, 79.4),
    ("MediaPipe heavy", 63, 46.9, 86.9),
)
PANELS = ("LSPET test, box crop", "LSP test, whole frame")

figure, row = new_figure("PCK@0.2 of 12 limb joints against time, one thread", 2, 9.6)
for panel, (axes, title) in enumerate(zip(row, PANELS, strict=True)):
    for name, ms, *pck in POINTS:
        if pck[panel] is None:
            continue
        ours = name.startswith("convpose")
        fill = BLUE if ours else "white"
        edge = BLUE if ours else ORANGE
        axes.plot(ms, pck[panel], "o", ms=9, mfc=fill, mec=edge, mew=1.8)
        below = ours or name.startswith("MediaPipe")
        beside = name == "MoveNet Lightning"
        shift = (9, -4) if beside else (0, -18 if below else 9)
        side = "left" if beside else "center"
        axes.annotate(name, (ms, pck[panel]), shift, textcoords="offset points", ha=side, color=INK)
    axes.axvline(6.2, color=MUTED, linewidth=1, linestyle="--")
    axes.set(xscale="log", xlim=(2, 160), ylim=(40, 95), xlabel="ms from JPEG to keypoints")
    axes.set_xticks([3, 6, 12, 25, 50], ["3", "6", "12", "25", "50"])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(title, fontsize=10, color=INK, loc="left")
row[0].set_ylabel("PCK@0.2 %")
figure.savefig(Path(__file__).with_name("tradeoff.png"), dpi=110)
