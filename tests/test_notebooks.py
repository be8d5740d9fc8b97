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
KernelManager = pytest.importorskip("jupyter_client").KernelManager

CHECKOUT = Path(__file__).parent.parent
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
# pictures that a notebook shows at least, and what it says
SHOWN = {
    "01_data": (7, ["images of synthetic", "impossible 0.00 %", "0 of 63 known pairs"]),
    "02_errors_by_joint": (10, ["Per torso angle", "Per joint", "worst"]),
    "03_sweep": (2, ["tiny: 8 runs", "importance (fANOVA)", "optimizer.lr"]),
}
SHORTER = {  # the same on fewer people
    "01_data": {"PEOPLE = 2000": "PEOPLE = 60"},
    "02_errors_by_joint": {"max_epochs=6": "max_epochs=1", "num_images=320": "num_images=100"},
    "03_sweep": {"max_epochs=3": "max_epochs=1", "num_images=120": "num_images=60"},
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


@pytest.fixture(scope="module")
def kernel():
    """One process for all notebooks: most of the time of each goes into its imports."""
    manager = KernelManager()
    with pytest.MonkeyPatch.context() as patch:
        known = [os.environ.get("PYTHONPATH"), str(CHECKOUT), str(CHECKOUT / "notebooks")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, known)))
        patch.setenv("OMP_NUM_THREADS", "1")
        manager.start_kernel()
    yield manager
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def run(path: Path, folder: Path, kernel: KernelManager, **told: object) -> tuple[int, str]:
    """Execute a notebook in a folder; the number of its pictures, and all that it printed.

    Args:
        told: environment variables of the notebook, which knows no others of ours.
    """
    notebook = nbformat.read(path, 4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for long, short in SHORTER[path.stem].items():
        (found,) = (cell for cell in cells if long in cell.source)
        found.source = found.source.replace(long, short)
    begin = f"""%reset -f
import os
for name in ("CONVPOSE_RUN", "CONVPOSE_STUDY", "CONVPOSE_DATA"):
    os.environ.pop(name, None)
os.environ.update({ {n: str(v) for n, v in told.items()} })
os.chdir({str(folder)!r})"""
    notebook.cells.insert(0, nbformat.v4.new_code_cell(begin))
    client = nbclient.NotebookClient(notebook, timeout=600, km=kernel)
    try:
        client.execute()
    finally:
        client.kc.stop_channels()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output.get("data", {}) for output in outputs]
    texts = [output.get("text", "") for output in outputs]
    texts += [str(content.get("text/html", content.get("text/plain", ""))) for content in data]
    return sum("image/png" in content for content in data), re.sub("<[^>]+>", "", "\n".join(texts))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_on_synthetic_people(path, tmp_path, kernel) -> None:
    pictures, text = run(path, tmp_path, kernel)
    least, said = SHOWN[path.stem]
    assert pictures >= least
    for words in said:
        assert words in text, words


@pytest.mark.slow
def test_the_importances_of_a_search_are_those_of_its_database(tmp_path, kernel) -> None:
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
    text = run(NOTEBOOKS[2], tmp_path, kernel, CONVPOSE_STUDY=folder)[1]
    assert "search: 4 runs" in text
    assert re.search(r"model\.dropout +100 %", text)


@pytest.mark.slow
@pytest.mark.archive
@pytest.mark.skipif("CONVPOSE_DATA" not in os.environ, reason="CONVPOSE_DATA is not set")
def test_the_data_notebook_reads_the_archives(tmp_path, kernel) -> None:
    pictures, text = run(NOTEBOOKS[0], tmp_path, kernel, CONVPOSE_DATA=os.environ["CONVPOSE_DATA"])
    assert pictures >= 14
    for words in ("images of lspet", "lspet – lspet", "lsp – lsp", "63 of 63 known pairs"):
        assert words in text, words
