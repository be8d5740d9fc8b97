"""Weights are tensors; anything else is refused before it can do harm."""

import os
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from convpose.errors import ModelError
from convpose.models.weights import load_checkpoint, read_weights

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


def test_safetensors(tmp_path):
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

    def test_also_a_bare_pickle(self, tmp_path, trace):
        path = tmp_path / "w.pkl"
        path.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
        with pytest.raises(ModelError, match=r"w\.pkl: not a file of tensors"):
            read_weights(path)
        assert not trace.exists()

    def test_also_under_the_name_of_safetensors(self, tmp_path, trace):
        path = tmp_path / "w.safetensors"
        torch.save(Malicious(trace), path)
        with pytest.raises(ModelError, match=r"not a file of tensors .*weights_only=True\) reads"):
            read_weights(path)
        assert not trace.exists()


class TestRefused:
    @pytest.mark.parametrize("content", [b"", b"<html></html>", b"PK\x03\x04 cut", b"\x80\x02}q"])
    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_no_weights(self, tmp_path, content, suffix):
        path = (tmp_path / "w").with_suffix(suffix)
        path.write_bytes(content)
        with pytest.raises(
            ModelError, match=r"not a file of tensors \(.+\); expected a state dict"
        ):
            read_weights(path)

    def test_a_file_that_was_cut_off(self, tmp_path):
        path = tmp_path / "w.pt"
        torch.save(STATE, path)
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(ModelError, match=r"not a file of tensors"):
            read_weights(path)

    @settings(max_examples=100)
    @given(st.binary(max_size=40))
    def test_no_bytes_get_past_with_another_error(self, tmp_path_factory, content):
        path = tmp_path_factory.mktemp("w") / "w.pt"
        path.write_bytes(b"\x80\x02" + content)
        with pytest.raises(ModelError):
            read_weights(path)

    @pytest.mark.parametrize("content", [[1, 2], torch.ones(3), {}, {"state_dict": []}])
    def test_no_state_dict(self, tmp_path, content):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(ModelError, match=r"holds no state dict; expected names with tensors"):
            read_weights(tmp_path / "w.pt")

    @pytest.mark.parametrize("content", [{"a": 1}, {"epoch": 3, **STATE}, {3: torch.ones(2)}])
    def test_more_than_tensors(self, tmp_path, content):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(ModelError, match=r"holds more than tensors; expected names with"):
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
