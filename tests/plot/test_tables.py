"""Tables show the numbers they are given, in the terminal and in Markdown alike."""

import math
from io import StringIO

import pytest
import torch
from rich.console import Console

from convpose.metrics.pose_metrics import PoseMetrics
from convpose.plot.tables import (
    Table,
    headline,
    per_joint,
    per_part,
    per_stick,
    per_torso_angle,
    percent,
    report,
)
from convpose.skeleton import LSP14


def measures(error: float, seed: int = 0) -> dict:
    draw = torch.Generator().manual_seed(seed)
    truth = torch.rand(30, 14, 2, generator=draw) * 150
    predicted = truth + torch.randn(30, 14, 2, generator=draw) * error
    visibility = torch.full((30, 14), 2)
    visibility[:, LSP14.index("head_top")] = 0
    metrics = PoseMetrics(LSP14)
    metrics.update(predicted, truth, visibility, predicted / 150, truth / 150)
    return metrics.compute()


GOOD, MEAN_POSE = measures(8), measures(40)


def in_terminal(table: Table, width: int = 80) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(table.to_rich())
    return console.export_text()


def test_headline_shows_all_totals_beside_the_mean_pose() -> None:
    rows = {name: (value, mean) for name, value, mean in headline(GOOD, MEAN_POSE).rows}
    assert rows["PCK@0.2 %"] == (
        f"{100 * GOOD['pck@0.2']:.1f}",
        f"{100 * MEAN_POSE['pck@0.2']:.1f}",
    )
    assert rows["EPE px"] == (f"{GOOD['epe_px']:.2f}", f"{MEAN_POSE['epe_px']:.2f}")
    assert rows["MSE [−1, 1]"][0] == f"{GOOD['mse_pm1']:.5f}"
    assert len(rows) == 9


def test_caption_counts() -> None:
    caption = headline(
        GOOD | {"num_images": 1500, "torso_fallbacks": 7, "torso_missing": 3}, MEAN_POSE
    ).caption
    for part in ("1,500 images", "390 labelled", "7 by the other diagonal", "3 without"):
        assert part in caption


def test_groups_have_a_row_each() -> None:
    joints, parts = per_joint(GOOD, MEAN_POSE), per_part(GOOD, MEAN_POSE)
    assert [row[0] for row in joints.rows] == [n.replace("_", " ") for n in LSP14.keypoints]
    assert [row[0] for row in parts.rows] == list(LSP14.parts)
    wrist = joints.rows[LSP14.index("left_wrist")]
    assert wrist[1] == percent(GOOD["per_joint"]["left_wrist"]["pck@0.2"])
    assert wrist[4] == percent(MEAN_POSE["per_joint"]["left_wrist"]["pck@0.2"])
    sticks = {row[0]: row for row in per_stick(GOOD, MEAN_POSE).rows}
    assert sticks["torso"][1] == percent(GOOD["per_stick"]["torso"]["pcp@0.5"])
    assert sticks["head"][1:] == ("–", "–", "0")


def test_nothing_counted_is_a_dash() -> None:
    assert percent(math.nan) == "–"
    assert percent(0.8344) == "83.4"
    head_top = per_joint(GOOD, MEAN_POSE).rows[LSP14.index("head_top")]
    assert head_top[1:4] == ("–", "–", "–")


def leaning() -> Table:
    group = {"pck@0.2": 0.8344, "pck@0.1": 0.5, "epe_px": 100.0, "num_images": 1500}
    nobody = {"pck@0.2": math.nan, "pck@0.1": math.nan, "epe_px": math.nan, "num_images": 0}
    groups = {"0-30": group, "unknown": nobody}
    return per_torso_angle(groups, groups)


def test_torso_angles_have_images_as_their_count() -> None:
    assert [tuple(row) for row in leaning().rows] == [
        ("0-30", "83.4", "50.0", "100.00", "83.4", "100.00", "1,500"),
        ("unknown", *["–"] * 5, "0"),
    ]
    assert leaning().header[-1] == "images"


TABLES = [*report(GOOD, MEAN_POSE), leaning()]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_an_80_column_terminal_shows_every_cell(table: Table) -> None:
    text = in_terminal(table)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for row in table.rows:
        (line,) = [line for line in text.splitlines() if line.strip().startswith(row[0] + "  ")]
        assert line.split()[-len(row) + 1 :] == list(row[1:])


def test_markdown_is_a_pipe_table() -> None:
    table = Table("T", ("name", "value"), [("a|b", "1.0"), ("c", "12.5")], caption="two rows")
    assert table.to_markdown() == (
        "**T**\n\n"
        "| name | value |\n"
        "| ---- | ----: |\n"
        "| a\\|b |   1.0 |\n"
        "| c    |  12.5 |\n"
        "\n"
        "two rows\n"
    )


def test_brackets_are_text_not_markup() -> None:
    text = in_terminal(headline(GOOD, MEAN_POSE, title="runs [bold]x"))
    assert "runs [bold]x" in text
    assert "MSE [0, 1]" in text
