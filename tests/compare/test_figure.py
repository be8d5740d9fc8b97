"""Make what a paper takes from a comparison: intervals, a figure and a table in LaTeX."""

import json
import zlib

import numpy as np
import pytest
from compare.fake_runs import fake_run
from compare.test_compare import compare  # noqa: F401  a fixture
from scipy import stats

from convpose.compare.comparison import read_comparison
from convpose.compare.settings import seed_table

GOOD, BAD = (0.50, 0.60, 0.70), (0.48, 0.57, 0.66)


def study(folder, *settings):
    """One run for each seed of each setting; a setting lists its (seed, PCK)."""
    for number, results in enumerate(settings):
        for seed, pck in results:
            rate = f"optimizer.lr={10.0**-number:g}"
            fake_run(folder / f"{number}_{seed}", rate, f"seed={seed}", pck=pck)
    return folder


def intervals(folder):
    table = seed_table(read_comparison([folder], folder))
    place = table.header.index("to the best, 95 %")
    return [row[place] for row in table.rows]


def test_settings_that_share_seeds_are_compared_seed_by_seed(tmp_path):
    best, other = intervals(study(tmp_path, enumerate(GOOD), enumerate(BAD)))
    differences = 100 * (np.array(BAD) - GOOD)
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(3)
    assert best == ""
    assert other == f"-3.0 [{-3 - half:+.1f}, {-3 + half:+.1f}]" == "-3.0 [-5.5, -0.5]"


def test_settings_of_other_seeds_are_compared_as_two_samples(tmp_path):
    _, other = intervals(study(tmp_path, enumerate(GOOD), [(i + 7, p) for i, p in enumerate(BAD)]))
    a, b = 100**2 * np.var(GOOD, ddof=1) / 3, 100**2 * np.var(BAD, ddof=1) / 3
    half = stats.t.ppf(0.975, (a + b) ** 2 / ((a**2 + b**2) / 2)) * np.sqrt(a + b)
    assert other == f"-3.0 [{-3 - half:+.1f}, {-3 + half:+.1f}]" == "-3.0 [-24.7, +18.7]"


@pytest.mark.parametrize(
    ("others", "said"),
    [([(0, 0.4)], "-15.0"), ([(0, 0.45), (1, 0.55)], "-5.0 [-5.0, -5.0]")],
)
def test_one_run_has_no_interval_and_equal_differences_a_narrow_one(tmp_path, others, said):
    assert intervals(study(tmp_path, [(0, 0.5), (1, 0.6)], others)) == ["", said]


def test_test_results_stand_beside_those_of_the_validation(tmp_path):
    folder = study(tmp_path, enumerate(GOOD))
    for seed in range(3):
        (folder / f"0_{seed}" / "evaluate_test").mkdir()
        measures = {"pck@0.2": 0.4 + seed / 10, "epe_px": None, "per_joint": {}}
        (folder / f"0_{seed}/evaluate_test/metrics.json").write_text(json.dumps(measures))
    comparison = read_comparison([folder], folder)
    assert comparison.column("test/pck@0.2").texts == ["60.0", "50.0", "40.0"]
    assert comparison.column("test/epe_px") is None
    table = seed_table(comparison)
    assert dict(zip(table.header, table.rows[0], strict=True))["test PCK@0.2 %"] == "50.0 ± 10.0"


def test_a_figure_and_its_table(compare, tmp_path):  # noqa: F811
    study(tmp_path / "runs", enumerate(GOOD), enumerate(BAD))
    ended = compare("study=runs", "figure=paper/out.pdf")
    assert (ended.code, ended.err) == (0, "")
    assert "written: paper/out.pdf, paper/out_table.tex" in ended.out
    assert "INFO" not in ended.out, "fontTools tells of each table of each font"
    content = (tmp_path / "paper/out.pdf").read_bytes()
    assert b"/FontFile2" in content, "the font is in the file, as TrueType"
    streams = content.split(b"stream\n")[1::2]
    drawn = b"".join(zlib.decompress(s) for s in streams if s[:1] == b"x" and b"\nend" in s)
    assert drawn.count(b" l\n") > 10, "lines, not a picture"
    assert b"/Subtype /Image" not in content
    lines = (tmp_path / "paper/out_table.tex").read_text().splitlines()
    assert lines[1:4] == [
        r"\begin{tabular}{lrrrrr}",
        r"\toprule",
        r"lr & seeds & PCK@0.2 \% & to the best, 95 \% & EPE px & val/loss \\",
    ]
    assert r"1 & 3 & 60.0 $\pm$ 10.0 & " in lines[5]
    assert lines[-3:] == [lines[-3], r"\bottomrule", r"\end{tabular}"]


def test_runs_without_seeds_are_drawn_by_what_differs(compare, tmp_path):  # noqa: F811
    study(tmp_path / "runs", [(0, 0.3)], [(0, 0.4)])
    assert compare("study=runs", "figure=out.svg").code == 0
    text = (tmp_path / "out.svg").read_text()
    assert "lr 0.1" in text
    assert "lr 1" in text
