"""Score a run or a file of predictions.

``python -m convpose.evaluate run=RUN_FOLDER split=val`` rebuilds the network from the run's folder,
without a Trainer. ``python -m convpose.evaluate predictions=FILE.npz data=lsp split=test`` scores
any file. Both write ``metrics.json``, ``report.md``, plots and galleries.
"""

from omegaconf import DictConfig

from convpose.config.application import application


@application("evaluate")
def main(cfg: DictConfig) -> float:
    """Evaluate and print the tables; return PCK@0.2."""
    from convpose.evaluate.command import evaluate

    return evaluate(cfg)


if __name__ == "__main__":
    main()
