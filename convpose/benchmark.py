"""Measure this machine: ``python -m convpose.benchmark``.

Images a second that one core prepares from the originals, from the crop cache and synthetically,
and that the network trains at each precision. Each figure is the median of some rounds, with the
lowest and the highest: machines are noisy.
"""

from omegaconf import DictConfig

from convpose.application import application


@application("benchmark")
def main(cfg: DictConfig) -> None:
    """Measure and print a table."""
    from convpose.report.speed import benchmark

    benchmark(cfg)


if __name__ == "__main__":
    main()
