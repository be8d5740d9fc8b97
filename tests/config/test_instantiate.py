"""The signature is the schema: what `build` refuses, and the words it finds for it."""

import pytest
import torch
from omegaconf import OmegaConf
from tiny import tiny_config

from convpose.config.instantiate import build, check
from convpose.data.build import build_datamodule
from convpose.errors import ConfigError, ModelError
from convpose.hardware import multiplies_bf16, resolve_precision
from convpose.models.build import build_model
from convpose.train.build import build_trainer


def test_an_unknown_key_names_the_keys_there_are():
    node = OmegaConf.create({"_target_": "convpose.models.backbones.vgg.VggBn", "depht": 11})
    with pytest.raises(ConfigError, match=r"unknown key model\.depht; keys there: depth, width"):
        check(node, "model")


def test_a_key_that_is_given_in_python_is_not_offered():
    node = OmegaConf.create(
        {"_target_": "convpose.models.keypoints.regression.RegressionHead", "hiden": 8}
    )
    given = {"out_channels": (8,), "strides": (32,), "input_size_px": 32, "num_keypoints": 14}
    with pytest.raises(ConfigError) as error:
        check(node, "head", given)
    assert str(error.value) == "unknown key head.hiden; keys there: hidden, standardize"


def test_a_missing_key_is_named():
    node = OmegaConf.create({"_target_": "convpose.train.checkpoints.BestAndLast", "mode": "max"})
    with pytest.raises(ConfigError, match=r"callbacks\.checkpoint\.monitor is missing"):
        check(node, "callbacks.checkpoint")


def test_nested_nodes_are_checked_with_their_place():
    node = OmegaConf.create(
        {
            "_target_": "convpose.data.augment.Augment",
            "transforms": {"light": {"_target_": "albumentations.ToGray", "q": 1}},
        }
    )
    with pytest.raises(ConfigError, match=r"unknown key augment\.transforms\.light\.q"):
        check(node, "augment")


def test_what_a_constructor_refuses_keeps_the_keys_that_it_was_given():
    node = OmegaConf.create(
        {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "a", "mode": "up"}
    )
    with pytest.raises(ConfigError, match=r"^callbacks\.e: .*; it was given monitor=a mode=up"):
        build(node, "callbacks.e")


def test_our_own_errors_pass_through():
    cfg = tiny_config("model.weights=nope.pt")
    with pytest.raises(ModelError, match=r"^nope\.pt: no such file"):
        build_model(cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"gpu.*; it was given accelerator=gpu"):
        build_trainer(tiny_config("trainer=gpu"), [], False, tmp_path)


def test_a_data_set_without_a_source_names_the_key():
    cfg = tiny_config()
    del cfg.data.sources
    with pytest.raises(ConfigError, match=r"^data\.sources is missing; keys there: sources, split"):
        build_datamodule(cfg)


def test_precision_auto_asks_the_hardware(monkeypatch):
    cfg = tiny_config("trainer.precision=auto")
    for amx, avx512, expected in ((1, 0, "bf16-mixed"), (0, 1, "bf16-mixed"), (0, 0, "32-true")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: bool(amx))
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda a=avx512: bool(a))
        assert resolve_precision(cfg) == expected
    assert resolve_precision(tiny_config("trainer.precision=64-true")) == "64-true"


def test_precision_auto_wants_no_emulated_bf16(monkeypatch):
    """Torch says that an old GPU supports it, which it does one number after the other."""
    cfg = tiny_config("trainer.precision=auto", "trainer.accelerator=auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert resolve_precision(cfg) == "16-mixed"
    assert not multiplies_bf16(torch.device("cuda"))


def test_a_network_that_no_memory_holds():
    with pytest.raises(ModelError, match=r"^head: wants more memory than there is; it was "):
        build_model(tiny_config("data.input_size_px=4096", "head.hidden=10000000"))
