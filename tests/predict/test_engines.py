"""The same network in every engine, and what cannot be opened."""

import hashlib
import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from fake_network import dot
from PIL import Image
from tiny import composed

from convpose.errors import ConfigError, ModelError
from convpose.export import network as on_demand
from convpose.export.command import Difference, synthetic_crops
from convpose.predict import predictor
from convpose.predict.command import build_predictor, predict
from convpose.predict.predictor import PosePredictor, open_network
from convpose.runtime import KEY, VERSION
from convpose.runtime.engines import OnnxRuntime, weights_file
from convpose.runtime.packaged import pack
from convpose.runtime.pytorch import TorchRuntime
from convpose.skeleton import COCO17


def needing(*packages):
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


needs_onnx = needing("onnx", "onnxscript", "onnxruntime")
needs_openvino = needing("openvino", "onnx", "onnxscript", "onnxruntime")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, (width, height) in enumerate([(64, 48), (200, 300), (32, 32)]):
        image = dot(width, height, (width / 3 + 5 * i, height / 2))
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def predicted(run, pictures, *overrides):
    """Keypoints (N, 14, 2) and scores (N, 14) that `convpose.predict` writes."""
    output = pictures.parent / "out"
    how = [f"source={pictures}", f"run={run}", f"output={output}", "draw=false", "threads=1"]
    summary = predict(composed("predict", *how, *overrides))
    assert (summary.people, summary.failures) == (3, [])
    frames = json.loads((output / "keypoints.json").read_text())["frames"]
    people = [person for frame in frames for person in frame["people"]]
    return tuple(np.array([person[key] for person in people]) for key in ("keypoints_px", "scores"))


@pytest.mark.parametrize("looks", [[], ["mirror_test=true", "quarter_turns=true"]])
@pytest.mark.parametrize("engine", ["onnx", pytest.param("openvino", marks=needs_openvino)])
def test_predict_finds_the_same_people(engine, looks, one_graph, trained, pictures):
    expected, expected_scores = predicted(trained, pictures, "engine=torch", *looks)
    found, scores = predicted(trained, pictures, f"engine={engine}", *looks)
    scale = np.array([64, 300, 32]) / 32  # pixels of the picture in one of the crop
    assert (np.abs(found - expected).max(axis=(1, 2)) < 1e-3 * scale).all()
    assert np.abs(scores - expected_scores).max() < 1e-4


@needing("onnxruntime")
def test_the_default_network_answers_without_torch_and_as_pytorch_does(monkeypatch):
    monkeypatch.setattr(predictor, "nvidia_driver", lambda: False)
    shipped, reference = open_network(threads=1), open_network(engine="torch", accelerator="cpu")
    assert isinstance(shipped, OnnxRuntime)
    assert shipped.path == weights_file("small").with_suffix(".onnx")
    difference = Difference.between(reference, shipped, synthetic_crops(reference.spec))
    assert difference.largest_px < 0.01
    assert difference.score < 1e-4
    assert shipped.spec == reference.spec
    facts = json.loads(shipped._session.get_modelmeta().custom_metadata_map[KEY])
    assert facts["sha256"] == hashlib.sha256(weights_file("small").read_bytes()).hexdigest()


def test_what_the_shipped_file_is_not_for(monkeypatch):
    def takes_torch(**how):
        return isinstance(open_network(**how), TorchRuntime)

    monkeypatch.setattr(predictor, "nvidia_driver", lambda: False)
    assert takes_torch(precision="32-true", accelerator="cpu")
    assert takes_torch(weights="large")
    flip = composed("predict", "source=a.jpg", "mirror_test=true", "accelerator=cpu")
    assert isinstance(build_predictor(flip).runtime, TorchRuntime)
    monkeypatch.setattr(predictor, "nvidia_driver", lambda: True)
    assert takes_torch()
    monkeypatch.setattr(predictor, "find_spec", lambda name: None)
    assert takes_torch(accelerator="cpu")


def test_an_export_is_made_once(one_graph, trained, tmp_path, monkeypatch, capsys):
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("exported"))
    first = open_network(run=run, engine="onnx")
    assert first.path.parent == run / "exported"
    assert "exported to " in capsys.readouterr().out
    monkeypatch.setattr(on_demand, "write", lambda *_: pytest.fail("again"))
    assert open_network(run=run, engine="onnx").path == first.path
    assert not capsys.readouterr().out
    with pytest.raises(pytest.fail.Exception, match="again"):
        open_network(run=run, engine="onnx", checkpoint="last")
    checkpoint = run / "checkpoints" / "best.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, checkpoint)
    with pytest.raises(pytest.fail.Exception, match="again"):
        open_network(run=run, engine="onnx")
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]


