"""The paper's backbone, its sizes and the weights that it takes."""

from http.client import IncompleteRead
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import vgg as torchvision_vgg

from convpose.errors import ConfigError, ModelError
from convpose.models.backbones.vgg import CONFIGURATIONS, VggBn
from convpose.models.keypoints.regression import RegressionHead
from convpose.models.pose_model import PoseModel


def trained_like(depth=11, seed=0):
    """The features of torchvision's network, whose batch norms have seen something."""
    torch.manual_seed(seed)
    cfg = torchvision_vgg.cfgs[CONFIGURATIONS[depth]]
    state = torchvision_vgg.make_layers(cfg, batch_norm=True).state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return {f"features.{key}": value for key, value in state.items()}


@pytest.fixture(scope="module")
def state():
    return trained_like()


class TestShape:
    def test_the_paper_s_network_has_27_583_068_parameters(self):
        backbone = VggBn()
        head = RegressionHead(backbone.out_channels, backbone.strides, 224, 14)
        model = PoseModel(backbone, head, 14)
        assert sum(p.numel() for p in model.parameters()) == 27_583_068

    @pytest.mark.parametrize(
        ("depth", "parameters"),
        [(11, 9_225_984), (13, 9_410_880), (16, 14_723_136), (19, 20_035_392)],
    )
    def test_every_depth(self, depth, parameters):
        backbone = VggBn(depth)
        assert sum(p.numel() for p in backbone.parameters()) == parameters
        convolutions = sum(isinstance(m, nn.Conv2d) for m in backbone.modules())
        assert convolutions == depth - 3  # the other three are linear layers in the original

    @pytest.mark.parametrize("size_px", [32, 63, 64, 96])
    @pytest.mark.parametrize("width", [1 / 64, 0.1, 0.5])
    def test_features_are_what_the_attributes_say(self, width, size_px):
        backbone = VggBn(11, width).eval()
        (features,) = backbone(torch.zeros(2, 3, size_px, size_px))
        cells = size_px // backbone.strides[0]
        assert features.shape == (2, backbone.out_channels[0], cells, cells)
        assert backbone.out_channels == (round(512 * width),)

    def test_dropout_works_on_the_features_in_training_only(self):
        image = torch.rand(1, 3, 64, 64)
        backbone = VggBn(11, 0.25, dropout=0.9)
        with torch.no_grad():
            (features,) = backbone.eval()(image)
            assert torch.equal(features, backbone.features(image))
            (dropped,) = backbone.train()(image.expand(4, -1, -1, -1))
        assert (dropped == 0).float().mean() > 0.85

    def test_a_random_network_keeps_the_scale_of_its_signal(self):
        torch.manual_seed(0)
        with torch.no_grad():
            (features,) = VggBn(16, 0.25, dropout=0).train()(torch.randn(16, 3, 64, 64))
        assert 0.1 < features.std() < 3

    def test_without_batch_norm_only_convolutions_have_weights(self):
        kinds = {
            type(m) for m in VggBn(11, batch_norm=False).modules() if list(m.parameters(False))
        }
        assert kinds == {torch.nn.Conv2d}

    def test_weights_without_batch_norm_are_refused(self):
        with pytest.raises(ConfigError, match=r"model\.batch_norm=false: weights are for VGG with"):
            VggBn(batch_norm=False, weights="imagenet")


