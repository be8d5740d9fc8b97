"""Train a network: ``python -m convpose.train model=vgg_bn trainer.max_epochs=25``.

compose → build → fit → the best value of the monitored metric, which a sweep optimises.
"""

if not __package__:  # started as a file: modules of its folder would hide others
    raise SystemExit("type python -m convpose.train")

from omegaconf import DictConfig

from convpose.config.application import application, output_folder


@application("train")
def main(cfg: DictConfig) -> float:
    """Train in the folder that Hydra made; heavy imports wait until there is something to do."""
    from convpose.data import check_sources
    from convpose.train.request import check_keys

    check_keys(cfg)
    check_sources(cfg)
    from convpose.train.command import train

    return train(cfg, output_folder())


if __name__ == "__main__":
    main()
