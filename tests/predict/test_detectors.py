"""Detectors: what they are shown, what their numbers mean, and what is no detector."""

import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import composed
from torch import nn
from torchvision import models

from convpose.config.instantiate import build
from convpose.data.lsp import LspSource
from convpose.errors import ConfigError, ModelError
from convpose.files import conf_folder
from convpose.predict.detectors import TorchvisionDetector, YoloxDetector

pytestmark = pytest.mark.slow
SIDE = 64  # 64 + 16 + 4 cells
CELLS = 84


def network(path, rows, classes=2, size=(SIDE, SIDE), cells=CELLS):
    """A YOLOX whose output does not depend on its input: rows by cell, zero elsewhere."""
    onnx = pytest.importorskip("onnx")
    output = np.zeros((1, cells, 5 + classes), np.float32)
    for cell, row in rows.items():
        output[0, cell, : len(row)] = row
    images = onnx.helper.make_tensor_value_info("images", 1, [1, 3, *size])
    found = onnx.helper.make_tensor_value_info("output", 1, list(output.shape))
    constant = onnx.numpy_helper.from_array(output, "constant")
    node = onnx.helper.make_node("Identity", ["constant"], ["output"])
    graph = onnx.helper.make_graph([node], "yolox", [images], [found], [constant])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return str(path)


needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="convpose[onnx] is not installed"
)


LOGARITHMS = {10: [0.5, 0.5, np.log(2), np.log(4), 0.9, 0.8, 0.1]}
PIXELS = {3: [20, 12, 16, 24, 0.9, 0.8], 4: [40, 40, 30, 30, 0.1, 0.1]}


@needs_onnx
@pytest.mark.parametrize(
    ("rows", "size", "box"),
    [
        # cell 10 is (2, 1) of stride 8; offset a half: centre (20, 12); exp(ln 2) cells: 16 × 32
        (LOGARITHMS, (SIDE, SIDE), [11.5, -0.5, 27.5, 27.5]),
        # a picture four times as wide as the input is shown at a quarter
        (LOGARITHMS, (4 * SIDE, 2 * SIDE), [47.5, -0.5, 111.5, 111.5]),
        (PIXELS, (SIDE, SIDE), [11.5, -0.5, 27.5, 23.5]),  # an export that is decoded already
    ],
)
def test_a_box_by_hand(rows, size, box, tmp_path):
    image = np.zeros((*size[::-1], 3), np.uint8)
    boxes, scores = YoloxDetector(network(tmp_path / "a.onnx", rows))(image)
    assert boxes.tolist() == [pytest.approx(box, abs=1e-3)]
    assert scores.tolist() == [pytest.approx(0.72, abs=1e-6)], "objectness times class"


@needs_onnx
def test_doubles_others_and_doubts_are_left_out(tmp_path):
    rows = {
        10: [0.5, 0.5, np.log(2), np.log(2), 0.9, 0.8, 0.0],
        11: [-0.4, 0.5, np.log(2), np.log(2), 0.9, 0.7, 0.0],  # nearly the same box
        30: [0.5, 0.5, np.log(2), np.log(2), 0.9, 0.9, 0.0],  # another person
        50: [0.5, 0.5, np.log(2), np.log(2), 0.9, 0.0, 0.9],  # a bicycle
        60: [0.5, 0.5, np.log(2), np.log(2), 0.5, 0.5, 0.0],  # a doubt
    }
    path = network(tmp_path / "a.onnx", rows)
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    assert YoloxDetector(path)(image).scores.tolist() == pytest.approx([0.81, 0.72])
    assert len(YoloxDetector(path, score_threshold=0.2)(image).boxes_px) == 3
    assert len(YoloxDetector(path, overlap_threshold=1.0)(image).boxes_px) == 3


@needs_onnx
def test_nobody(tmp_path):
    boxes, scores = YoloxDetector(network(tmp_path / "a.onnx", {}))(np.zeros((9, 9, 3), np.uint8))
    assert (boxes.shape, scores.shape) == ((0, 4), (0,))


