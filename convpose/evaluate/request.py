"""Check what is asked of an evaluation; apart from the evaluation, which imports torch."""

from pathlib import Path

from omegaconf import DictConfig

from convpose.config.schema import Count, Looks, Natural, Packaged, Subset, check_table
from convpose.data import check_sources
from convpose.errors import ConfigError
from convpose.files import check_output
from convpose.run import Run
from convpose.runtime.engines import weights_file

EXPECTED = (
    'expected a JSON list of {"image_id": …, "bbox": [x, y, width, height], "score": …}, as a '
    "detector's results for COCO"
)
KEYS = {
    "network": Packaged | None,
    **dict.fromkeys(("mirror_test", "quarter_turns", "robustness"), bool),
    "split": Subset,
    "looks": Looks,
    "boxes": str | None,
    "batch_size": Count | None,
    "num_workers": Natural | None,
    "gallery": Natural,
}


def check_keys(cfg: DictConfig) -> None:
    """Check the keys.

    Raises:
        ConfigError: nothing or several things named, a value out of its range, or weights or a file
            of predictions without data.
    """
    keys = [key for key in ("run", "weights", "predictions") if cfg[key] is not None]
    if len(keys) != 1:
        raise ConfigError(
            "name what to evaluate: run=RUN_FOLDER, network=large with data=lsp, or "
            "predictions=FILE.npz with data=lsp"
        )
    check_table(cfg, KEYS)
    if cfg.run is None and cfg.checkpoint != "best":
        raise ConfigError(f"checkpoint={cfg.checkpoint}: of which run? type run=FOLDER")
    if cfg.output is not None:
        check_output(Path(str(cfg.output)))
    usual = {"mirror_test": False, "quarter_turns": False, "robustness": False, "looks": 1}
    for key in (k for k, v in usual.items() if cfg.predictions is not None and cfg[k] != v):
        raise ConfigError(
            f"predictions={cfg.predictions} {key}={cfg[key]}: a file has no network to ask again; "
            f"leave {key}= out, or type run=RUN_FOLDER"
        )
    if cfg.boxes is not None and not Path(cfg.boxes).is_file():
        raise ConfigError(f"boxes={cfg.boxes}: no such file; {EXPECTED}")
    if cfg.run is None and cfg.get("data") is None:
        raise ConfigError(
            f"{keys[0]}={cfg[keys[0]]} needs the data to score it on; type data=lsp or data=lspet"
        )


def find_named(cfg: DictConfig) -> None:
    """Find the run, the network and the data that are named.

    Raises:
        ConfigError, DataError, ModelError: one of them is not there.
    """
    if cfg.run is not None:
        Run.find(Path(cfg.run))
    elif cfg.weights is not None:
        weights_file(cfg.weights)
    if cfg.get("data") is not None:
        check_sources(cfg)
