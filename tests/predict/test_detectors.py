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
from convpose.predict.detectors import TorchvisionDetector
from convpose.predict.onnx_detectors import DetrDetector, YoloxDetector

pytestmark = pytest.mark.slow
SIDE = 64  # 64 + 16 + 4 cells
CELLS = 84


def network(path, rows, classes=2, size=(SIDE, SIDE), cells=CELLS):
    """A YOLOX whose output does not depend on its input: rows by cell, zero elsewhere."""
    output = np.zeros((1, cells, 5 + classes), np.float32)
    for cell, row in rows.items():
        output[0, cell, : len(row)] = row
    return constants(path, {"output": output}, size)


def constants(path, outputs, size=(SIDE, SIDE)):
    """A network of one input whose outputs do not depend on it."""
    named = {f"{name}_constant": value for name, value in outputs.items()}
    return graph(
        path, [("Identity", [f"{n}_constant"], n, {}) for n in outputs], outputs, named, size
    )


def graph(path, nodes, outputs, named, size, more=()):
    """A network of `nodes` (type, inputs, output, attributes), in a file."""
    onnx = pytest.importorskip("onnx")
    kinds = {"f": onnx.TensorProto.FLOAT, "i": onnx.TensorProto.INT64}
    images = onnx.helper.make_tensor_value_info("images", kinds["f"], [1, 3, *size])
    other = [onnx.helper.make_tensor_value_info(n, kinds["i"], shape) for n, shape in more]
    found = [
        onnx.helper.make_tensor_value_info(n, kinds[v.dtype.kind], v.shape)
        for n, v in outputs.items()
    ]
    made = [onnx.helper.make_node(kind, i, [o], **how) for kind, i, o, how in nodes]
    known = [onnx.numpy_helper.from_array(value, name) for name, value in named.items()]
    whole = onnx.helper.make_graph(made, "fake", [images, *other], found, known)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(whole, opset_imports=opset, ir_version=8), path)
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


def rt_detr(path, side=SIDE):
    """An RT-DETR: the boxes are shares of ``orig_target_sizes``, scores of the brightest value."""
    labels = np.array([[0, 0, 16, 0]], np.int64)
    shares = np.array([[[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0.5, 0.5]]])
    scores = np.array([[0.5, 0.9, 0.99, 0.1]], np.float32)
    named = {"l": labels, "s": shares.astype(np.float32), "p": scores}
    nodes = [
        ("Identity", ["l"], "labels", {}),
        ("Cast", ["orig_target_sizes"], "wh", {"to": 1}),
        ("Concat", ["wh", "wh"], "whwh", {"axis": 1}),
        ("Mul", ["s", "whwh"], "boxes", {}),
        ("ReduceMax", ["images"], "brightest", {"keepdims": 0}),
        ("Mul", ["p", "brightest"], "scores", {}),
    ]
    outputs = {"labels": labels, "boxes": named["s"], "scores": scores}
    return graph(path, nodes, outputs, named, (side, side), [("orig_target_sizes", [1, 2])])


