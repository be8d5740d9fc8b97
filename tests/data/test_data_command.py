"""`python -m convpose.data`: what it prints, draws and refuses."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from convpose.data.__main__ import main

SMALL = (
    "data=synthetic",
    "data.sources.synthetic.num_images=24",
    "data.sources.synthetic.image_size_px=64",
    "data.input_size_px=32",
    "data.batch_size=4",
)


def call(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    monkeypatch.setattr(sys, "argv", ["data", *SMALL, *overrides])
    main()


def test_data_prints_what_a_set_holds_and_draws_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gallery, cache = tmp_path / "out" / "gallery.png", tmp_path / "crops.safetensors"
    overrides = (f"data.gallery={gallery}", "data.gallery_images=4", f"data.cache={cache}")
    call(monkeypatch, *overrides)

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
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SystemExit) as end:
        call(monkeypatch, override)

    assert end.value.code == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"error: {message}\n")


def test_data_names_a_missing_archive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "lspet_dataset.zip"
    monkeypatch.setattr(sys, "argv", ["data", "data=lspet", f"data.source={missing}"])
    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 2
    message = capsys.readouterr().err
    assert str(missing) in message
    assert "Traceback" not in message
