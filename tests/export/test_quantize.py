"""Choose the nodes to quantise, on a graph small enough to see."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="a graph is made with onnx")
pytest.importorskip("onnxruntime", reason="and quantised by onnxruntime")

from convpose.export.writers import (  # noqa: E402, they need both
    OPSET,
    quantize,
    whole_nodes,
)
from convpose.runtime import KEY  # noqa: E402


@pytest.fixture
def graph():
    """crops → normalised → conv → relu → conv → sigmoid, and a branch to its own last conv."""
    rng = np.random.default_rng(0)
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    weights = [
        tensor(rng.normal(size=(4, 3 if i == 0 else 4, 1, 1)).astype(np.float32), f"w{i}")
        for i in range(3)
    ]
    nodes = [
        helper.make_node("Cast", ["crops"], ["whole"], "cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Div", ["whole", "large"], ["small"], "divide"),
        helper.make_node("Conv", ["small", "w0"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "last"),
        helper.make_node("Sigmoid", ["c"], ["keypoints"], "decode"),
        helper.make_node("Conv", ["b", "w2"], ["scores"], "other"),
    ]
    return helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("crops", onnx.TensorProto.UINT8, ["batch", 3, 8, 8])],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4, 8, 8])
            for name in ("keypoints", "scores")
        ],
        [*weights, tensor(np.float32(255), "large")],
    )


def test_ends_stay_whole(graph):
    assert whole_nodes(graph) == ["cast", "divide", "last", "decode", "other"]


def test_a_quantised_file_keeps_its_facts_and_nearly_its_answers(graph, tmp_path):
    import onnxruntime

    # a version of the format that PyTorch writes; onnx by itself takes one that only it may know
    opset = onnx.helper.make_opsetid("", OPSET)
    made = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10)
    onnx.helper.set_model_props(made, {KEY: "facts"})
    onnx.save(made, tmp_path / "fp32.onnx")
    crops = np.random.default_rng(1).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    quantize(tmp_path / "fp32.onnx", crops, tmp_path / "int8.onnx")
    found = onnx.load(tmp_path / "int8.onnx")
    assert {entry.key: entry.value for entry in found.metadata_props}[KEY] == "facts"
    assert any(t.data_type == onnx.TensorProto.INT8 for t in found.graph.initializer)
    sessions = [onnxruntime.InferenceSession(tmp_path / f"{n}.onnx") for n in ("fp32", "int8")]
    whole, small = (session.run(["keypoints"], {"crops": crops})[0] for session in sessions)
    assert 0 < np.abs(whole - small).max() < 0.05