@needs_onnx
def test_rt_detr_finds_people_in_a_stretched_picture(tmp_path):
    image = np.full((50, 100, 3), 255, np.uint8)  # white is 1.0: scores stay as they are
    boxes, scores = DetrDetector(rt_detr(tmp_path / "a.onnx"))(image)
    assert boxes.tolist() == [[-0.5, -0.5, 99.5, 49.5], pytest.approx([9.5, 9.5, 49.5, 29.5])]
    assert scores.tolist() == pytest.approx([0.9, 0.5]), "neither dogs nor doubtful people"
    assert len(DetrDetector(rt_detr(tmp_path / "a.onnx"), 0.6)(image).scores) == 1
    dark = DetrDetector(rt_detr(tmp_path / "a.onnx"))(image // 5 * 3)
    assert dark.scores.tolist() == pytest.approx([0.54])


@needs_onnx
def test_rf_detr_has_shares_and_logits(tmp_path):
    dets = np.array([[[0.5, 0.5, 0.2, 0.4], [0.5, 0.5, 1, 1], [0.3, 0.3, 0.1, 0.1]]], np.float32)
    logits = np.full((1, 3, 91), -9, np.float32)
    logits[0, 0, 1], logits[0, 1, 18], logits[0, 2, 1] = np.log(4), 3, -1  # 0.8, a dog, 0.27
    path = constants(tmp_path / "a.onnx", {"dets": dets, "labels": logits})
    with pytest.raises(ModelError, match="no YOLOX"):
        YoloxDetector(path)(np.zeros((50, 100, 3), np.uint8))
    boxes, scores = DetrDetector(path)(np.zeros((50, 100, 3), np.uint8))
    assert boxes.tolist() == [pytest.approx([39.5, 14.5, 59.5, 34.5], abs=1e-4)]
    assert scores.tolist() == pytest.approx([0.8])


@needs_onnx
def test_rf_detr_sees_a_normalised_picture(tmp_path):
    """Its score is the logistic function of the input's mean."""
    dets = np.array([[[0.5, 0.5, 1, 1]]], np.float32)
    named = {"d": dets, "spread": np.ones((1, 1, 2), np.float32)}
    nodes = [
        ("Identity", ["d"], "dets", {}),
        ("ReduceMean", ["images"], "mean", {"keepdims": 0}),
        ("Mul", ["spread", "mean"], "labels", {}),
    ]
    outputs = {"dets": dets, "labels": named["spread"]}
    path = graph(tmp_path / "a.onnx", nodes, outputs, named, (SIDE, SIDE))
    found = DetrDetector(path)(np.full((9, 9, 3), 255, np.uint8))
    white = np.mean((1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225])
    assert found.scores.tolist() == pytest.approx([1 / (1 + np.exp(-white))], abs=1e-5)


@needs_onnx
def test_a_yolox_of_rtmlib_has_left_out_doubles_itself(tmp_path):
    dets = np.array([[[8, 4, 24, 40, 0.9], [8, 4, 24, 40, 0.8], [0, 0, 9, 9, 0.1]]], np.float32)
    outputs = {"dets": dets, "labels": np.array([[0, 2, 0]], np.int64)}
    path = constants(tmp_path / "a.onnx", outputs)
    with pytest.raises(ModelError, match="no RT-DETR"):
        DetrDetector(path)
    detector = YoloxDetector(path)
    boxes, scores = detector(np.zeros((4 * SIDE, 2 * SIDE, 3), np.uint8))
    assert boxes.tolist() == [pytest.approx([31.5, 15.5, 95.5, 159.5])]
    assert scores.tolist() == pytest.approx([0.9])
    of_any_size = YoloxDetector(constants(tmp_path / "b.onnx", outputs, ("h", "w")))
    assert of_any_size.size == (640, 640)


@needs_onnx
def test_a_detr_may_have_its_inputs_in_any_order_and_masks(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(rt_detr(tmp_path / "a.onnx"))
    inputs = list(model.graph.input)[::-1]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    onnx.save(model, tmp_path / "b.onnx")
    white = np.full((50, 100, 3), 255, np.uint8)
    assert len(DetrDetector(str(tmp_path / "b.onnx"))(white).scores) == 2
    outputs = {"dets": np.full((1, 1, 4), 0.5, np.float32)}
    outputs |= {"labels": np.zeros((1, 1, 2), np.float32), "masks": np.zeros((1, 1, 8, 8), "f4")}
    found = DetrDetector(constants(tmp_path / "c.onnx", outputs))(white)
    assert found.boxes_px.tolist() == [[24.5, 12.0, 74.5, 37.0]]
    assert found.scores.tolist() == [0.5]


@needs_onnx
@pytest.mark.parametrize(
    ("sizes", "classes", "reason"),
    [
        ([2, 2], 91, "Got invalid dimensions for input: orig_target_sizes"),
        (None, 1, "index 1 is out of bounds"),  # a network of one class, without a background
    ],
)
def test_a_detr_that_answers_otherwise(sizes, classes, reason, tmp_path):
    outputs = {"dets": np.zeros((1, 3, 4), np.float32)}
    outputs["labels"] = np.zeros((1, 3, classes), np.float32)
    if sizes:
        outputs |= {"boxes": outputs["dets"], "scores": outputs["labels"][..., 0]}
    nodes = [("Identity", [f"{n}_"], n, {}) for n in outputs]
    more = [("orig_target_sizes", sizes)] if sizes else []
    named = {f"{n}_": value for n, value in outputs.items()}
    path = graph(tmp_path / "odd.onnx", nodes, outputs, named, (SIDE, SIDE), more)
    said = rf"detector\.weights=.*odd\.onnx: not a readable DETR file \(.*{reason}"
    with pytest.raises(ModelError, match=said):
        DetrDetector(path)(np.zeros((50, 100, 3), np.uint8))


@needs_onnx
def test_another_network_is_no_detr(tmp_path):
    path = network(tmp_path / "a.onnx", {})
    said = (
        r"no RT-DETR, .* its inputs are \{'images': \[1, 3, 64, 64\]\} and its outputs \{'output': "
    )
    with pytest.raises(ModelError, match=said):
        DetrDetector(path)
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    del model.graph.input[:]
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"no RT-DETR, .* its inputs are \{\} and"):
        DetrDetector(path)


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
    with pytest.raises(ModelError, match=r"none\.onnx: no such file; expected an"):
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
    assert names == {"auto", "detr", "none", "torchvision", "yolox"}
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
        r"no yolox\*\.onnx, rt\S+ or rf\S+ in \., \S+data, \S+; fetching .* 74 MB.* SHA.*\.pth",
        caplog.text,
    )
    (tmp_path / "data").mkdir()
    network(tmp_path / "data" / "yolox_s.onnx", {})
    with caplog.at_level("INFO"):
        assert isinstance(build(cfg.detector, "detector"), YoloxDetector)
    assert f"detector=auto: {tmp_path / 'data' / 'yolox_s.onnx'}" in caplog.text
    rt_detr(tmp_path / "RT-DETR_r18.onnx")
    assert isinstance(build(cfg.detector, "detector"), DetrDetector), "this folder is the first"


def test_without_any_detector_one_command_is_said(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(models, "get_model", refused)
    monkeypatch.chdir(tmp_path)
    cfg = composed("predict", "detector=auto", f"paths.data={tmp_path / 'data'}")
    said = (
        r"rfdetr\*\.onnx in \., \S+data, \S+, and torchvision's .*\n  curl -LO https\S+tiny\.onnx$"
    )
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
