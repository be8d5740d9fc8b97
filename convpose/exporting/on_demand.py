"""Exports on demand: made when an engine first needs one, and kept."""

import hashlib
import os
from functools import cache
from pathlib import Path

from convpose.exporting.files import SUFFIXES, check_format, staged, write
from convpose.exporting.network import Network
from convpose.inference.runtimes.exported import VERSION


def exported(
    form: str, run: str | Path | None, weights: str | Path | None, checkpoint: str = "best"
) -> Path:
    """The fp32 file of a network, made if there is none.

    It lies in the run's folder ``exported``, or for packaged weights in the user's cache. Its name
    tells the weights and the code that made it, so that neither can go stale.

    Args:
        form: ``onnx`` or ``openvino``.
        run: see `Network.find`.
        weights: likewise.
        checkpoint: likewise.

    Raises:
        ConfigError, ModelError: see `Network`; a package that exporting needs is not installed.
    """
    check_format(form, "fp32")
    network = Network.find(run, weights, checkpoint)
    folder = _cache() if network.run is None else network.run.folder / "exported"
    if not network.file.is_file():
        network.load()  # which says what is missing
    key = hashlib.sha256(f"{VERSION} {_code()} {network.sha256}".encode()).hexdigest()[:12]
    target = folder / f"{network.name}_{key}{SUFFIXES[form]}"
    if not target.is_file():
        runtime = network.load()
        with staged(target) as path:
            write(network, runtime, form, "fp32", path)
        print(f"exported to {target}")
    return target


@cache
def _code() -> str:
    """Hash of the code of all networks: the same weights under other code are another network."""
    total = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].glob("models/**/*.py")):
        total.update(file.read_bytes())
    return total.hexdigest()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convpose"