@needs_onnx
def test_the_network_sees_bgr_in_the_upper_left_corner_on_grey(tmp_path):
    class Spy:
        def run(self, names, feed):
            self.pixels = feed["images"]
            return [np.zeros((1, CELLS, 7), np.float32)]

    detector = YoloxDetector(network(tmp_path / "a.onnx", {}))
    detector.session = spy = Spy()
    detector(np.full((16, 32, 3), (200, 100, 50), np.uint8))
    assert spy.pixels.shape == (1, 3, SIDE, SIDE)
    assert spy.pixels.dtype == np.float32
    assert (spy.pixels[0, :, :32] == np.array([50, 100, 200]).reshape(3, 1, 1)).all()
    assert (spy.pixels[0, :, 32:] == 114).all()


@needs_onnx
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cells": 90}, r"no YOLOX, its output is \(90, 7\); expected 84 × \(5 \+ classes\)"),
        ({"classes": 0}, r"no YOLOX, its output is \(84, 5\)"),
        ({"size": ("h", "w")}, r"no YOLOX, its input is \[1, 3, 'h', 'w'\]; expected 1 × 3 × "),
        ({"size": (60, 60)}, r"no YOLOX, its input is \[1, 3, 60, 60\]"),
    ],
)
def test_another_network_is_no_yolox(options, message, tmp_path):
    path = network(tmp_path / "other.onnx", {}, **options)
    with pytest.raises(ModelError, match=rf"detector\.weights=.*other\.onnx: {message}"):
        YoloxDetector(path)(np.zeros((SIDE, SIDE, 3), np.uint8))


@needs_onnx
def test_a_file_that_is_none(tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ModelError, match=r"text\.onnx: not a readable ONNX file \("):
        YoloxDetector(str(tmp_path / "text.onnx"))
    with pytest.raises(ModelError, match=r"none\.onnx: no such file; expected a YOLOX"):
        YoloxDetector(str(tmp_path / "none.onnx"))


