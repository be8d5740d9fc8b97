"""Compare runs: ``python -m convpose.compare study=runs/NAME`` or ``runs=[FOLDER,FOLDER]``.

One table of what differs between their configurations against what came out, and the same as CSV,
Markdown and a page of curves that needs no network.
"""

from omegaconf import DictConfig

from convpose.config.application import application


@application("compare")
def main(cfg: DictConfig) -> None:
    """Read, print and write; nothing here imports torch."""
    from convpose.compare.command import compare

    compare(cfg)


if __name__ == "__main__":
    main()
