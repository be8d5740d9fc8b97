"""`python -m convpose.export`: files that are enough by themselves, or no file at all."""

import json
import shutil
import sys
import zipfile
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tiny import composed

from convpose.errors import ConfigError, ModelError
from convpose.export import command
from convpose.export.command import export, open_data, synthetic_crops
from convpose.export.network import staged
from convpose.export.request import NEEDS, SUFFIXES
from convpose.predict.predictor import open_network
from convpose.run import Run
from convpose.runtime import KEY
from convpose.runtime.packaged import pack

pytestmark = pytest.mark.slow


def export_config(*overrides):
    return composed("export", *overrides)


def difference_px(one, other):
    """Largest distance of keypoints on synthetic crops, in pixels of the crop."""
    assert one.spec == other.spec
    crops = synthetic_crops(one.spec, 12)
    return np.abs(one(crops)[0] - other(crops)[0]).max() * one.spec.input_size_px


def test_onnx_is_one_file_that_knows_its_crops(onnx_file, trained):
    onnx = pytest.importorskip("onnx")
    assert onnx_file == trained / "exported" / "best_fp32.onnx"
    graph = onnx.load(onnx_file)
    facts = json.loads({entry.key: entry.value for entry in graph.metadata_props}[KEY])
    assert facts["spec"]["input_size_px"] == 32
    assert facts["spec"]["frame"] == "letterbox"
    assert facts["spec"]["box_scale"] == 1.25
    assert facts["spec"]["keypoints"][0] == "right_ankle"
    assert facts["precision"] == "fp32"
    assert len(facts["in_the_graph"]["pixel_mean"]) == 3
    assert len(facts["in_the_graph"]["score_slope"]) == 14
    assert facts["network"] == "run/best"
    assert str(trained.parent) not in json.dumps(facts), "no path of this machine"
    (crops,) = graph.graph.input
    assert crops.name == "crops"
    assert crops.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert crops.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert difference_px(open_network(run=trained), open_network(weights=onnx_file)) < 1e-3


def test_a_report_is_written_where_asked_for(onnx_file, trained):
    report = json.loads((trained / "made" / "report.json").read_text())
    assert 0 <= report["parity"]["usual_px"] <= report["parity"]["largest_px"] < 0.02
    assert report["parity"]["crops"] == 48
    assert report["spec"]["skeleton"]["name"] == "lsp14"


def test_half_precision_is_half_the_size_and_near(onnx_file, trained):
    half = export(export_config(f"run={trained}", "precision=fp16"))
    assert half.name == "best_fp16.onnx"
    assert half.stat().st_size < 0.62 * onnx_file.stat().st_size
    assert 0 < difference_px(open_network(run=trained), open_network(weights=half)) < 0.2


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "link", "inside"])
def test_weights_outside_the_folder_of_an_onnx_file_are_not_read(place, onnx_file, tmp_path):
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "downloaded"
    folder.mkdir()
    graph = onnx.load(onnx_file)
    tensor = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    for path in (tmp_path / "secret", folder / "inside"):
        path.write_bytes(tensor.raw_data)
    (folder / "link").symlink_to("../secret")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    (folder / "a.onnx").write_bytes(graph.SerializeToString())
    if place == "inside":
        assert (
            difference_px(open_network(weights=folder / "a.onnx"), open_network(weights=onnx_file))
            == 0
        )
    else:
        with pytest.raises(
            ModelError, match=rf"a\.onnx: wants to read {place}, outside its folder"
        ):
            open_network(weights=folder / "a.onnx")


