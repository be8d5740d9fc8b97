"""Find good settings with Optuna: ``python -m convpose.search search=lr_batch_dropout``.

Every trial is a run under ``runs/<study>/``. The same command continues a study that was
interrupted, and joins it from another machine where ``storage`` is one that both reach.
"""

from omegaconf import DictConfig

from convpose.application import application
from convpose.extras import require


@application("search")
def main(cfg: DictConfig) -> float:
    """Search; returns the best value."""
    require("search", "optuna", "sklearn")
    from convpose.searching.search import search

    return search(cfg)


if __name__ == "__main__":
    main()
