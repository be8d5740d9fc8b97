"""Open the network that a user names by run, weights and engine."""

from importlib.util import find_spec
from pathlib import Path

from convpose.errors import ConfigError
from convpose.hardware import nvidia_driver
from convpose.runtime.engines import ENGINE_OF, OPENERS, AnyRuntime, onnx_file


def open_network(
    run: str | Path | None = None,
    weights: str | Path | None = None,
    checkpoint: str = "best",
    engine: str = "auto",
    accelerator: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> AnyRuntime:
    """Open the network of a run, of packaged weights or of an exported file, in an engine.

    An engine other than PyTorch needs an exported file. That of a run or of packaged weights is
    written on first use and kept, see `convpose.export.network.exported`. The default network comes
    with its ONNX file: without a GPU, ONNX Runtime has answered before torch would be imported.

    Args:
        run: folder of a run, or of a study for its newest run.
        weights: ``small``, ``large``, packaged weights (``.safetensors``) or a file of
            `convpose.export` (its suffix is in `ENGINE_OF`); None without a run for small.
        checkpoint: ``best``, ``last`` or a file; with a run only.
        engine: a key of `OPENERS`, or ``auto``: what the file is for; ``onnx`` for the default
            network on a CPU, if onnxruntime is installed; else torch.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU where the engine sees one.
        precision: of PyTorch, see `convpose.runtime.load.to_runtime`; an exported file has
            its own.
        threads: number of processor threads; None for the engine's own choice.

    Raises:
        ConfigError: two networks, an engine that is not there or for other files.
        ModelError: see `load_run`, `load_packaged` and the runtimes.
    """
    if run is not None and weights is not None:
        raise ConfigError(f"run={run} weights={weights}: two networks; type one of them")
    if run is None and checkpoint != "best":
        raise ConfigError(f"checkpoint={checkpoint}: of which run? type run=FOLDER")
    if engine not in ("auto", *OPENERS):
        raise ConfigError(f"engine={engine}: type auto, {', '.join(OPENERS)}")
    suits = None if weights is None else ENGINE_OF.get(Path(weights).suffix)
    if suits is not None and engine not in ("auto", suits):
        raise ConfigError(
            f"weights={weights} engine={engine}: that file is for engine={suits}; type engine=auto"
        )
    if run is None and suits is None and engine in ("auto", "onnx") and precision == "auto":
        shipped = onnx_file(weights)
        on_cpu = accelerator == "cpu" or (accelerator == "auto" and not nvidia_driver())
        if shipped and (engine == "onnx" or (on_cpu and find_spec("onnxruntime"))):
            return OPENERS["onnx"](shipped, accelerator, threads)
    if suits is None and engine in ("auto", "torch"):
        import torch  # the engines above are open before it is imported

        from convpose.runtime.load import load_run
        from convpose.runtime.packaged import load_packaged

        if threads is not None:
            torch.set_num_threads(threads)
        if run is not None:
            return load_run(run, checkpoint, accelerator, precision)
        return load_packaged(weights, accelerator, precision)
    if precision != "auto":
        raise ConfigError(
            f"precision={precision}: an exported network has the precision that it was exported "
            "with; type precision=auto here, and precision=fp16 or int8 to convpose.export"
        )
    if suits is not None and weights is not None:
        return OPENERS[suits](weights, accelerator, threads)
    from convpose.export.network import exported  # imports torch

    return OPENERS[engine](exported(engine, run, weights, checkpoint), accelerator, threads)
