"""`python -m convpose.compare`: folders in, a table and three files out; messages for the rest."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from compare.fake_runs import fake_run
from tiny import Ended

from convpose.compare.__main__ import main


@pytest.fixture
def compare(tmp_path, monkeypatch, capsys):
    """Calls the application with a command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        capsys.readouterr()
        code: int | str | None = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        return Ended(code, *capsys.readouterr())

    return call


def study(folder: Path, *rates: float) -> Path:
    for i, rate in enumerate(rates):
        fake_run(folder / f"t_{i}_x", f"optimizer.lr={rate}", pck=0.1 * (i + 1))
    return folder


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_a_study(compare, tmp_path):
    folder = study(tmp_path / "runs" / "rates", 0.1, 0.2, 0.3)
    (folder / "empty").mkdir()
    result = compare("study=runs/rates")
    assert (result.code, result.err) == (0, "")
    assert result.out.index("…_2") < result.out.index("…_1") < result.out.index("…_0")
    assert "  empty: an empty folder\n" in result.out
    assert result.out.endswith(
        "written to runs/rates: compare.csv, compare.md; open runs/rates/compare.html\n"
    )
    assert files(folder) == {"compare.csv", "compare.md", "compare.html"}
    with (folder / "compare.csv").open() as file:
        assert [row["optimizer.lr"] for row in csv.DictReader(file)] == ["0.3", "0.2", "0.1"]
    assert "| …_2 |      30.0 | 0.3 |" in (folder / "compare.md").read_text()
    assert "empty" in (folder / "compare.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}, "nothing else is written"
    again = compare("study=runs/rates")
    assert again.out == result.out, "its own files are no runs"


def test_folders_of_runs_and_studies(compare, tmp_path):
    study(tmp_path / "runs" / "a", 0.1, 0.2)
    study(tmp_path / "runs" / "b", 0.3)
    result = compare("runs=[runs/a/t_1_x,runs/b]", "output=out/here")
    assert result.code == 0
    assert "runs: 2 runs" in result.out
    assert files(tmp_path / "out/here") == {"compare.csv", "compare.md", "compare.html"}
    names = (tmp_path / "out/here/compare.csv").read_text().splitlines()[1:]
    assert [name.partition(",")[0] for name in names] == ["a/t_1_x", "b/t_0_x"]
    compare("runs=[runs/a/t_1_x,runs/a/t_0_x]")
    assert files(tmp_path / "runs/a") == set(), "that would be the study's own comparison"
    assert "compare.csv" in files(tmp_path / "runs")
    (tmp_path / "runs/b/t_0_x").rename(tmp_path / "runs/b/003_lr-0.3")
    assert "003_lr-0.3: 1 run" in compare("study=runs/b/3").out
    (tmp_path / "runs/b/003_lr-0.3").rename(tmp_path / "runs/b/t_0_x")
    everything = compare("study=runs")
    assert "runs: 3 runs" in everything.out
    alone = compare("runs=runs/b/t_0_x")
    assert "t_0_x: 1 run\n" in alone.out.replace(" \n", "\n").replace("  ", "")


def test_top_shortens_what_is_printed(compare, tmp_path):
    folder = study(tmp_path / "s", *range(1, 6))
    (folder / "x").mkdir()
    (folder / "y").mkdir()
    result = compare("study=s", "top=1")
    assert "…_4" in result.out
    assert "…_3" not in result.out
    assert "compare.html: 4 runs" in result.out
    assert result.out.count("an empty folder") == 1
    assert "  … and 1 more in compare.md\n" in result.out
    assert len((folder / "compare.md").read_text().splitlines()) > 8


NOTHING_NAMED = "name what to compare: study=runs/NAME, or runs=[FOLDER,FOLDER]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), NOTHING_NAMED),
        (("study=a", "runs=[b]"), NOTHING_NAMED),
        (("runs=[]",), NOTHING_NAMED),
        (("study=rates",), "rates: no such folder; did you mean runs/rates?"),
        (
            ("study=rate",),
            "rate: no such folder; type study=FOLDER or runs=[FOLDER,FOLDER], of runs that "
            "convpose.train wrote\nin runs there are: rates",
        ),
        (
            ("study=here",),
            "here: no run to compare; type study=FOLDER or runs=[FOLDER,FOLDER], of runs that "
            "convpose.train wrote\n  empty: an empty folder",
        ),
        (
            ("study=runs/rates", "output=file/out"),
            "output=file/out: cannot be written (Not a directory); type output=FOLDER",
        ),
        (("studdy=runs/rates",), "did you mean study?"),
    ],
    ids=str,
)
def test_refused(compare, tmp_path, arguments, message):
    study(tmp_path / "runs" / "rates", 0.1)
    (tmp_path / "here" / "empty").mkdir(parents=True)
    (tmp_path / "file").touch()
    before = {*tmp_path.rglob("*")}
    result = compare(*arguments)
    assert result.code == 2
    assert message in result.err
    assert {*tmp_path.rglob("*")} == before, "nothing is written"


def test_a_real_run(compare, tmp_path, unbroken):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "real").symlink_to(unbroken)
    assert compare("study=runs").code == 0
    with (tmp_path / "runs" / "compare.csv").open() as file:
        (row,) = csv.DictReader(file)
    best = json.loads((unbroken / "metrics.json").read_text())
    assert float(row["val/pck@0.2"]) == best["val/pck@0.2"]
    assert float(row["val/loss"]) == best["val/loss"]
    assert (row["best_epoch"], row["epochs"]) == (str(int(best["epoch"]) + 1), "4")
    assert f"{int(row['parameters']):,} parameters" in (unbroken / "layers.md").read_text()
    assert row["state"] == "finished"
    assert '"right ankle"' in (tmp_path / "runs" / "compare.html").read_text()


def test_it_needs_no_torch(tmp_path):
    study(tmp_path / "s", 0.1, 0.2)
    code = (
        "import sys, convpose.compare.__main__\n"
        "sys.argv = ['compare', 'study=s']\n"
        "convpose.compare.__main__.main()\n"
        "print({'torch', 'lightning', 'cv2', 'matplotlib', 'pandas'} & set(sys.modules))\n"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.stdout.endswith("set()\n"), result.stdout + result.stderr
