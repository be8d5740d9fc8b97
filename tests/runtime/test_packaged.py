"""Packaged weights: small, checked, enough to rebuild the network."""

import hashlib
import json

import numpy as np
import pytest
import torch
from fake_network import dot
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from convpose.errors import ConfigError, ModelError
from convpose.predict.predictor import PosePredictor
from convpose.runtime import packaged
from convpose.runtime.engines import NAMES, weights_file
from convpose.runtime.packaged import load_packaged, pack


@pytest.fixture(scope="module")
def weights(trained, tmp_path_factory):
    folder = trained / "evaluate_test"
    folder.mkdir(exist_ok=True)
    measures = {"pck@0.2": 0.5, "protocol": "synthetic", "baseline": {"pck@0.2": 0.1}}
    (folder / "metrics.json").write_text(json.dumps(measures))
    return pack(trained, tmp_path_factory.mktemp("packaged") / "tiny.safetensors")


@pytest.fixture
def copy(weights, tmp_path):
    for suffix in (".safetensors", ".json"):
        path = weights.with_suffix(suffix)
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / weights.name


def rewrite(path, metadata):
    """Replace the file's metadata, with a card that matches."""
    save_file(load_file(path), path, metadata)
    card = path.with_suffix(".json")
    facts = json.loads(card.read_text())
    facts["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    card.write_text(json.dumps(facts))


def facts_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["convpose"])


def test_it_predicts_what_the_run_predicts(weights, trained):
    image = dot(48, 48, (20, 25))
    run = PosePredictor.from_run(trained)
    other = PosePredictor.from_weights(weights)
    assert other.spec == run.spec
    difference = np.abs(run(image)[0].keypoints_px - other(image)[0].keypoints_px).max()
    assert 0 < difference < 0.05, "half precision of the parameters"


def test_parameters_are_halved_and_statistics_are_not(weights):
    state = load_file(weights)
    kinds = {name: tensor.dtype for name, tensor in state.items()}
    assert {v for k, v in kinds.items() if k.endswith("weight")} == {torch.float16}
    assert {v for k, v in kinds.items() if "running" in k} == {torch.float32}
    parameters = sum(t.numel() for t in state.values() if t.dtype == torch.float16)
    assert weights.stat().st_size < 2 * parameters + 60_000


def test_a_parameter_beyond_half_precision_stays_whole():
    large = torch.tensor([1.0, 1e6])
    assert torch.equal(packaged._half(large), large)
    assert packaged._half(large[:1]).dtype == torch.float16


def test_the_card_says_what_it_is(weights):
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["file"] == "tiny.safetensors"
    assert card["bytes"] == weights.stat().st_size
    assert card["spec"]["keypoints"][0] == "right_ankle"
    assert card["metrics"]["best_epoch"]["val/pck@0.2"] >= 0
    assert card["metrics"]["evaluate_test"] == {"pck@0.2": 0.5, "protocol": "synthetic"}
    assert card["config"]["model"]["weights"] is None
    assert str(weights.parent.parent) not in json.dumps(card), "no path of this machine"
    assert not list(weights.parent.glob("*.part"))


def test_a_changed_byte_is_noticed(copy):
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    with pytest.raises(ModelError, match=r"tiny\.safetensors: SHA-256 .* its card says .* damaged"):
        load_packaged(copy)


def test_what_is_missing_is_named(copy):
    with pytest.raises(ModelError, match=r"none\.safetensors: no such file; packaged weights are"):
        load_packaged(copy.with_name("none.safetensors"))
    copy.with_suffix(".json").write_text("{}")
    with pytest.raises(ModelError, match=r"tiny\.json: not the card of packaged weights"):
        load_packaged(copy)
    copy.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=r"tiny\.json: no such file"):
        load_packaged(copy)


def test_a_folder_is_proposed_as_a_run(tmp_path):
    with pytest.raises(ModelError, match=f"weights={tmp_path}: a folder; type run={tmp_path} for"):
        load_packaged(tmp_path)


