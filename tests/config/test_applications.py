"""The applications that look: the data check and the benchmark."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tiny import tiny_config

from convpose.errors import ConvposeError

SMALL = (
    "data=synthetic",
    "data.sources.synthetic.num_images=24",
    "data.sources.synthetic.image_size_px=64",
    "data.input_size_px=32",
    "data.batch_size=4",
)


def call(main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    monkeypatch.setattr(sys, "argv", ["convpose", *SMALL, *overrides])
    main()


def test_data_prints_what_a_set_holds_and_draws_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from convpose.data.__main__ import main

    gallery, cache = tmp_path / "out" / "gallery.png", tmp_path / "crops.safetensors"
    overrides = (f"data.gallery={gallery}", "data.gallery_images=4", f"data.cache={cache}")
    call(main, monkeypatch, *overrides)

    printed = capsys.readouterr().out
    assert "images of synthetic" in printed
    assert "right_ankle" in printed
    assert "split paper: train 17, val 3, test 4" in printed
    assert f"{cache.name}, 0." in printed
    with Image.open(gallery) as sheet:
        assert sheet.width > 4 * 256


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.gallery=out", "data.gallery=out: type a name that ends in .png or .jpg"),
        ("coco=.", "coco=.: cannot be written (Is a directory); type coco=FILE"),
        (
            "data.gallery=file/a.png",
            "data.gallery=file/a.png: cannot be written (Not a directory); type data.gallery=FILE",
        ),
    ],
)
def test_data_refuses_what_cannot_be(override, message, monkeypatch, capsys, tmp_path):
    from convpose.data.__main__ import main

    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SystemExit) as end:
        call(main, monkeypatch, override)

    assert end.value.code == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"error: {message}\n")


def test_data_names_a_missing_archive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from convpose.data.__main__ import main

    missing = tmp_path / "lspet_dataset.zip"
    monkeypatch.setattr(sys, "argv", ["data", "data=lspet", f"data.source={missing}"])
    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 2
    message = capsys.readouterr().err
    assert str(missing) in message
    assert "Traceback" not in message


def test_benchmark_measures_every_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from convpose.benchmark.__main__ import main

    output = tmp_path / "speeds.json"
    call(
        main,
        monkeypatch,
        *(
            "seconds=0.02",
            "rounds=1",
            "data.num_workers=0",
            "batch_sizes=[2]",
            "model.depth=11",
            "model.width=0.0625",
        ),
        "what=[data,synthetic,training,loaded,pixels]",
        *(f"data.cache={tmp_path / 'crops.safetensors'}", f"output={output}"),
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
        ("prediction with data, 32 px, batch 2", "images/s"),
        ("training, 64 px", "ms a megapixel"),
        ("peak memory of this process", "MiB"),
    ):
        assert speeds[what]["unit"] == unit
        assert what.split(",")[0] in out


def test_benchmark_names_an_unknown_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from convpose.benchmark.__main__ import main

    with pytest.raises(SystemExit) as end:
        call(main, monkeypatch, "what=[speed]")

    assert end.value.code == 2
    assert "what=[speed]: unknown part; type what=[data,synthetic,training," in (
        capsys.readouterr().err
    )


def test_a_command_that_does_not_start_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from convpose.benchmark import process

    monkeypatch.setattr(process, "START", ("data=nowhere",))
    with pytest.raises(ConvposeError, match=r"(?s)train data=nowhere: .*nowhere"):
        process.start_speed(tiny_config("+rounds=1"))


def test_start_up_is_timed() -> None:
    from convpose.benchmark.process import start_speed

    compose, batch = start_speed(tiny_config("+rounds=1"))
    assert 0 < compose.median < batch.median
