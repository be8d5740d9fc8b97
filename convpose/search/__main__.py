"""Find good settings with Optuna: ``python -m convpose.search search=lr_batch_dropout``.

Every trial is a run under ``runs/<study>/``. The same command continues a study that was
interrupted, and joins it from another machine where ``storage`` is one that both reach.
"""

if not __package__:  # started as a file: modules of its folder would hide others
    raise SystemExit("type python -m convpose.search")

from omegaconf import DictConfig

from convpose.config.application import application
from convpose.errors import require_extra


@application("search")
def main(cfg: DictConfig) -> float:
    """Search; returns the best value."""
    require_extra("search", "optuna", "sklearn")
    from convpose.search.command import search

    return search(cfg)


if __name__ == "__main__":
    main()
