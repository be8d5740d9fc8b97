"""Turn notebooks into pages: as they are, or executed on synthetic people."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).parents[2]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def page(path: Path, executed: bool) -> str:
    """Turn a notebook into Markdown.

    Args:
        path: of the notebook.
        executed: runs it first, in an empty folder and without the archives, so that no photograph
            can come into the page.
    """
    notebook: Any = nbformat.read(path, 4)
    if executed:
        _execute(notebook)
    parts = []
    for cell in notebook.cells:
        code = cell.cell_type == "code"
        parts.append(f"```python\n{cell.source}\n```" if code else cell.source)
        outputs = [_output(output) for output in cell.get("outputs", [])]
        shown = "\n\n".join(filter(None, outputs))
        parts.append(
            shown.replace("\n```\n\n```text\n", "\n")
        )  # lines that were printed one by one
    return "\n\n".join(filter(None, parts)) + "\n"


def _execute(notebook: Any) -> None:
    from nbclient import NotebookClient

    paths = [str(ROOT), str(ROOT / "notebooks"), os.environ.get("PYTHONPATH", "")]
    dropped = ("CONVPOSE_DATA", "CONVPOSE_RUN", "CONVPOSE_STUDY")
    given = {name: value for name, value in os.environ.items() if name not in dropped}
    env = given | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=1200, resources=resources).execute(env=env)


def _output(output: Any) -> str:
    """Show a picture, a table or a text; what needs a script from elsewhere is left out."""
    data = output.get("data", {})
    if "image/png" in data:
        pixels = data["image/png"].replace("\n", "")
        return f'<img alt="Output of the cell above" src="data:image/png;base64,{pixels}">'
    if "application/vnd.plotly.v1+json" in data:
        return "*An interactive chart, in the notebook.*"
    if "text/html" in data and "<script" not in data["text/html"]:
        return f'<div class="output">{data["text/html"]}</div>'
    text = ANSI.sub("", output.get("text", "") or data.get("text/plain", ""))
    return (
        f"```text\n{text.rstrip()}\n```" if text.strip() and output.get("name") != "stderr" else ""
    )
