"""The applications that look: the data check and the benchmark."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

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
    from convpose.benchmark import main

    output = tmp_path / "speeds.json"
    call(
        main,
        monkeypatch,
        *("seconds=0.02", "rounds=2", "batch_sizes=[2]", "model.depth=11", "model.width=0.0625"),
        *(f"data.cache={tmp_path / 'crops.safetensors'}", f"output={output}"),
    )

    speeds = json.loads(output.read_text())
    rounds = {name: values for name, values in speeds.items() if isinstance(values, list)}
    assert len(rounds) == 2 + 1 + 4  # data twice, synthetic, training at four settings
    assert all(len(values) == 2 and min(values) > 0 for values in rounds.values())
    assert "synthetic from the cache, 32 px" in capsys.readouterr().out


def test_benchmark_names_an_unknown_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from convpose.benchmark import main

    with pytest.raises(SystemExit) as end:
        call(main, monkeypatch, "what=[speed]")

    assert end.value.code == 2
    assert "what=[speed]: unknown part; type what=[data,synthetic,training]" in (
        capsys.readouterr().err
    )
