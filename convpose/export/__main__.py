"""Export a network: ``python -m convpose.export run=RUN_FOLDER format=onnx``.

The file holds normalisation, decoding and the score calibration, and in its metadata what crops it
wants and what its keypoints are: it is all that ``convpose.predict weights=FILE`` needs.
"""

if not __package__:  # started as a file: modules of its folder would hide others
    raise SystemExit("type python -m convpose.export")

from omegaconf import DictConfig

from convpose.config.application import application


@application("export")
def main(cfg: DictConfig) -> None:
    """Export, and print how far the file is from PyTorch."""
    from convpose.export.request import check_keys

    check_keys(cfg)
    from convpose.export.command import export  # imports torch, which no mistake waits for

    export(cfg)


if __name__ == "__main__":
    main()
