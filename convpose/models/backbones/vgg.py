"""VGG with batch normalisation, the backbone of the ConvPose paper."""

from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le, Lt
from torch import nn
from torchvision.models import vgg as torchvision_vgg

from convpose.errors import ConfigError, ModelError
from convpose.models.pose_model import Features
from convpose.models.weights import load_backbone, read_weights

# number of layers with weights → torchvision's name of the configuration
CONFIGURATIONS = {11: "A", 13: "B", 16: "D", 19: "E"}


class VggBn(nn.Module):
    """Convolutions of VGG (Simonyan and Zisserman, 2015) with batch norm, then dropout.

    Args:
        depth: 11, 13, 16 (the paper's) or 19.
        width: multiple of the numbers of channels (64 … 512).
        dropout: share of features set to zero in training; the paper has 0.5.
        batch_norm: a norm after every convolution; False is the VGG of 2015, hard to train.
        weights: None (random), ``imagenet`` (torchvision's, downloaded) or a file with a state
            dict of torchvision's ``vgg*_bn`` or of a convpose run.

    Raises:
        ConfigError: weights without batch norm.
        ModelError: weights that cannot be had or do not fit.
    """

    strides = (32,)
    pixel_mean = (0.485, 0.456, 0.406)  # ImageNet's, also from scratch
    pixel_std = (0.229, 0.224, 0.225)

    def __init__(
        self,
        depth: Literal[11, 13, 16, 19] = 16,
        width: Annotated[float, Ge(1 / 64), Le(4)] = 1.0,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.5,
        batch_norm: bool = True,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if weights is not None and not batch_norm:
            raise ConfigError("model.batch_norm=false: weights are for VGG with batch norm only")
        cfg = torchvision_vgg.cfgs[CONFIGURATIONS[depth]]
        widths = [c if isinstance(c, str) else max(1, round(c * width)) for c in cfg]
        self.features = torchvision_vgg.make_layers(widths, batch_norm=batch_norm)
        self.dropout = nn.Dropout(dropout)
        self.out_channels = (max(c for c in widths if isinstance(c, int)),)
        for module in self.features:
            if isinstance(module, nn.Conv2d):  # torchvision's own initialisation of VGG
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(torch.as_tensor(module.bias))
        if weights is not None:
            self._load(weights, depth, width)

    def forward(self, image: torch.Tensor) -> Features:
        """Turn images (B, 3, S, S) into one map (B, C, S // 32, S // 32)."""
        return [self.dropout(self.features(image))]

    def _load(self, weights: str, depth: int, width: float) -> None:
        if weights == "imagenet":
            try:
                hub = torchvision_vgg.__dict__[f"VGG{depth}_BN_Weights"].IMAGENET1K_V1
                state = hub.get_state_dict(progress=True, check_hash=True)
            except (OSError, HTTPException, RuntimeError) as error:  # the last: a wrong hash
                raise ModelError(
                    f"model.weights=imagenet: the weights of vgg{depth}_bn could not be downloaded "
                    f"({error}); download them elsewhere and type model.weights=FILE"
                ) from error
        else:
            state = read_weights(Path(weights))
        features = {k.split("features.", 1)[1]: v for k, v in state.items() if "features." in k}
        load_backbone(self.features, features, weights, f"VGG-{depth} of width {width}")
