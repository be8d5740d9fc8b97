"""Check what is asked of an export; apart from the export, which imports torch."""

from pathlib import Path

from omegaconf import DictConfig

from convpose.config.schema import Count, NotNegative, Packaged, check_table
from convpose.errors import ConfigError, require_extra
from convpose.files import check_output
from convpose.run import Run
from convpose.runtime.engines import weights_file

SUFFIXES = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torchscript": ".torchscript",
    "litert": ".tflite",
    "coreml": ".mlpackage",
}
NEEDS = {  # extra → its packages; torchscript has none, openvino needs onnx as well
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "litert": ("litert_torch", "ai_edge_litert"),
    "coreml": ("coremltools",),
}
NO_INT8 = {
    "torchscript": "there is no engine for it; type format=onnx or format=openvino",
    "coreml": "what it loses can be measured on a Mac alone; type precision=fp16",
}
PRECISIONS = ("fp32", "fp16", "int8")
KEYS = {
    "network": Packaged | None,
    "max_difference_px": NotNegative | None,
    "max_pck_drop": NotNegative,
    "calibration_images": Count,
    "batch_size": Count,
}


def check_keys(cfg: DictConfig) -> Path | None:
    """Check the keys, and return ``cfg.output`` as a path.

    Raises:
        ConfigError: a value of another type or out of its range, or no run there.
        ModelError: no such network.
    """
    target = None if cfg.output is None else Path(cfg.output)
    check_format(cfg.format, cfg.precision, target)
    if target is not None:
        check_output(target, file=cfg.format != "coreml")  # its file is a folder
    if cfg.report is not None:
        check_output(Path(cfg.report), "report", file=True)
    check_table(cfg, KEYS)
    if cfg.run is not None and cfg.weights is not None:
        raise ConfigError(f"run={cfg.run} weights={cfg.weights}: two networks; type one of them")
    if cfg.run is not None:
        Run.find(Path(cfg.run))
    else:
        weights_file(cfg.weights)
    return target


def check_format(form: str, precision: str, target: Path | None = None) -> None:
    """Refuse a format and precision that no writer can make.

    Raises:
        ConfigError: an unknown format or precision, a pair that does not go together, a file with
            the suffix of another format, or a package that is not installed.
    """
    if form not in SUFFIXES:
        raise ConfigError(f"format={form}: type {', '.join(SUFFIXES)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision}: type {', '.join(PRECISIONS)}")
    if precision == "int8" and form in NO_INT8:
        raise ConfigError(f"format={form} precision=int8: {NO_INT8[form]}")
    if target is not None and target.suffix != SUFFIXES[form]:
        raise ConfigError(f"output={target}: a file of format={form} ends in {SUFFIXES[form]}")
    for extra in ("onnx", form) if form == "openvino" else (form,):
        require_extra(extra, *NEEDS.get(extra, ()))
