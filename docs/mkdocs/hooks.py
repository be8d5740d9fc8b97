"""Add the lab book and the notebooks to the site, and turn LaTeX into MathML.

Both are read from their folders; a new study or notebook is picked up. Pages link to the lab book
as they do on the disk (``../experiments/…``). Browsers draw MathML without a script.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))  # a hook is no package
import notebooks

ROOT = Path(__file__).parents[2]
FORMULA = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _title(page: Path) -> str:
    return page.read_text("utf-8").partition("\n")[0].removeprefix("# ")


def on_config(config: Any) -> Any:
    """List the questions of the studies below the lab book's first page, and the notebooks."""
    entries = {name: pages for part in config.nav for name, pages in part.items()}
    studies = sorted(ROOT.glob("experiments/[0-9]*/README.md"))
    questions = [
        {_title(study).partition(" ")[2]: study.relative_to(ROOT).as_posix()} for study in studies
    ]
    entries["Lab book"].append({"By question": questions})
    entries["Notebooks"] += [f"notebooks/{path.stem}.md" for path in _notebooks()]
    return config


def _notebooks() -> list[Path]:
    return sorted(ROOT.glob("notebooks/*.ipynb"))


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the lab book, the files that they show or link to, and the notebooks.

    With CONVPOSE_NOTEBOOKS set the notebooks are executed, which takes minutes.
    """
    for path in sorted(ROOT.glob("experiments/**/*")):
        if path.is_file():
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    for path in _notebooks():
        text = notebooks.page(path, executed=bool(os.environ.get("CONVPOSE_NOTEBOOKS")))
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Turn links out of ``docs/`` into links of the site, and LaTeX into MathML."""
    markdown = markdown.replace("](../experiments/", "](experiments/")
    markdown = markdown.replace(" ± ", "\u00a0±\u00a0")  # a number stays beside its deviation
    return FORMULA.sub(lambda match: f'<div class="formula">{_mathml(match[1])}</div>', markdown)


def _mathml(latex: str) -> str:
    return "".join(convert(line, display="block") for line in latex.split("\n\n") if line.strip())
