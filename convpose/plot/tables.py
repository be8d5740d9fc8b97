"""Tabulate the measures of a subset, for the terminal and for Markdown.

A `Table` is rows of text; `to_rich` and `to_markdown` render the same rows, so that a README and a
terminal never disagree. The measures are those of `PoseMetrics.compute` (or ``metrics.json``). They
stand beside the mean pose's, the constant guess that every result must beat.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import rich.box
import rich.table
from rich.markup import escape

Measures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of text; the first column names, the others are numbers.

    Attributes:
        title, caption: above and below; an empty caption is left out.
        header: column names.
        rows: as many cells each as `header`.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def to_rich(self) -> rich.table.Table:
        """Render the table for ``rich.print``."""
        table = rich.table.Table(
            title=escape(self.title),
            caption=escape(self.caption) or None,
            box=rich.box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
            title_style="bold",
            title_justify="left",
            caption_justify="left",
        )
        for i, name in enumerate(self.header):
            table.add_column(
                escape(name),
                justify="right" if i else "left",
                style="" if i == 0 else "bold cyan" if i == 1 else "dim",  # 1: the main metric
                no_wrap=i == 0,  # long headers may wrap, names may not
            )
        for row in self.rows:
            table.add_row(*map(escape, row))
        return table

    def to_markdown(self) -> str:
        """Render title, pipe table and caption as Markdown, ending in a newline."""
        cells = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        lines = [
            "| " + " | ".join(_pad(cell, width, i) for i, (cell, width) in enumerate(row)) + " |"
            for row in (zip(line, widths, strict=True) for line in (cells[0], rule, *cells[1:]))
        ]
        caption = ["", self.caption] if self.caption else []
        return "\n".join([f"**{self.title}**", "", *lines, *caption]) + "\n"


def percent(fraction: float) -> str:
    """Write 83.4 for 0.834; a dash for NaN, where nothing was counted."""
    return _number(100 * fraction, "{:.1f}")


def pixels(distance_px: float) -> str:
    """Write 8.26 for 8.2591."""
    return _number(distance_px, "{:.2f}")


def five_digits(error: float) -> str:
    """Write 0.02850: mean squared errors differ in the last digits."""
    return _number(error, "{:.5f}")


class Metric(NamedTuple):
    """Say how a metric is shown.

    Attributes:
        name: for people.
        write: number to text, without the unit.
        unit: ``%``, ``px`` or nothing.
        less_is_better: whether a lower value is a better one.
    """

    name: str
    write: Callable[[float], str] = "{:.4g}".format
    unit: str = ""
    less_is_better: bool = False

    @property
    def title(self) -> str:
        """Return the heading of a column."""
        return f"{self.name} {self.unit}".strip()

    def sentence(self, value: float) -> str:
        """Write name, value and unit: ``PCK@0.2 61.3 %``."""
        return f"{self.name} {self.write(value)} {self.unit}".strip()


METRICS = {  # in the order of columns
    "val/pck@0.2": Metric("PCK@0.2", percent, "%"),
    "val/auc": Metric("AUC", percent, "%"),
    "val/epe_px": Metric("EPE", pixels, "px", less_is_better=True),
    "val/loss": Metric("val/loss", less_is_better=True),
    "val/pck@0.1": Metric("PCK@0.1", percent, "%"),
    "val/pcp@0.5": Metric("PCP@0.5", percent, "%"),
    "val/mse_unit": Metric("MSE [0, 1]", five_digits, less_is_better=True),
    "val/spread": Metric("spread", "{:.3f}".format),
    "test/pck@0.2": Metric("test PCK@0.2", percent, "%"),
    "test/epe_px": Metric("test EPE", pixels, "px", less_is_better=True),
}


def metric_of(name: str) -> Metric:
    """Look up how a metric is shown; one that `METRICS` lacks is shown by its own name."""
    return METRICS.get(name, Metric(name))


def headline(measures: Measures, baseline: Measures, title: str = "Result") -> Table:
    """Tabulate every total beside the mean pose's; the caption has the counts."""
    rows: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("PCK@0.2 %", "pck@0.2", percent),
        ("PCK@0.1 %", "pck@0.1", percent),
        ("AUC 0–0.2 %", "auc", percent),
        ("PCKh@0.5 %", "pckh@0.5", percent),
        ("PCKh@0.1 %", "pckh@0.1", percent),
        ("PCP@0.5 strict %", "pcp@0.5", percent),
        ("EPE px", "epe_px", pixels),
        ("NME %", "nme", percent),
        ("MSE [0, 1]", "mse_unit", five_digits),
        ("MSE [−1, 1]", "mse_pm1", five_digits),
        ("MSE squared distance", "mse_sq", five_digits),
    )
    return Table(
        title,
        ("measure", "value", "mean pose"),
        [
            (name, show(measures[key]), show(baseline[key]))
            for name, key, show in rows
            if key in measures and (key != "pcp@0.5" or measures["per_stick"])
        ],
        counts(measures),
    )


