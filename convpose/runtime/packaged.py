"""Pack a network into one small file that needs no run folder, and load it.

``NAME.safetensors`` holds the parameters in half precision (buffers, such as the statistics of
batch norm, in fp32) and in its metadata all that rebuilds the network. Beside it lies the model
card, ``NAME.json``: the file's SHA-256, the same facts for people, and the measured accuracy.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from convpose.bounded import MAX_FACTS, load_json, parse_json
from convpose.config.allowlist import as_data
from convpose.errors import DataError, ModelError
from convpose.files import replacing, write
from convpose.models.build import build_model
from convpose.models.pose_model import PoseModel
from convpose.models.weights import load_checkpoint, no_larger_than
from convpose.run import Run
from convpose.runtime import CropSpec
from convpose.runtime.engines import weights_file
from convpose.runtime.pytorch import TorchRuntime, network_config, to_runtime

VERSION = 1


def pack(run_folder: str | Path, target: str | Path, checkpoint: str = "best", **head: Any) -> Path:
    """Write a run's network as packaged weights.

    Args:
        run_folder: folder of the run, or of a study for its newest run.
        target: file to write, ``.safetensors``; the card gets the same name with ``.json``.
        checkpoint: ``best``, ``last`` or a file.
        head: settings of the head that are other than in training, such as ``blur``.

    Returns:
        `target`.

    Raises:
        ConfigError: no run there.
        ModelError: no checkpoint there, or a target of another suffix.
    """
    target = Path(target)
    if target.suffix != ".safetensors":
        raise ModelError(f"{target}: packaged weights are a .safetensors file; name it so")
    run = Run.find(Path(run_folder))
    cfg = network_config(run.config)
    cfg.head.update(head)
    cfg.trainer.precision = "32-true"  # the same answer on every machine
    config: Any = OmegaConf.to_container(cfg)
    model = build_model(cfg)
    load_checkpoint(model, run.checkpoint(checkpoint))
    halves = {name for name, _ in model.named_parameters()}
    tensors = {
        name: (_half(tensor) if name in halves else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    facts = {
        "format": "convpose",
        "version": VERSION,
        "spec": CropSpec.from_config(cfg.data).to_dict(),
        "config": config,
        "trained_on": f"{'+'.join(run.config.data.sources)}, split {run.config.data.split}",
        "metrics": _metrics(run.folder),
    }
    content = save(tensors, {"convpose": json.dumps(facts)})
    card = facts | {
        "file": target.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": len(content),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as file:
        file.write(content)
    write(target.with_suffix(".json"), json.dumps(card, indent=1))
    return target


def load_packaged(
    weights: str | Path | None = None, accelerator: str = "auto", precision: str = "auto"
) -> TorchRuntime:
    """Load the network of packaged weights.

    Args:
        weights: name or ``.safetensors`` file, see `weights_file`.
        accelerator: see `convpose.runtime.pytorch.to_runtime`.
        precision: see there.

    Raises:
        ModelError: no file or card, a hash that is not the card's, or another format or version.
        ConfigError: a description that names something else than a network, see
            `convpose.config.allowlist`.
    """
    return to_runtime(*rebuild(weights), accelerator, precision)


def rebuild(weights: str | Path | None = None) -> tuple[PoseModel, DictConfig]:
    """Rebuild the network of packaged weights; return it and its `network_config`.

    Its key ``trained_on`` names data and split.
    """
    path = weights_file(weights)
    state, facts = read_packaged(path)
    CropSpec.from_dict(facts["spec"])  # a skeleton that this version does not know is refused
    cfg = network_config(as_data(facts["config"], str(path)))
    with no_larger_than(path):
        model = build_model(cfg)
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        raise ModelError(f"{path}: does not fit its own description: {error}") from error
    cfg.trained_on = str(facts.get("trained_on", "unknown images"))
    return model, cfg


def is_packaged(path: Path) -> bool:
    """Tell if a file is packaged weights, by its metadata."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return "convpose" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_packaged(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read tensors and facts of a file, whose hash must be the card's."""
    if path.is_dir():
        raise ModelError(
            f"weights={path}: a folder; type run={path} for a run that convpose.train wrote, or "
            "weights=FILE.safetensors"
        )
    card_path = path.with_suffix(".json")
    for needed in (path, card_path):
        if not needed.is_file():
            raise ModelError(
                f"{needed}: no such file; packaged weights are a .safetensors file and, beside it, "
                "its .json card"
            )
    try:
        card = load_json(card_path)
        expected = str(card["sha256"])
    except (DataError, LookupError, TypeError) as error:
        raise ModelError(f"{card_path}: not the card of packaged weights; get it again") from error
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ModelError(
            f"{path}: SHA-256 {found[:12]}…, its card says {expected[:12]}…: the file is "
            "damaged or not the one the card describes; get both again"
        )
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_json(str(path), (file.metadata() or {})["convpose"], most=MAX_FACTS)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no dict
    except (SafetensorError, DataError, ValueError, LookupError) as error:
        raise ModelError(
            f"{path}: not packaged weights of convpose; a checkpoint of a run is used by "
            "run=RUN_FOLDER"
        ) from error
    version = facts.get("version") if isinstance(facts, dict) else None
    if version != VERSION or not {"config", "spec"} <= facts.keys():
        raise ModelError(
            f"{path}: format version {version}, this convpose reads {VERSION}; update convpose"
        )
    return state, facts


def _half(tensor: torch.Tensor) -> torch.Tensor:
    half = tensor.half()
    return half if torch.isfinite(half).all() else tensor  # half precision ends at 65504


def _metrics(folder: Path) -> dict[str, Any]:
    """Collect the best epoch of a run, and the measures and protocol of its evaluations."""
    found: dict[str, Any] = {}
    best = folder / "metrics.json"
    if best.is_file():
        found["best_epoch"] = load_json(best)
    for path in sorted(folder.glob("evaluate_*/metrics.json")):
        measures = load_json(path)
        plain = {k: v for k, v in measures.items() if isinstance(v, float | int | str)}
        found[path.parent.name] = plain
    return found