def test_packaged_weights_are_exported_to_the_cache(one_graph, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = pack(trained, tmp_path / "tiny.safetensors")
    found = open_network(weights=weights, engine="onnx")
    assert found.path.parent == tmp_path / "cache" / "convpose"
    with pytest.raises(ModelError, match=r"none\.safetensors: no such file"):
        open_network(weights=tmp_path / "none.safetensors", engine="onnx")


def test_a_predictor_opens_an_exported_file(onnx_file, trained):
    image = dot(48, 48, (20, 25))
    expected = PosePredictor.from_run(trained)(image)[0]
    found = PosePredictor.from_weights(onnx_file)(image)[0]
    assert np.abs(found.keypoints_px - expected.keypoints_px).max() < 2e-3


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"engine": "torch"}, "engine=torch: that file is for engine=onnx; type engine=auto"),
        ({"precision": "16-mixed"}, "precision=16-mixed: an exported network has the precision"),
        ({"accelerator": "tpu"}, "accelerator=tpu: type auto, cpu or gpu"),
        pytest.param(
            {"accelerator": "gpu"},
            "accelerator=gpu: ONNX Runtime sees none",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_an_exported_file_cannot_be_opened_so(how, message, onnx_file):
    with pytest.raises(ConfigError, match=message):
        open_network(weights=onnx_file, **how)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"engine": "tensorrt"}, "engine=tensorrt: type auto, torch, onnx, openvino, li"),
        ({"weights": "a.onnx"}, "two networks; type one of them"),
        ({"engine": "onnx", "precision": "bf16-mixed"}, "type precision=auto here, and precision"),
    ],
)
def test_what_cannot_be_opened_so(how, message, trained):
    with pytest.raises(ConfigError, match=message):
        open_network(run=trained, **how)


@pytest.mark.parametrize(
    ("engine", "package", "suffix"),
    [("onnx", "onnxruntime", ".onnx"), ("openvino", "openvino", ".xml")],
)
def test_an_engine_that_is_not_installed_is_named_with_its_extra(
    engine, package, suffix, trained, tmp_path, monkeypatch
):
    monkeypatch.setattr("convpose.errors.find_spec", lambda name: None if name == package else name)
    message = rf"{package} is not installed; type pip install 'convpose\[{engine}\]'"
    with pytest.raises(ConfigError, match=message):
        open_network(weights=tmp_path / f"pose{suffix}")
    with pytest.raises(ConfigError, match=message):
        open_network(run=trained, engine=engine)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        pytest.param(".onnx", "ONNX", marks=needs_onnx),
        pytest.param(".xml", "OpenVINO", marks=needs_openvino),
        (".torchscript", "TorchScript"),
    ],
)
def test_a_broken_file_and_none(suffix, kind, tmp_path):
    file = tmp_path / f"pose{suffix}"
    with pytest.raises(ModelError, match=r"no such file; python -m convpose\.export writes one"):
        open_network(weights=file)
    file.write_bytes(b"hello")
    file.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(ModelError, match=rf"pose{suffix}: not a readable {kind} file"):
        open_network(weights=file)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "does not say what crops it wants"),
        ({KEY: "hello"}, "does not say what crops it wants"),
        ({KEY: json.dumps({"version": VERSION + 1, "spec": {}})}, "format version 2, this convpo"),
        ({KEY: json.dumps({"version": VERSION, "spec": {}})}, "description of the network is inc"),
    ],
)
def test_a_file_of_others_and_of_another_version(facts, message, onnx_file, tmp_path):
    import onnx

    graph = onnx.load(onnx_file)
    onnx.helper.set_model_props(graph, facts)
    onnx.save(graph, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match=message):
        open_network(weights=tmp_path / "other.onnx")


@pytest.mark.parametrize(
    "change",
    [
        {"input_size_px": 96},
        {"skeleton": COCO17.to_dict(), "keypoints": list(COCO17.keypoints)},
    ],
)
def test_a_file_that_is_another_network_than_it_says(change, onnx_file, tmp_path):
    import onnx

    graph = onnx.load(onnx_file)
    facts = json.loads({entry.key: entry.value for entry in graph.metadata_props}[KEY])
    facts["spec"] |= change
    onnx.helper.set_model_props(graph, {KEY: json.dumps(facts)})
    onnx.save(graph, tmp_path / "other.onnx")
    size, count = facts["spec"]["input_size_px"], len(facts["spec"]["keypoints"])
    said = rf"other\.onnx: not the network of {count} keypoints in crops of {size} px that it says"
    with pytest.raises(ModelError, match=said):
        open_network(weights=tmp_path / "other.onnx")


def test_threads_are_those_of_torch(trained):
    before = torch.get_num_threads()
    try:
        open_network(run=trained, threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