def test_without_the_engine(monkeypatch):
    monkeypatch.setattr("convpose.errors.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"onnxruntime is not installed; .*'convpose\[onnx\]'"):
        YoloxDetector("a.onnx")


class FakeTorchvision(nn.Module):
    """Answers as torchvision's detectors do."""

    def forward(self, images):
        (image,) = images
        assert image.shape[0] == 3
        assert image.max() <= 1
        boxes = torch.tensor([[10.0, 5, 30, 25], [-9, -9, 200, 200], [1, 1, 9, 9], [4, 4, 4.5, 9]])
        scores = torch.tensor([0.6, 0.9, 0.95, 0.99])
        return [{"boxes": boxes, "labels": torch.tensor([1, 1, 18, 1]), "scores": scores}]


def test_torchvision_finds_people_sorted_and_inside(monkeypatch):
    monkeypatch.setattr(models, "get_model", lambda *a, **k: FakeTorchvision())
    image = np.full((50, 100, 3), 255, np.uint8)
    boxes, scores = TorchvisionDetector(accelerator="cpu")(image)
    assert boxes.tolist() == [[-0.5, -0.5, 99.5, 49.5], [9.5, 4.5, 29.5, 24.5]], "dogs and slivers"
    assert scores.tolist() == pytest.approx([0.9, 0.6])
    assert len(TorchvisionDetector(score_threshold=0.7)(image).scores) == 1


def test_torchvision_from_a_file(tmp_path):
    name = "ssdlite320_mobilenet_v3_large"
    model = models.get_model(name, weights=None, weights_backbone=None)
    torch.save(model.state_dict(), tmp_path / "own.pt")
    detector = TorchvisionDetector(name, str(tmp_path / "own.pt"), 0.0, accelerator="cpu")
    for a, b in zip(model.state_dict().values(), detector.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"detector\.weights=.*other\.pt: not weights of ssdlite"):
        TorchvisionDetector(name, str(tmp_path / "other.pt"))


def test_torchvision_without_a_network(monkeypatch):
    def offline(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(models, "get_model", offline)
    with pytest.raises(ModelError) as error:
        TorchvisionDetector()
    assert "torchvision's weights could not be fetched (no route to host)" in str(error.value)
    assert "detector=yolox detector.weights=FILE.onnx" in str(error.value)


def test_torchvision_has_no_such_detector():
    with pytest.raises(
        ConfigError, match=r"detector\.name=yolo: no such detector; type fasterrcnn"
    ):
        TorchvisionDetector("yolo")


def test_every_detector_is_configured():
    names = {path.stem for path in (conf_folder() / "detector").glob("*.yaml")}
    assert names == {"auto", "none", "torchvision", "yolox"}
    assert not composed("predict", "detector=none").detector


@needs_onnx
def test_a_yolox_from_its_yaml(tmp_path):
    weights = f"detector.weights={network(tmp_path / 'a.onnx', {})}"
    cfg = composed("predict", "detector=yolox", weights, "detector.threads=1")
    assert build(cfg.detector, "detector").score_threshold == 0.3


def test_a_torchvision_from_its_yaml(monkeypatch):
    monkeypatch.setattr(models, "get_model", lambda *a, **k: FakeTorchvision())
    cfg = composed("predict", "detector=torchvision", "accelerator=cpu")
    assert build(cfg.detector, "detector").device == torch.device("cpu")


@needs_onnx
def test_auto_takes_a_yolox_at_hand_else_torchvisions(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(models, "get_model", lambda *a, **k: FakeTorchvision())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cfg = composed("predict", "detector=auto", "accelerator=cpu", f"paths.data={tmp_path / 'data'}")
    with caplog.at_level("INFO"):
        assert isinstance(build(cfg.detector, "detector"), TorchvisionDetector)
    assert re.search(
        r"no yolox\*\.onnx in \., \S+data; fetching .* 74 MB.* SHA.*\.pth", caplog.text
    )
    (tmp_path / "data").mkdir()
    network(tmp_path / "data" / "yolox_s.onnx", {})
    with caplog.at_level("INFO"):
        assert isinstance(build(cfg.detector, "detector"), YoloxDetector)
    assert f"detector=auto: {tmp_path / 'data' / 'yolox_s.onnx'}" in caplog.text


def test_without_any_detector_one_command_is_said(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(models, "get_model", refused)
    monkeypatch.chdir(tmp_path)
    cfg = composed("predict", "detector=auto", f"paths.data={tmp_path / 'data'}")
    said = r"no yolox\*\.onnx in \., \S+data, and torchvision's .*\n  curl -LO https\S+tiny\.onnx$"
    with pytest.raises(ModelError, match=said):
        build(cfg.detector, "detector")


@pytest.mark.archive
@needs_onnx
def test_yolox_nano_finds_the_people_of_lspet():
    folder = Path(os.environ.get("CONVPOSE_DATA", "nowhere"))
    weights = folder.parent / "weights" / "detectors" / "yolox_nano_416.onnx"
    if not weights.is_file() or not (folder / "lspet_dataset.zip").is_file():
        pytest.skip("CONVPOSE_DATA has no LSPET, or no weights/detectors beside it")
    source = LspSource("lspet", None, folder)
    detector = YoloxDetector(str(weights), threads=1)
    hits = []
    for i in range(0, 10_000, 125):
        annotation = source.annotations[i]
        if annotation.labelled.sum() < 12:
            continue
        boxes, _ = detector(source.read_image(i)[0])
        points = annotation.keypoints_px[annotation.labelled]
        hits.append(len(boxes) > 0 and overlap(boxes[0], [*points.min(0), *points.max(0)]) >= 0.5)
    assert len(hits) > 40
    assert np.mean(hits) > 0.5, "0.68 was measured on 198 of these photographs"


def overlap(a, b):
    """Intersection over union."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)
