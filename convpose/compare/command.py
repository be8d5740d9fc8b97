"""Compare runs; write one table and one page."""

import os
from pathlib import Path

from omegaconf import DictConfig, ListConfig
from rich.console import Console

from convpose import files
from convpose.compare.comparison import WHAT_TO_TYPE, read_comparison
from convpose.compare.settings import seed_table, to_markdown
from convpose.config.schema import Natural, check_table
from convpose.errors import ConfigError
from convpose.files import check_output

FIGURES = (".pdf", ".svg", ".png")
KEYS = {"top": Natural, "figure": str | None}


def compare(cfg: DictConfig) -> None:
    """Compare the runs that ``cfg.study`` or ``cfg.runs`` names; print a table, write the files.

    Args:
        cfg: of ``conf/compare.yaml``.

    Raises:
        ConfigError: nothing named, no such folder, no run in it, no place to write to, or a figure
            of another kind.
    """
    check_table(cfg, KEYS)
    figure = Path(cfg.figure) if cfg.figure else None
    if figure and figure.suffix.lower() not in FIGURES:
        raise ConfigError(f"figure={figure}: expected a name that ends in {', '.join(FIGURES)}")
    folders, root = chosen_folders(cfg)
    output = Path(cfg.output or (root if len(folders) == 1 else cfg.paths.runs))
    check_output(output)
    comparison = read_comparison(folders, root)
    console = Console()
    console.print(comparison.table(cfg.top, console.width).to_rich())
    if (settings := seed_table(comparison, console.width)) is not None:
        console.print(settings.to_rich())
    for path, reason in comparison.problems[: cfg.top]:
        console.print(f"  {path}: {reason}", style="yellow", markup=False, highlight=False)
    if more := len(comparison.problems[cfg.top :]):
        console.print(f"  … and {more} more in compare.md", style="yellow")
    from convpose.compare.page import page  # late: the printed table does not wait for Plotly

    output.mkdir(parents=True, exist_ok=True)
    files.write(output / "compare.csv", comparison.to_csv())
    files.write(output / "compare.md", to_markdown(comparison))
    files.write(output / "compare.html", page(comparison))
    if figure:
        from convpose.compare.figure import write_figure  # late: without it no Matplotlib

        console.print(
            f"written: {figure}, {write_figure(comparison, figure)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    written = f"written to {output}: compare.csv, compare.md; open {output / 'compare.html'}"
    console.print(written, markup=False, highlight=False, soft_wrap=True)


def chosen_folders(cfg: DictConfig) -> tuple[list[Path], Path]:
    """Return the folders to look into, and their common parent."""
    if (cfg.study is None) == (not cfg.runs):
        raise ConfigError("name what to compare: study=runs/NAME, or runs=[FOLDER,FOLDER]")
    many = isinstance(cfg.runs, ListConfig)
    folders = [Path(str(name)) for name in (cfg.runs if many else [cfg.study or cfg.runs])]
    for folder in folders:
        if not folder.is_dir():
            if (known := Path(cfg.paths.runs) / folder).is_dir():
                raise ConfigError(f"{folder}: no such folder; did you mean {known}?")
            there = sorted(p.name for p in Path(cfg.paths.runs).glob("*/") if p.name[0] != ".")
            listed = f"\nin {cfg.paths.runs} there are: {', '.join(there)}" if there else ""
            raise ConfigError(f"{folder}: no such folder; {WHAT_TO_TYPE}{listed}")
    common = os.path.relpath(os.path.commonpath([folder.resolve() for folder in folders]))
    return folders, folders[0] if len(folders) == 1 else Path(common)