@pytest.mark.parametrize(
    "change", [{"input_size_px": 10**9}, {"input_size_px": "big"}, {"box_scale": 0}, {"frame": "x"}]
)
def test_facts_out_of_their_range(change, onnx_file, tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(onnx_file)
    facts = json.loads({entry.key: entry.value for entry in graph.metadata_props}[KEY])
    facts["spec"] |= change
    onnx.helper.set_model_props(graph, {KEY: json.dumps(facts)})
    onnx.save(graph, tmp_path / "a.onnx")
    with pytest.raises(
        ModelError, match=f"description of the network is incomplete .*{next(iter(change))}"
    ):
        open_network(weights=tmp_path / "a.onnx")


def test_torchscript(trained, capsys):
    file = export(export_config(f"run={trained}", "format=torchscript"))
    assert file.name == "best_fp32.torchscript"
    assert "keypoints are at most" in capsys.readouterr().out
    assert difference_px(open_network(run=trained), open_network(weights=file)) < 1e-3


def test_openvino(one_graph, trained):
    pytest.importorskip("openvino", reason="OpenVINO's format is written and computed by openvino")
    file = export(export_config(f"run={trained}", "format=openvino"))
    assert file.name == "best_fp32.xml"
    reference = open_network(run=trained)
    assert difference_px(reference, open_network(weights=file, threads=1)) < 1e-3
    half = export(export_config(f"run={trained}", "format=openvino", "precision=fp16"))
    sizes = [path.with_suffix(".bin").stat().st_size for path in (file, half)]
    assert sizes[1] < 0.6 * sizes[0]
    assert 0 < difference_px(reference, open_network(weights=half)) < 0.2
    half.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match=r"best_fp16\.bin: no such file"):
        open_network(weights=half)


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_killed_between_the_two_files_of_openvino(moves, tmp_path, monkeypatch):
    """An old graph beside new weights would answer, and wrongly."""
    graph, weights = tmp_path / "pose.xml", tmp_path / "pose.bin"
    graph.write_text("old")
    weights.write_text("old")
    move, left = Path.replace, [None] * moves

    def killed(path, place):
        if not left:
            raise SystemExit
        left.pop()
        return move(path, place)

    block = staged(graph)
    path = block.__enter__()
    path.write_text("new")
    path.with_suffix(".bin").write_text("new")
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(SystemExit):
        block.__exit__(None, None, None)
    assert graph.exists() == (moves == 0)
    assert weights.read_text() == ("new" if moves == 2 else "old")


def test_litert(trained, tmp_path):
    reason = "LiteRT's format is written by litert-torch, convpose[litert]"
    pytest.importorskip("litert_torch", reason=reason)
    file = export(export_config(f"run={trained}", "format=litert"))
    assert file.name == "best_fp32.tflite"
    reference = open_network(run=trained)
    assert difference_px(reference, open_network(weights=file, threads=1)) < 1e-3
    half = export(export_config(f"run={trained}", "format=litert", "precision=fp16"))
    assert half.stat().st_size < 0.7 * file.stat().st_size
    assert 0 < difference_px(reference, open_network(weights=half)) < 0.2
    with zipfile.ZipFile(half) as archive:
        assert json.loads(archive.read("convpose.json"))["precision"] == "fp16"
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"bare\.tflite: does not say what crops it wants"):
        open_network(weights=bare)


def test_coreml(trained, capsys, monkeypatch):
    reason = "Core ML's format is written by coremltools, convpose[coreml]"
    tool = pytest.importorskip("coremltools", reason=reason)
    for _ in range(2):  # it is a folder, which is replaced
        file = export(export_config(f"run={trained}", "format=coreml", "precision=fp16"))
    assert file.name == "best_fp16.mlpackage"
    out = capsys.readouterr().out
    model = tool.models.MLModel(str(file), skip_model_load=True)
    assert json.loads(model.user_defined_metadata[KEY])["spec"]["input_size_px"] == 32
    (crops,) = model.get_spec().description.input
    assert (crops.name, crops.type.imageType.width, crops.type.imageType.height) == (
        "crops",
        32,
        32,
    )
    shapes = {o.name: [*o.type.multiArrayType.shape] for o in model.get_spec().description.output}
    assert shapes == {"keypoints": [1, 14, 2], "scores": [1, 14]}
    if sys.platform == "darwin":
        assert "keypoints are at most" in out
        return
    assert "not compared with PyTorch: Core ML computes on macOS alone; export there" in out
    reference = open_network(run=trained)

    class OnMac:
        """Compute what a Mac would compute of a picture."""

        def __init__(self, path, compute_units):
            self.user_defined_metadata = model.user_defined_metadata

        def predict(self, inputs):
            crop = np.array(inputs["crops"]).transpose(2, 0, 1)[None]
            return dict(zip(("keypoints", "scores"), reference(crop), strict=True))

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(tool.models, "MLModel", OnMac)
    assert difference_px(reference, open_network(weights=file)) < 1e-3


def test_packaged_weights_become_one_file_and_nothing_else(trained, tmp_path, monkeypatch):
    weights = pack(trained, tmp_path / "tiny.safetensors")
    here, output = tmp_path / "here", tmp_path / "out" / "small.torchscript"
    here.mkdir()
    monkeypatch.chdir(here)
    cfg = export_config(f"weights={weights}", f"output={output}", "format=torchscript")
    assert export(cfg) == output
    assert list(output.parent.iterdir()) == [output]
    assert not list(here.iterdir())
    assert difference_px(open_network(weights=weights), open_network(weights=output)) < 1e-3