def totals(measures: Measures) -> dict[str, Any]:
    """Keep the measures that are plain numbers, without those by joint, part or stick."""
    return {key: value for key, value in measures.items() if isinstance(value, int | float)}


def counts(measures: Measures) -> str:
    """Write the counts in one line: images, keypoints, and how the sizes were found."""
    size = measures.get("normaliser", "torso").replace("_", " ")
    fallbacks = f"{measures['torso_fallbacks']} by the other diagonal, " if size == "torso" else ""
    return (
        f"{measures['num_images']:,} images, {measures['num_keypoints']:,} labelled keypoints; "
        f"{size}: {fallbacks}"
        f"{measures['torso_missing']} without (left out of PCK), "
        f"{measures['torso_degenerate']} under 5 px (kept)"
    )


def per_joint(measures: Measures, baseline: Measures) -> Table:
    """Tabulate PCK and EPE of every keypoint beside the mean pose's."""
    return _by_name("Per joint", "joint", measures["per_joint"], baseline["per_joint"])


def per_part(measures: Measures, baseline: Measures) -> Table:
    """Tabulate PCK and EPE of every body part, left and right together, beside the mean pose's."""
    return _by_name("Per part", "part", measures["per_part"], baseline["per_part"])


def per_stage(stages: Sequence[Measures]) -> Table:
    """Tabulate every stage of a cascade, and the milliseconds from a crop to its pose."""
    rows = [
        (
            str(number),
            percent(stage["pck@0.2"]),
            percent(stage["pck@0.1"]),
            percent(stage["pcp@0.5"]),
            pixels(stage["epe_px"]),
            _number(stage["ms"], "{:.1f}"),
        )
        for number, stage in enumerate(stages, start=1)
    ]
    header = ("stage", "PCK@0.2 %", "PCK@0.1 %", "PCP@0.5 strict %", "EPE px", "ms")
    return Table("Stages", header, rows, "ms: from one crop to the pose of this stage")


def average_precision(oks: Measures) -> Table:
    """Tabulate COCO's own measures."""
    shown = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR")
    caption = (
        f"{oks['num_people']:,} people of {oks['num_images']:,} images, {oks['joints']} joints; "
        "M, L: medium and large people; computed by pycocotools"
    )
    row = (oks["boxes"], *(percent(oks[name]) for name in shown))
    return Table("COCO keypoints, %", ("boxes", *shown), [row], caption)


def per_part_by_head(measures: Measures, baseline: Measures) -> Table:
    """Tabulate PCKh of every body part."""
    named = (("PCKh@0.5 %", measures), ("mean pose", baseline))
    rows = [
        (name, *(percent(share) for share in of["pckh_per_part"].values()), percent(of["pckh@0.5"]))
        for name, of in named
    ]
    header = ("", *measures["pckh_per_part"], "total")
    return Table("PCKh", header, rows, "0.5 of 0.6 of the diagonal of the head's box")


def per_stick(measures: Measures, baseline: Measures) -> Table:
    """Tabulate strict PCP of every stick beside the mean pose's."""
    rows = [
        (
            name.replace("_", " "),
            percent(value["pcp@0.5"]),
            percent(baseline["per_stick"][name]["pcp@0.5"]),
            f"{value['num_sticks']:,}",
        )
        for name, value in measures["per_stick"].items()
    ]
    return Table("Per stick", ("stick", "PCP@0.5 %", "mean pose", "sticks"), rows)


def per_torso_angle(measures: Measures, baseline: Measures) -> Table:
    """Tabulate PCK and EPE by how far people are from upright, see `metrics.pose_metrics`."""
    caption = "0 upright, 180 upside down; unknown: a hip, or shoulder and neck, missing"
    return _by_name("Per torso angle", "degrees", measures, baseline, "images", caption)


def report(measures: Measures, baseline: Measures, title: str = "Result") -> list[Table]:
    """Make the tables of a report: headline, body parts, joints, sticks."""
    sticks = [per_stick(measures, baseline)] if measures["per_stick"] else []
    return [
        headline(measures, baseline, title),
        per_part(measures, baseline),
        per_joint(measures, baseline),
        *sticks,
    ]


def _by_name(
    title: str,
    kind: str,
    groups: Measures,
    baseline: Measures,
    counted: str = "labelled",
    caption: str = "",
) -> Table:
    header = (kind, "PCK@0.2 %", "PCK@0.1 %", "EPE px", "mean pose @0.2", "mean pose px", counted)
    rows = [
        (
            name.replace("_", " "),
            percent(group["pck@0.2"]),
            percent(group["pck@0.1"]),
            pixels(group["epe_px"]),
            percent(baseline[name]["pck@0.2"]),
            pixels(baseline[name]["epe_px"]),
            f"{group['num_keypoints' if counted == 'labelled' else 'num_images']:,}",
        )
        for name, group in groups.items()
    ]
    return Table(title, header, rows, caption)


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else form.format(value)


def _pad(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)
