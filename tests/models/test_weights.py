"""Weights are tensors, anything else is refused unrun; what fits another network is taken over."""

import os
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny import TINY, composed, saved, tiny_config, tiny_run
from torch import nn

from convpose.errors import ModelError
from convpose.models.build import build_model
from convpose.models.weights import load_checkpoint, read_weights, transfer

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "content",
    [STATE, {"state_dict": STATE, "epoch": 3, "callbacks": {"Best": {"score": 0.5}}}],
    ids=["state dict", "checkpoint"],
)
@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_state_dicts_and_checkpoints(tmp_path, content, new_format):
    path = tmp_path / "w.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    assert same(read_weights(path), STATE)
    save_file(STATE, tmp_path / "w.safetensors")
    assert same(read_weights(tmp_path / "w.safetensors"), STATE)


class TestCode:
    @pytest.fixture
    def trace(self, tmp_path):
        return tmp_path / "was_here"

    def test_a_pickle_that_runs_code_is_refused_unrun(self, tmp_path, trace):
        path = tmp_path / "w.pt"
        for content in (Malicious(trace), {"state_dict": STATE, "extra": Malicious(trace)}):
            for new_format in (True, False):
                torch.save(content, path, _use_new_zipfile_serialization=new_format)
                with pytest.raises(
                    ModelError, match=r"w\.pt: not a file of tensors \(Weights only"
                ):
                    read_weights(path)
                assert not trace.exists()
        torch.load(path, weights_only=False)
        assert trace.exists()  # it would have run

    def test_also_a_bare_pickle_and_one_named_safetensors(self, tmp_path, trace):
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(Malicious(trace), protocol=2))
        torch.save(Malicious(trace), tmp_path / "w.safetensors")
        for path in (tmp_path / "w.pkl", tmp_path / "w.safetensors"):
            with pytest.raises(ModelError, match=r"not a file of tensors .*weights_only=True\)"):
                read_weights(path)
        assert not trace.exists()


class TestRefused:
    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_no_weights(self, tmp_path, suffix):
        path = (tmp_path / "w").with_suffix(suffix)
        torch.save(STATE, path)
        cut = path.read_bytes()[:-200]
        for content in (b"", b"<html></html>", b"PK\x03\x04 cut", b"\x80\x02}q", cut):
            path.write_bytes(content)
            with pytest.raises(
                ModelError, match=r"not a file of tensors \(.+\); expected a state dict"
            ):
                read_weights(path)

    @settings(max_examples=40)
    @given(st.binary(max_size=40))
    def test_no_bytes_get_past_with_another_error(self, tmp_path_factory, content):
        path = tmp_path_factory.mktemp("w") / "w.pt"
        path.write_bytes(b"\x80\x02" + content)
        with pytest.raises(ModelError):
            read_weights(path)

    @pytest.mark.parametrize(
        ("content", "held"),
        [
            *((x, "no state dict") for x in ([1, 2], torch.ones(3), {}, {"state_dict": []})),
            *((x, "more than tensors") for x in ({"a": 1}, {"e": 3, **STATE}, {3: torch.ones(2)})),
        ],
    )
    def test_other_content(self, tmp_path, content, held):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(ModelError, match=rf"holds {held}; expected names with tensors"):
            read_weights(tmp_path / "w.pt")

    def test_no_file(self, tmp_path):
        for path in (tmp_path / "none.pt", tmp_path):
            with pytest.raises(ModelError, match=r"no such file; expected weights \(\.ckpt"):
                read_weights(path)


class TestCheckpoint:
    def save(self, path, state):
        torch.save({"state_dict": state}, path)
        return path

    def test_the_network_of_a_training_is_loaded_exactly(self, tmp_path):
        torch.manual_seed(0)
        trained, fresh = nn.Linear(3, 2), nn.Linear(3, 2)
        state = {f"model.{k}": v for k, v in trained.state_dict().items()}
        load_checkpoint(fresh, self.save(tmp_path / "c", {**state, "metrics.hits": torch.ones(1)}))
        assert same(fresh.state_dict(), trained.state_dict())

    def test_another_network_is_refused(self, tmp_path):
        state = {f"model.{k}": v for k, v in nn.Linear(3, 3).state_dict().items()}
        for wrong in (state, {"weight": torch.ones(2, 3)}):
            with pytest.raises(ModelError, match=r"c: not a checkpoint of this network: "):
                load_checkpoint(nn.Linear(3, 2), self.save(tmp_path / "c", wrong))


def checkpoint(tmp_path, model):
    path = tmp_path / "w.ckpt"
    torch.save({"state_dict": {f"model.{k}": v for k, v in model.state_dict().items()}}, path)
    return path


def filled(model, value):
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)
    return model


def test_the_same_network_is_taken_over_but_for_its_calibration(tmp_path):
    trained = filled(build_model(tiny_config()), 3)
    model = build_model(tiny_config())
    done = transfer(model, checkpoint(tmp_path, trained))
    state = model.state_dict()
    calibration = {k for k in state if k.startswith("score_")}
    assert len(calibration) == 2
    assert all((state[k] == 3).all() for k in state.keys() - calibration)
    assert all((state[k] != 3).all() for k in calibration)
    assert done.taken == len(state) - 2
    assert done.fresh == done.unused == {}


def test_another_head_starts_fresh_and_is_named(tmp_path):
    path = checkpoint(tmp_path, filled(build_model(tiny_config()), 3))
    model = build_model(tiny_config("head=heatmap"))
    done = transfer(model, path)
    assert (model.backbone.features[0].weight == 3).all()
    assert "head.pyramid" in done.fresh
    assert "head.hidden" in done.unused
    text = str(done)
    assert f"weights={path}: {done.taken} tensors taken over" in text
    assert "start at random: head.pyramid" in text
    assert "have no place: head." in text


def test_a_network_that_nothing_fits_is_refused(tmp_path):
    path = checkpoint(tmp_path, nn.Sequential(nn.Linear(3, 5)))
    with pytest.raises(ModelError, match=r"none of its 2 tensors fits.*type weights=null"):
        transfer(build_model(tiny_config()), path)


@pytest.mark.parametrize("head", ["regression", "rle", "heatmap"])
def test_what_fits_of_another_backbone_is_not_taken(tmp_path, head):
    """As the pixels' mean and deviation, biases, and the last layer of the head."""
    keys = [key for key in TINY if not key.startswith("model.")]
    cfg = composed("train", *keys, "model=movenet_lightning", "model.width=0.1", "head=regression")
    path = checkpoint(tmp_path, filled(build_model(cfg), 3))
    model = build_model(tiny_config(f"head={head}"))
    with pytest.raises(ModelError, match=r"none of its \d+ tensors fits this network's backbone; "):
        transfer(model, path)
    assert model.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])


def test_fine_tuning_a_run_starts_where_it_ended(unbroken, tmp_path, capsys):
    tiny_run(tmp_path, f"weights={unbroken}", "optimizer.lr=1e-9", "trainer.max_epochs=1")
    assert "tensors taken over" in capsys.readouterr().out
    weights = [
        saved(folder, "best")["state_dict"]["model.head.output.weight"]
        for folder in (unbroken, tmp_path)
    ]
    torch.testing.assert_close(weights[1], weights[0])
