"""What MkDocs does not do by itself: the lab book lies elsewhere, and formulae need no script.

The lab book stays in ``experiments/``, where the studies are, and is read from there; a new study
is picked up. Pages link to it as they do on the disk (``../experiments/…``). A ``math`` block in
LaTeX becomes MathML, which browsers draw themselves.
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
    """Add what the lab book shows and links to, as if it were among the pages."""
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
