"""Add the lab book to the site, and turn LaTeX into MathML.

The lab book is read from ``experiments/``; a new study is picked up. Pages link to it as they do on
the disk (``../experiments/…``). Browsers draw MathML without a script.
"""

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
FORMULA = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    """List the studies below the lab book's first page."""
    (book,) = (entry["Lab book"] for entry in config.nav if "Lab book" in entry)
    studies = sorted(ROOT.glob("experiments/[0-9]*/README.md"))
    book.extend({study.parent.name: study.relative_to(ROOT).as_posix()} for study in studies)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the lab book, and the files that they show or link to."""
    for path in sorted(ROOT.glob("experiments/**/*")):
        if path.is_file():
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **kwargs: Any) -> str:
    """Turn links out of ``docs/`` into links of the site, and LaTeX into MathML."""
    if page.parent is None:  # a page by itself needs no list of one page beside it
        page.meta["hide"] = ["navigation"]
    markdown = markdown.replace("](../experiments/", "](experiments/")
    markdown = markdown.replace(" ± ", "\u00a0±\u00a0")  # a number stays beside its deviation
    return FORMULA.sub(lambda match: f'<div class="formula">{_mathml(match[1])}</div>', markdown)


def _mathml(latex: str) -> str:
    return "".join(convert(line, display="block") for line in latex.split("\n\n") if line.strip())
