"""The table of a benchmark: what is measured and what it is called."""

import pytest
from hydra import compose, initialize_config_dir

from convpose.benchmark import prediction
from convpose.benchmark.command import benchmark
from convpose.config.application import conf_folder
from convpose.errors import ConfigError


def benchmark_config(*overrides):
    """The composed configuration of `convpose.benchmark`, in which everything is done twice."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        quick = ["rounds=1", "latency.repetitions=2", "latency.threads=[1]"]
        return compose("benchmark", [*quick, *overrides])


def test_every_part_of_a_picture_is_timed(unbroken):
    keys = ("what=latency", "latency.engines=[torch]", f"latency.run={unbroken}")
    speeds = benchmark(benchmark_config(*keys))
    assert speeds[5].what == "peak memory of this process"
    speeds = speeds[:5]
    assert [speed.what for speed in speeds] == [
        "JPEG 640 × 480 to pixels",
        "crop of 32 px",
        "drawing on 640 × 480",
        "network, torch, 1 thread",
        "end to end, torch, 1 thread",
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


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("what=[date]", r"what=\[date\]: unknown part; type what=\[data,"),
        ("what=date", r"what=\[date\]: unknown part"),
        ("what=[]", r"what=\[\]: nothing to measure; type what=\[data,"),
        ("output=/dev/null/b.json", r"b\.json: cannot be written \(Not a directory\); type output"),
        ("output=/dev", r"output=/dev: cannot be written \(Is a directory\); type output=FILE"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(override, message):
    with pytest.raises(ConfigError, match=message):
        benchmark(benchmark_config(override))