class TestWeights:
    @pytest.mark.parametrize("kind", ["torchvision", "checkpoint", "safetensors"])
    def test_files_of_any_kind_are_loaded(self, state, tmp_path, kind):
        path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
        if kind == "torchvision":
            torch.save({**state, "classifier.0.weight": torch.zeros(2)}, path)
        elif kind == "checkpoint":
            ours = {f"model.backbone.{key}": value for key, value in state.items()}
            torch.save({"state_dict": {**ours, "model.head.centre": torch.zeros(2)}}, path)
        else:
            save_file(state, path)
        loaded = VggBn(11, weights=str(path)).state_dict()
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[key], state[key]) for key in state)

    def test_loaded_features_are_those_of_torchvision(self, state, tmp_path):
        torch.save(state, tmp_path / "w.pth")
        image = torch.rand(1, 3, 64, 64)
        theirs = torchvision_vgg.make_layers(torchvision_vgg.cfgs["A"], batch_norm=True).eval()
        theirs.load_state_dict({k.removeprefix("features."): v for k, v in state.items()})
        with torch.no_grad():
            (ours,) = VggBn(11, weights=str(tmp_path / "w.pth")).eval()(image)
            assert torch.equal(ours, theirs(image))

    @pytest.mark.parametrize("depth", CONFIGURATIONS)
    def test_names_and_shapes_are_those_of_torchvision(self, depth):
        with torch.device("meta"):
            theirs = torchvision_vgg.__dict__[f"vgg{depth}_bn"](weights=None).state_dict()
        features = {k: v.shape for k, v in theirs.items() if k.startswith("features.")}
        assert {k: v.shape for k, v in VggBn(depth).state_dict().items()} == features

    @pytest.mark.parametrize(
        "keys", [{"depth": 13}, {"depth": 16}, {"depth": 19}, {"depth": 11, "width": 0.5}]
    )
    def test_weights_of_another_network_do_not_fit(self, state, tmp_path, keys):
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(
            ModelError,
            match=rf"w\.pth: does not fit VGG-{keys['depth']} of width {keys.get('width', 1.0)}: "
            r"\d+ of \d+ tensors are missing or of another shape, the first is \d+\..*; choose",
        ):
            VggBn(**keys, weights=str(tmp_path / "w.pth"))

    def test_a_deeper_network_s_weights_do_not_pass_for_a_shallower_one(self, tmp_path):
        torch.save(trained_like(13), tmp_path / "w")
        with pytest.raises(ModelError, match=r"does not fit VGG-11"):
            VggBn(11, weights=str(tmp_path / "w"))

    def test_weights_that_were_never_trained(self, state, tmp_path):
        zero = {k: v * 0 if "running_var" in k else v for k, v in state.items()}
        torch.save(zero, tmp_path / "w.pth")
        with pytest.raises(ModelError, match=r"batch-norm statistics are all zero, these weights"):
            VggBn(11, weights=str(tmp_path / "w.pth"))

    def test_no_file(self):
        with pytest.raises(ModelError, match=r"none\.pth: no such file; expected weights"):
            VggBn(11, weights="none.pth")


class TestImagenet:
    """Without the network: torchvision's loader is replaced."""

    def hub(self, monkeypatch, answer):
        def load(url, *args, **kwargs):
            assert "vgg11_bn" in url
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)

    def test_features_are_loaded(self, monkeypatch, state):
        self.hub(monkeypatch, state)
        loaded = VggBn(11, weights="imagenet").state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state)

    @pytest.mark.parametrize(
        "failure",
        [
            URLError("no route to host"),
            TimeoutError("timed out"),
            IncompleteRead(b""),
            RuntimeError("invalid hash value"),
        ],
        ids=lambda e: type(e).__name__,
    )
    def test_a_failed_download_says_what_to_do(self, monkeypatch, failure):
        self.hub(monkeypatch, failure)
        with pytest.raises(
            ModelError,
            match=r"model\.weights=imagenet: the weights of vgg11_bn could not be downloaded "
            r"\(.+\); download them elsewhere and type model\.weights=FILE",
        ):
            VggBn(11, weights="imagenet")

    @pytest.mark.parametrize("depth", CONFIGURATIONS)
    def test_torchvision_has_them_for_every_depth(self, depth):
        url = torchvision_vgg.__dict__[f"VGG{depth}_BN_Weights"].IMAGENET1K_V1.url
        assert f"vgg{depth}_bn" in url
