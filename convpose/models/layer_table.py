"""Table of the layers of a network, in the form of the ConvPose paper's Table 1."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Layer:
    """One row: its kind, geometry, output size without the batch, and parameters."""

    kind: str
    kernel_stride_padding: str
    output_size: tuple[int, ...]
    parameters: int


def layer_table(model: nn.Module, image: torch.Tensor) -> list[Layer]:
    """List the leaf layers in the order in which `image` passes them, without identities.

    Args:
        model: network; its mode and parameters are left as they are.
        image: (1, 3, S, S) uint8.

    Returns:
        One `Layer` for each leaf module that was called.
    """
    rows: list[Layer] = []

    def record(module: nn.Module, _: Any, output: Any) -> None:
        size = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else ()
        count = sum(p.numel() for p in module.parameters())
        rows.append(Layer(type(module).__name__, _geometry(module), size, count))

    leaves = [m for m in model.modules() if not (list(m.children()) or isinstance(m, nn.Identity))]
    handles = [leaf.register_forward_hook(record) for leaf in leaves]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(image)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return rows


def layer_table_markdown(rows: list[Layer]) -> str:
    """Write the table as Markdown, with the totals below."""
    columns = "| # | layer | kernel / stride / padding | output size | parameters |"
    head = f"{columns}\n|--:|---|---|---|--:|"
    lines = [
        f"| {i} | {r.kind} | {r.kernel_stride_padding} | {' × '.join(map(str, r.output_size))} "
        f"| {r.parameters:,} |"
        for i, r in enumerate(rows, start=1)
    ]
    total = sum(r.parameters for r in rows)
    return "\n".join([head, *lines, f"\n{len(rows)} layers, {total:,} parameters\n"])


def _geometry(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d | nn.MaxPool2d):
        return " / ".join(
            str(v[0] if isinstance(v, tuple) else v)
            for v in (module.kernel_size, module.stride, module.padding)
        )
    return f"p = {module.p}" if isinstance(module, nn.Dropout) else "–"
