"""Every head that there is survives its export: the same keypoints for batches of any size."""

import pytest
import torch
from tiny import tiny_config

from convpose.export.command import Difference, synthetic_crops
from convpose.export.network import Deployed
from convpose.export.writers import write_onnx
from convpose.files import conf_folder
from convpose.models.build import build_model
from convpose.runtime import VERSION, CropSpec
from convpose.runtime.engines import OnnxRuntime
from convpose.runtime.pytorch import TorchRuntime

pytestmark = pytest.mark.slow
pytest.importorskip("onnxscript", reason="ONNX is written with onnxscript")
pytest.importorskip("onnxruntime", reason="and computed by onnxruntime")

HEADS = sorted(path.stem for path in (conf_folder() / "head").glob("*.yaml"))


MAPS = {"heatmap_logits", "simcc_logits"}


class Pools(torch.nn.Module):
    """Feature maps like those of another backbone, from one convolution each."""

    pixel_mean = pixel_std = (0.5, 0.5, 0.5)

    def __init__(self, out_channels, strides):
        super().__init__()
        self.strides = strides
        self.maps = torch.nn.ModuleList(torch.nn.Conv2d(3, c, 1) for c in out_channels)

    def forward(self, image):
        pooled = [torch.nn.functional.avg_pool2d(image, stride) for stride in self.strides]
        return [conv(part) for conv, part in zip(self.maps, pooled, strict=True)]


def untrained(cfg, crops):
    """A network with all that a trained one has: statistics, a calibration, maps with peaks.

    An untrained network's maps are flat to four digits: where they are highest is rounding, and
    PyTorch's answer is then as far from that in double precision as from any other engine's.
    """
    torch.manual_seed(0)
    model = build_model(cfg)
    model.backbone = Pools(model.backbone.out_channels, model.backbone.strides)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0  # the statistics of one batch
    with torch.no_grad():
        model.train()(torch.from_numpy(crops))
        output = model.eval()(torch.from_numpy(crops))
        for name in MAPS.intersection(output):
            spread = output[name].flatten(2).std(dim=2).mean()
            model.head.output.weight.mul_(3 / spread)
        model.score_slope.fill_(0.7)
        model.score_offset.fill_(-0.2)
    return model


@pytest.mark.parametrize("head", HEADS)
def test_an_exported_head_answers_as_in_pytorch(head, tmp_path):
    cfg = tiny_config(f"head={head}")
    spec = CropSpec.from_config(cfg.data)
    crops = synthetic_crops(spec, 20)
    model = untrained(cfg, crops)
    path = tmp_path / "head.onnx"
    facts = {"version": VERSION, "spec": spec.to_dict()}
    write_onnx(Deployed(model), spec.input_size_px, facts, path)
    exported = OnnxRuntime(path, threads=1)
    assert exported.spec == spec
    difference = Difference.between(TorchRuntime(model, spec), exported, crops)
    assert difference.largest_px < 1e-3
    assert difference.score < 1e-4
    for size in (1, 3):
        keypoints, scores = exported(crops[:size])
        assert keypoints.shape == (size, 14, 2)
        assert scores.shape == (size, 14)
