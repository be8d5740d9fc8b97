"""The benchmark: what is measured and what it is called, and figures counted by hand."""

import json
import sys

import forked
import pytest
import torch
from tiny import composed, tiny_config

from convpose.benchmark import command, measure, prediction
from convpose.benchmark.command import benchmark, table
from convpose.benchmark.measure import Speed
from convpose.benchmark.training import TrainingWork
from convpose.errors import ConfigError, ConvposeError
from convpose.models.pose_model import PoseModel

pytestmark = pytest.mark.slow


def benchmark_config(*overrides):
    """The composed configuration of `convpose.benchmark`, in which everything is done twice."""
    quick = ("rounds=1", "latency.repetitions=2", "latency.threads=[1]")
    return composed("benchmark", *quick, *overrides)


def test_every_part_of_a_picture_is_timed(unbroken):
    keys = ("what=latency", "latency.engines=[torch]", f"latency.run={unbroken}")
    speeds = benchmark(benchmark_config(*keys))
    assert speeds[6].what == "peak memory of this process"
    speeds = speeds[:6]
    assert [speed.what for speed in speeds] == [
        "JPEG 640 × 480 to pixels",
        "crop of 32 px",
        "drawing on 640 × 480",
        "network, torch, 1 thread",
        "end to end, torch, 1 thread",
        "end to end, two looks, torch, 1 thread",
    ]
    for speed in speeds:
        assert (speed.unit, speed.single, len(speed.rounds)) == ("ms", True, 2)
        assert min(speed.rounds) > 0


def test_frames_of_a_clip_are_counted(unbroken, monkeypatch):
    monkeypatch.setattr(prediction, "CLIP_FRAMES", 4)
    keys = ("what=[clip]", "latency.engines=[torch]", f"latency.run={unbroken}")
    speeds = benchmark(benchmark_config(*keys))[:2]
    assert [speed.what for speed in speeds] == [
        "clip of 640 × 480 px, drawn, torch",
        "clip of 640 × 480 px, drawn and written, torch",
    ]
    assert all(speed.unit == "frames/s" and speed.median > 0 for speed in speeds)


def test_an_unknown_engine():
    with pytest.raises(ConfigError, match=r"latency\.engines: tensorrt: type torch, onnx, openvi"):
        prediction.latency_speed(benchmark_config("latency.engines=[tensorrt]"))


NAMES = ("convpose.train", "training")


def test_every_part_is_measured(capsys, tmp_path):
    output = tmp_path / "speeds.json"
    small = ("data.sources.synthetic.num_images=24", "data.sources.synthetic.image_size_px=64")
    benchmark(
        benchmark_config(
            *("data=synthetic", *small, "data.input_size_px=32", "data.batch_size=4"),
            *("data.num_workers=0", "batch_sizes=[2]", "model.depth=11", "model.width=0.0625"),
            *("seconds=0.02", "what=[data,synthetic,training,loaded,pixels]"),
            *(f"data.cache={tmp_path / 'crops.safetensors'}", f"output={output}"),
        )
    )

    content = json.loads(output.read_text())
    speeds = {speed["what"]: speed for speed in content["speeds"]}
    assert len(speeds) == len(content["speeds"]), "each line has its own name"
    for speed in speeds.values():
        assert min(speed["rounds"]) > 0
        assert min(speed["rounds"]) <= speed["median"] <= max(speed["rounds"])
    out = capsys.readouterr().out
    for what, unit in (
        ("synthetic from the cache, 32 px", "images/s"),
        ("… by the loader, 0 workers", "images/s"),
        ("matrix product, bf16", "TFLOP/s"),
        ("training, 32 px, batch 2, bf16, channels_last", "images/s"),
        ("training with data, 32 px, batch 2", "images/s"),
        ("convpose.train with data, 32 px, batch 2", "images/s"),
        ("… of which waiting for the loader", "ms a step"),
        ("… of which forward, backward and optimizer", "ms a step"),
        ("… of which callbacks", "ms a step"),
        ("prediction with data, 32 px, batch 2", "images/s"),
        ("training, 64 px", "ms a megapixel"),
        ("peak memory of this process", "MiB"),
    ):
        assert speeds[what]["unit"] == unit
        assert what.split(",")[0] in out
    trained, bare = (speeds[f"{name} with data, 32 px, batch 2"] for name in NAMES)
    assert trained["limit"] == bare["median"]
    assert len(trained["rounds"]) == 1, "without the first epoch"


@pytest.fixture
def warm(monkeypatch):
    """Starts real processes, which need not import everything again."""
    monkeypatch.setattr(sys, "executable", str(forked.server()[1]))


def test_a_command_that_does_not_start_is_shown(monkeypatch, warm):
    monkeypatch.setattr(command, "SHORTEST_TRAINING", ("data=nowhere",))
    with pytest.raises(ConvposeError, match=r"(?s)train data=nowhere: .*nowhere"):
        command.start_speed(tiny_config("+rounds=1"))


def test_start_up_is_timed(warm):
    compose, batch = command.start_speed(tiny_config("+rounds=1"))
    assert 0 < compose.median < batch.median


def test_the_share_of_a_limit():
    speed = Speed("work", [30.0, 10.0, 20.0], limit=80.0, limited_by="the bus")
    assert speed.median == 20
    assert speed.share == 0.25
    assert Speed("work", [1.0]).share is None
    rows = table([speed], "").rows
    assert rows == [("work", "20 images/s", "10–30", "25 % of 80, the bus")]


def test_every_round_counts_its_images():
    cfg = tiny_config("+seconds=0.01", "+rounds=3")
    made = []

    def work():
        made.append(0)
        while True:
            made[-1] += 5
            yield 5

    rates = measure.measure(cfg, work)
    assert len(rates) == len(made) == 3
    assert all(0 < rate < images / 0.01 for rate, images in zip(rates, made, strict=True))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_operations_of_a_network_by_hand(batch_size, monkeypatch):
    class Flat(torch.nn.Module):
        num_keypoints = 14
        pixel_mean = pixel_std = (0.5, 0.5, 0.5)

        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(3 * 32 * 32, 28)

        def forward(self, image):
            return {
                "keypoints": self.linear(image.flatten(1)).view(-1, 14, 2),
                "scores": image.new_full((len(image), 14), 0.5),
            }

    class Identity(torch.nn.Identity):
        pixel_mean = pixel_std = (0.5, 0.5, 0.5)

    monkeypatch.setattr(
        "convpose.benchmark.training.build_model", lambda cfg: PoseModel(Identity(), Flat(), 14)
    )
    work = TrainingWork(tiny_config(), batch_size, False, torch.device("cpu"))
    # forward and the weights' gradient: two products; the image needs no gradient
    assert work.flop_per_image == 2 * 2 * 3 * 32 * 32 * 28
