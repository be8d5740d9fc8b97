"""Measure this machine: ``python -m convpose.benchmark``.

It measures the preparation of data on one core and by the loader, training at each precision beside
the machine's rate of matrix products, training and prediction with data, growing inputs, start-up
and memory. Each figure is the median of some rounds, because machines are noisy.
"""

if not __package__:  # started as a file: modules of its folder would hide others
    raise SystemExit("type python -m convpose.benchmark")

from omegaconf import DictConfig

from convpose.config.application import application


@application("benchmark")
def main(cfg: DictConfig) -> None:
    """Measure and print a table."""
    from convpose.benchmark.measure import check_keys

    check_keys(cfg)
    from convpose.benchmark.command import benchmark  # imports torch, which no mistake waits for

    benchmark(cfg)


if __name__ == "__main__":
    main()
