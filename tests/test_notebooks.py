"""The notebooks hold no output, and run from end to end on the synthetic people."""

import os
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="pip install 'convpose[notebooks]'")
nbclient = pytest.importorskip("nbclient", reason="pip install 'convpose[notebooks]'")
pytest.importorskip("ipykernel", reason="pip install 'convpose[notebooks]'")

CHECKOUT = Path(__file__).parent.parent
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
# pictures that a notebook shows at least, and what it says
SHOWN = {
    "01_data": (7, ["images of synthetic", "impossible 0.00 %", "0 of 63 known pairs"]),
    "02_errors_by_joint": (10, ["Per trunk angle", "Per joint", "worst"]),
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


def run(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Execute a notebook in a folder; the number of its pictures, and all that it printed."""
    known = [os.environ.get("PYTHONPATH"), str(CHECKOUT)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, known)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("CONVPOSE_RUN", "CONVPOSE_STUDY"):
        monkeypatch.delenv(name, raising=False)
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
@pytest.mark.archive
@pytest.mark.skipif("CONVPOSE_DATA" not in os.environ, reason="CONVPOSE_DATA is not set")
def test_the_data_notebook_reads_the_archives(tmp_path, monkeypatch) -> None:
    pictures, text = run(NOTEBOOKS[0], tmp_path, monkeypatch)
    assert pictures >= 14
    for words in ("images of lspet", "lspet – lspet", "lsp – lsp", "63 of 63 known pairs"):
        assert words in text, words
