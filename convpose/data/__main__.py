"""Verify a data set: ``python -m convpose.data data=lspet``.

Prints its contents, what was masked or left out, and its problems;
``data.gallery=out.png`` draws a contact sheet, ``data.cache=FILE`` writes the crop cache and
``coco=out.json`` exports all annotations as COCO keypoints.
"""

if not __package__:  # started as a file: modules of its folder would hide others
    raise SystemExit("type python -m convpose.data")

from omegaconf import DictConfig

from convpose.config.application import application


@application("data")
def main(cfg: DictConfig) -> None:
    """Run the command; heavy imports wait until there is something to do."""
    from convpose.data.command import inspect

    inspect(cfg)


if __name__ == "__main__":
    main()