def changed(facts, **model):
    return {"convpose": json.dumps(facts | {"config": facts["config"] | {"model": model}})}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (lambda f: {"what": "else"}, r"not packaged weights of convpose; .* run=RUN_FOLDER"),
        (
            lambda f: {"convpose": json.dumps(f | {"version": 2})},
            "format version 2, this convpose reads 1; update convpose",
        ),
        (
            lambda f: changed(f, **(f["config"]["model"] | {"width": 0.02})),
            r"tiny\.safetensors: does not fit its own description",
        ),
        (lambda f: changed(f, _target_="os.system"), r"os\.system"),
        (lambda f: changed(f, _target_="torch.hub.load"), r"torch\.hub\.load"),
        (lambda f: changed(f, _target_="subprocess.run"), r"subprocess\.run"),
    ],
)
def test_another_description_is_refused(metadata, message, copy):
    rewrite(copy, metadata(facts_of(copy)))
    with pytest.raises((ModelError, ConfigError), match=message):
        load_packaged(copy)


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "${oc.decode:1}", "${own:}"])
def test_a_description_is_not_evaluated(value, copy):
    called = []
    OmegaConf.register_new_resolver("own", lambda: called.append(1), replace=True)
    facts = facts_of(copy)
    rewrite(copy, changed(facts, **(facts["config"]["model"] | {"weights": value})))
    with pytest.raises(
        ConfigError, match=r"tiny\.safetensors: model\.weights=\$\{.*nothing in it is"
    ):
        load_packaged(copy)
    assert not called


def test_a_skeleton_of_a_file_is_not_evaluated(copy):
    facts = facts_of(copy)
    facts["spec"]["skeleton"] = {"name": "x", "keypoints": ["${oc.env:HOME}", "b"]}
    rewrite(copy, {"convpose": json.dumps(facts)})
    with pytest.raises((ModelError, ConfigError), match=r"keypoints\.0=\$\{oc\.env:HOME\}: a run"):
        load_packaged(copy)


def test_a_description_opens_no_file_of_this_machine(copy, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    facts = facts_of(copy)
    rewrite(copy, changed(facts, **(facts["config"]["model"] | {"weights": f"{tmp_path}/secret"})))
    assert load_packaged(copy).spec.input_size_px == 32


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("data", "input_size_px", 10**9, r"data\.input_size_px=.* from 32 to 4096"),
        ("data", "box_scale", 1e400, r"data\.box_scale=inf: expected a number from 1 up"),
        ("data", "crop", [], r"data\.crop=\[\]: expected one of image, letterbox, box"),
        ("data", "skeleton", {}, r"data\.skeleton\.name is missing"),
        (
            "head",
            "hidden",
            10**8,
            r"tiny\.safetensors: its configuration describes a larger network",
        ),
        ("head", "hidden", 0, r"head\.hidden=0: expected a whole number above 0"),
        (
            "model",
            "width",
            "???",
            r"model\.width=\?\?\?: a run's configuration is written resolved",
        ),
    ],
)
def test_numbers_are_in_range_before_anything_is_allocated(part, key, value, message, copy):
    facts = facts_of(copy)
    facts["config"][part][key] = value
    rewrite(copy, {"convpose": json.dumps(facts)})
    with pytest.raises((ModelError, ConfigError), match=message):
        load_packaged(copy)


@pytest.mark.parametrize(
    "text", ["[" * 90 + "]" * 90, "[" * 99_999, '{"version": ' + "9" * 5000 + "}", "[]", "3", "{}"]
)
def test_a_description_that_is_none(text, copy):
    rewrite(copy, {"convpose": text})
    with pytest.raises(ModelError, match=r"not packaged weights of convpose|format version None"):
        load_packaged(copy)


def test_the_name_of_the_target(trained, tmp_path):
    with pytest.raises(ModelError, match=r"tiny\.bin: packaged weights are a \.safetensors file"):
        pack(trained, tmp_path / "tiny.bin")
    assert not list(tmp_path.iterdir())


def test_a_network_is_loaded_by_its_name(weights, monkeypatch):
    for name in NAMES:
        assert weights_file(name).is_file()
    monkeypatch.setattr(packaged, "weights_file", lambda name: weights)
    (person,) = PosePredictor("large")(dot(48, 48, (20, 25)))
    assert np.array_equal(PosePredictor()(dot(48, 48, (20, 25)))[0].scores, person.scores)
