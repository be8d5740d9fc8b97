"""The notebooks hold no output, and run from end to end on the synthetic people."""

import os
import re
from pathlib import Path

import optuna
import pytest
from compare.fake_runs import fake_run

nbformat = pytest.importorskip("nbformat", reason="pip install 'convpose[notebooks]'")
nbclient = pytest.importorskip("nbclient", reason="pip install 'convpose[notebooks]'")
pytest.importorskip("ipykernel", reason="pip install 'convpose[notebooks]'")

CHECKOUT = Path(__file__).parent.parent
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
# pictures that a notebook shows at least, and what it says
SHOWN = {
    "01_data": (7, ["images of synthetic", "impossible 0.00 %", "0 of 63 known pairs"]),
    "02_errors_by_joint": (10, ["Per torso angle", "Per joint", "worst"]),
    "03_sweep": (2, ["tiny: 8 runs", "importance (fANOVA)", "optimizer.lr"]),
}


def test_every_notebook_is_expected_to_show_something() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_committed(path: Path) -> None:
    """Outputs may show photographs, whose rights are not ours to give; none is kept at all."""
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    for cell in notebook.cells:
        assert not cell.get("outputs"), "strip: jupyter nbconvert --clear-output --inplace FILE"
        assert cell.get("execution_count") is None
        assert not cell.get("attachments")
        assert "data:image" not in cell.source


def run(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, study: Path | None = None
) -> tuple[int, str]:
    """Execute a notebook in a folder; the number of its pictures, and all that it printed."""
    known = [os.environ.get("PYTHONPATH"), str(CHECKOUT), str(CHECKOUT / "notebooks")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, known)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("CONVPOSE_RUN", "CONVPOSE_STUDY"):
        monkeypatch.delenv(name, raising=False)
    if study is not None:
        monkeypatch.setenv("CONVPOSE_STUDY", str(study))
    notebook = nbformat.read(path, 4)
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output.get("data", {}) for output in outputs]
    texts = [output.get("text", "") for output in outputs]
    texts += [str(content.get("text/html", content.get("text/plain", ""))) for content in data]
    return sum("image/png" in content for content in data), re.sub("<[^>]+>", "", "\n".join(texts))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_on_synthetic_people(path, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("CONVPOSE_DATA", raising=False)
    pictures, text = run(path, tmp_path, monkeypatch)
    least, said = SHOWN[path.stem]
    assert pictures >= least
    for words in said:
        assert words in text, words


@pytest.mark.slow
def test_the_importances_of_a_search_are_those_of_its_database(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "search"
    for i, lr in enumerate((0.01, 0.02, 0.04, 0.08)):
        keys = (f"optimizer.lr={lr}", f"data.batch_size={8 * 2 ** (i % 2)}")
        fake_run(folder / f"t_{i}", *keys, pck=0.1 * i)
    search = optuna.create_study(storage=f"sqlite:///{folder / 'study.db'}", direction="maximize")
    only_there = {"model.dropout": optuna.distributions.FloatDistribution(0, 1)}
    for value in (0.1, 0.4, 0.6, 0.9):
        params = {"model.dropout": value}
        search.add_trial(
            optuna.create_trial(params=params, distributions=only_there, value=value / 2)
        )
    text = run(NOTEBOOKS[2], tmp_path, monkeypatch, folder)[1]
    assert "search: 4 runs" in text
    assert re.search(r"model\.dropout +100 %", text)


@pytest.mark.slow
@pytest.mark.archive
@pytest.mark.skipif("CONVPOSE_DATA" not in os.environ, reason="CONVPOSE_DATA is not set")
def test_the_data_notebook_reads_the_archives(tmp_path, monkeypatch) -> None:
    pictures, text = run(NOTEBOOKS[0], tmp_path, monkeypatch)
    assert pictures >= 14
    for words in ("images of lspet", "lspet – lspet", "lsp – lsp", "63 of 63 known pairs"):
        assert words in text, words