@pytest.mark.parametrize("form", ["onnx", "openvino", "litert"])
def test_int8_reports_what_it_loses(form, one_graph, trained, tmp_path, capsys, monkeypatch):
    if form == "openvino":
        pytest.importorskip("openvino", reason="the file is computed by openvino")
    if form == "litert":
        pytest.importorskip("litert_torch", reason="the file is written by litert-torch")
    monkeypatch.chdir(tmp_path)
    quick = ["precision=int8", f"format={form}", "calibration_images=16", "max_pck_drop=0.2"]
    paths = ["report=report.json", f"output=pose{SUFFIXES[form]}"]
    file = export(export_config(f"run={trained}", *quick, *paths))
    weights = {"pose.bin"} if form == "openvino" else set()
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "report.json"} | weights
    out = capsys.readouterr().out
    assert "6 validation images of synthetic, crop box" in " ".join(out.split())
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["before"]["num_images"] == report["after"]["num_images"] == 6
    assert report["precision"] == "int8"
    (line,) = (line for line in out.splitlines() if line.strip().startswith("EPE px"))
    assert line.split()[2:] == [f"{report[key]['epe_px']:.2f}" for key in ("before", "after")]
    assert difference_px(open_network(run=trained), open_network(weights=file)) > 0


def test_the_training_part_of_a_run_is_not_reduced_twice(unbroken, tmp_path):
    run = Run(shutil.copytree(unbroken, tmp_path / "half"))
    cfg = run.config
    cfg.data.train_share = 0.5
    OmegaConf.save(cfg, run.folder / "config.yaml")
    data = open_data(export_config(), SimpleNamespace(run=run), None)
    assert data.split == json.loads((run.folder / "splits.json").read_text())


def test_int8_that_loses_too_much_leaves_nothing(one_graph, trained, tmp_path, monkeypatch):
    validate = command.validate

    def worse(runtime, data, what):
        measures = dict(validate(runtime, data, what))
        measures["pck@0.2"] = 0.5 if what == "PyTorch" else 0.3
        return measures

    monkeypatch.setattr(command, "validate", worse)
    quick = ["precision=int8", "calibration_images=8", f"output={tmp_path / 'small.onnx'}"]
    with pytest.raises(ModelError, match=r"int8 loses 20\.0 points of PCK@0\.2 .*50\.0 to 30\.0 %"):
        export(export_config(f"run={trained}", *quick))
    assert not list(tmp_path.iterdir())


def test_a_file_that_answers_otherwise_is_not_kept(one_graph, trained, tmp_path, monkeypatch):
    write = command.write

    def shifted(network, runtime, form, precision, path, calibration):
        write(network, runtime, form, precision, path, calibration)
        runtime.model.head.centre += 0.01

    monkeypatch.setattr(command, "write", shifted)
    (tmp_path / "good.onnx").write_text("an earlier one")
    with pytest.raises(ModelError, match=r"are 0\.45 px of the crop off PyTorch's; nothing is wri"):
        export(export_config(f"run={trained}", f"output={tmp_path / 'good.onnx'}"))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an earlier one"]


def test_int8_of_packaged_weights_asks_for_pictures(trained, tmp_path):
    weights = pack(trained, tmp_path / "tiny.safetensors")
    with pytest.raises(ConfigError, match="needs pictures to calibrate with; type data=lspet"):
        export(export_config(f"weights={weights}", "precision=int8", f"paths.runs={tmp_path}"))
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize(
    ("form", "package", "extra"),
    [
        ("onnx", "onnxscript", "onnx"),
        ("onnx", "onnxruntime", "onnx"),
        ("openvino", "openvino", "openvino"),
        ("litert", "litert_torch", "litert"),
        ("litert", "ai_edge_litert", "litert"),
        ("coreml", "coremltools", "coreml"),
    ],
)
def test_a_package_that_is_not_installed(form, package, extra, trained, monkeypatch):
    installed = {*chain(*NEEDS.values())} - {package}
    monkeypatch.setattr("convpose.errors.find_spec", lambda name: name in installed or None)
    message = rf"{package} is not installed; type pip install 'convpose\[{extra}\]'"
    with pytest.raises(ConfigError, match=message):
        export(export_config(f"run={trained}", f"format={form}"))


def test_a_graph_is_written_in_evaluation_mode(trained):
    from convpose.export.network import Deployed

    model = open_network(run=trained).model.train()
    deployed = Deployed(model, half=True)
    assert not any(module.training for module in deployed.modules())
    assert {p.dtype for p in deployed.parameters()} == {torch.float16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}, "the original stays"
