"""Compare runs: ``python -m convpose.compare study=runs/NAME`` or ``runs=[FOLDER,FOLDER]``.

Prints one table of the keys that differ and the results. Writes the same as CSV, as Markdown and as
a page with curves that needs no network.
"""

if not __package__:  # started as a file: modules of its folder would hide others
    raise SystemExit("type python -m convpose.compare")

from omegaconf import DictConfig

from convpose.config.application import application


@application("compare")
def main(cfg: DictConfig) -> None:
    """Compare runs, without importing torch."""
    from convpose.compare.command import compare

    compare(cfg)


if __name__ == "__main__":
    main()
