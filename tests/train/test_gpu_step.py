"""A step on a GPU that does not exist: tensors without data say where they are and what they mix.

A tensor on the wrong device raises, and so does whatever waits for the device: `float`, `bool`,
a mask as an index.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from tiny import tiny_config
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torchmetrics import Metric

from convpose.files import conf_folder
from convpose.models.build import build_head
from convpose.models.cascade import Cascade, Resized
from convpose.models.pose_model import PoseModel
from convpose.runtime.pytorch import TestTimeAugmentation
from convpose.skeleton import LSP14
from convpose.train.build import build_module
from convpose.train.callbacks import CollapseAlarm, Ema
from convpose.train.module import PoseModule

pytestmark = pytest.mark.slow
GPU, K, SIDE_PX = "cuda:0", LSP14.num_keypoints, 64
CONF = conf_folder()
LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
LOSSES.remove("distill")  # its teacher is a run; without one it is the loss of heatmap
COORDINATES = ("l1", "smooth_l1", "wing")  # losses of the head regression; others share its name


def moved(module: nn.Module) -> None:
    """Put parameters, buffers and what metrics count on the GPU, as Lightning does.

    Whatever else a module may hold stays where it is.
    """

    def there(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=GPU)

    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(there(parameter), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = there(buffer)
        if isinstance(part, Metric):
            for name in part._defaults:
                setattr(part, name, there(getattr(part, name)))


@contextmanager
def gpu():
    """Fake tensors, and autocast to bfloat16, which torch itself refuses without a GPU."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        with FakeTensorMode():
            yield
    finally:
        torch.set_autocast_enabled("cuda", False)


def batch(count: int = 3) -> dict:
    return {
        "image": torch.zeros(count, 3, SIDE_PX, SIDE_PX, dtype=torch.uint8, device=GPU),
        "keypoints": torch.rand(count, K, 2, device=GPU),
        "visibility": torch.ones(count, K, dtype=torch.int64, device=GPU),
        "keypoints_px": torch.rand(count, K, 2, device=GPU),
        "unit_to_px": torch.rand(count, 2, 3, device=GPU),
        "box_px": torch.rand(count, 4, device=GPU),
        "image_id": [str(i) for i in range(count)],
    }


@pytest.fixture(scope="module")
def cfg():
    return tiny_config(f"data.input_size_px={SIDE_PX}")


class Count(int):
    """A tensor's number that may be read."""

    def to(self, device: torch.device) -> torch.Tensor:
        return torch.empty((), dtype=torch.int64, device=device)


class Patches(nn.Module):
    """A backbone of one layer a map."""

    out_channels, strides = (2, 2), (16, 32)
    pixel_mean = pixel_std = (0.5, 0.5, 0.5)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 2, side, side) for side in self.strides)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [layer(image) for layer in self.layers]


def model_of(cfg, head: str, side_px: int = SIDE_PX) -> PoseModel:
    chosen, backbone = cfg.copy(), Patches()
    chosen.head = OmegaConf.load(CONF / f"head/{head}.yaml")
    return PoseModel(backbone, build_head(chosen, backbone, side_px), K)


def module_of(cfg, loss: str, model: PoseModel) -> PoseModule:
    chosen = cfg.copy()
    chosen.loss = OmegaConf.load(CONF / f"loss/{loss}.yaml")
    module = build_module(chosen, model)
    module._log = lambda name, value, batch_size=None: None
    return module


def check_step(module) -> None:
    """Train, average and validate with one batch; all that is computed stays on the GPU."""
    ema, alarm = Ema(), CollapseAlarm()
    ema.setup(None, module, "fit")
    average = ema._average_model
    del average.n_averaged  # stays on the CPU, of which there is none here
    average.n_averaged = Count(1)
    with gpu():
        moved(module)
        moved(average.module)
        moved(alarm._spread)
        alarm._spread.to = lambda device: alarm._spread
        loss = module.train().training_step(batch(), 0)
        assert (loss.dtype, loss.device) == (torch.float32, torch.device(GPU))
        ema.on_train_batch_end(SimpleNamespace(global_step=1), module, None, None, 0)
        module.eval()
        with torch.inference_mode():
            seen = batch()
            output = module.validation_step(seen, 0)
            alarm.on_validation_batch_end(None, module, output, seen, 0)
    assert (output["keypoints"].dtype, output["scores"].dtype) == (torch.float32, torch.float32)
    tensors = [*output.values(), module.metrics.pck_hits, alarm._spread.sums]
    assert {tensor.device for tensor in tensors} == {torch.device(GPU)}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_stays_on_the_gpu_and_does_not_wait(cfg, loss):
    head = "regression" if loss in COORDINATES else loss
    check_step(module_of(cfg, loss, model_of(cfg, head)))


@pytest.mark.parametrize("starts", ["simulated", "real"])
def test_a_step_of_a_cascade_stays_on_the_gpu(cfg, starts):
    start = Resized(model_of(cfg, "regression", SIDE_PX // 2), SIDE_PX // 2)
    stage = model_of(cfg, "regression", 32)
    model = Cascade(start, stage.backbone, stage.head, LSP14, subimage_px=32, starts=starts)
    check_step(module_of(cfg, "l1", model))


def test_further_looks_stay_on_the_gpu(cfg):
    looks = TestTimeAugmentation(model_of(cfg, "heatmap"), LSP14, mirror=True, quarter_turns=True)
    with gpu(), torch.inference_mode():
        moved(looks.eval())
        output = looks(batch()["image"])
    assert {tensor.device for tensor in output.values()} == {torch.device(GPU)}


@pytest.mark.parametrize(
    ("of", "reason"),
    [
        (lambda error: error - torch.ones(2), "cuda:0 and cpu"),
        (lambda error: error if error.sum() > 0 else -error, None),
    ],
)
def test_a_tensor_left_behind_and_a_wait_are_noticed(cfg, of, reason, monkeypatch):
    module = module_of(cfg, "l1", model_of(cfg, "regression"))
    monkeypatch.setattr(module.loss, "penalty", of)
    expected = RuntimeError if reason else DataDependentOutputException
    with gpu():
        moved(module)
        seen = batch()
        with pytest.raises(expected, match=reason):
            module.training_step(seen, 0)
