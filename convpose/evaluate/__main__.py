"""Score a run or a file of predictions.

``python -m convpose.evaluate run=RUN_FOLDER split=val`` rebuilds the network from the run's folder,
without a Trainer. ``python -m convpose.evaluate predictions=FILE.npz data=lsp split=test`` scores
any file. Both write ``metrics.json``, ``report.md``, plots and galleries.
"""

if not __package__:  # started as a file: modules of its folder would hide others
    raise SystemExit("type python -m convpose.evaluate")

from omegaconf import DictConfig

from convpose.config.application import application


@application("evaluate")
def main(cfg: DictConfig) -> float:
    """Evaluate and print the tables; return PCK@0.2."""
    from convpose.evaluate.request import check_keys, find_named

    check_keys(cfg)
    find_named(cfg)
    from convpose.evaluate.command import evaluate  # imports torch, which no mistake waits for

    return evaluate(cfg)


if __name__ == "__main__":
    main()
