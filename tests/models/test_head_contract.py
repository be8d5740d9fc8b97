"""Hold every head of conf/head and every loss of conf/loss to one contract, new ones too."""

import math

import pytest
import torch
from omegaconf import OmegaConf

from convpose.config.instantiate import build
from convpose.errors import ConfigError
from convpose.files import conf_folder
from convpose.models.keypoints import inside_crop
from convpose.models.pose_model import PoseModel
from convpose.train.build import check_pair

CONF = conf_folder()
HEADS = sorted(path.stem for path in (CONF / "head").glob("*.yaml"))
LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
LOSSES.remove("distill")  # its teacher is a run; without one it is the loss of heatmap
NAN = math.nan


class Maps:
    """Feature maps as those of a backbone, for an input of 64 px."""

    out_channels, strides = (4, 8), (16, 32)

    @staticmethod
    def of(batch, requires_grad=False):
        rng = torch.Generator().manual_seed(batch)
        sizes = ((4, 4), (8, 2))
        return [
            torch.randn(batch, c, s, s, generator=rng, requires_grad=requires_grad)
            for c, s in sizes
        ]


def head_of(name):
    """A head of conf/head on the maps of a 64 px input."""
    torch.manual_seed(0)
    given = {"out_channels": Maps.out_channels, "strides": Maps.strides}
    given |= {"input_size_px": 64, "num_keypoints": 14}
    return build(OmegaConf.load(CONF / f"head/{name}.yaml"), "head", **given)


def loss_of(name):
    torch.manual_seed(0)
    return build(OmegaConf.load(CONF / f"loss/{name}.yaml"), "loss")


# every head with its default loss, and the other losses with the paper's head
PAIRS = [(head, None) for head in HEADS]
PAIRS += [("regression", loss) for loss in LOSSES if loss not in HEADS]


@pytest.fixture(params=PAIRS, ids=lambda pair: pair[1] or pair[0])
def pair(request):
    name, loss = request.param
    head = head_of(name)
    return head, loss_of(loss or head.default_loss)


def truth(batch):
    rng = torch.Generator().manual_seed(100 + batch)
    return torch.rand(batch, 14, 2, generator=rng), torch.full((batch, 14), 2)


def leaves(output, trained):
    """The output with those of its tensors that a loss may train as leaves."""
    return {k: v.detach().requires_grad_(k in trained) for k, v in output.items()}


def test_the_output_is_complete_and_each_person_s_own(pair):
    head, loss = pair
    assert set(loss.requires) <= set(head.outputs)
    maps = Maps.of(3)
    output = head.eval()(maps)
    assert {"keypoints", "scores", *head.outputs} <= set(output)
    assert output["keypoints"].shape == (3, 14, 2)
    assert output["scores"].shape == (3, 14)
    assert ((output["scores"] >= 0) & (output["scores"] <= 1)).all()
    assert all(v.shape[:2] == (3, 14) for v in output.values()), "a cascade picks by keypoint"
    alone = head([m[1:2] for m in maps])
    for key, value in output.items():
        torch.testing.assert_close(value[1:2], alone[key], rtol=1e-4, atol=1e-5)


def test_the_output_is_float32_under_autocast(pair):
    head, loss = pair
    with torch.autocast("cpu", torch.bfloat16):
        output = head.train()(Maps.of(4))
        value = loss(output, *truth(4))
    assert {v.dtype for v in output.values()} == {torch.float32}
    assert value.dtype is torch.float32
    value.backward()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)


def test_every_parameter_but_the_probe_s_learns(pair):
    head, loss = pair
    maps = Maps.of(4, requires_grad=True)
    loss(head.train()(maps), *truth(4)).backward()
    for name, parameter in (*head.named_parameters(), *loss.named_parameters()):
        if name.startswith("probe."):
            assert parameter.grad is None
        elif name.startswith("flow.") and not name.endswith((".4.weight", ".4.bias")):
            continue  # the flow starts as the identity: its last layers learn first
        else:
            assert parameter.grad.abs().sum() > 0, name
            assert parameter.grad.isfinite().all(), name
    assert maps[-1].grad.abs().sum() > 0


def test_people_without_labels_change_nothing(pair):
    head, loss = pair
    output = head.eval()(Maps.of(3))
    keypoints, visibility = truth(3)
    visibility[1:] = 0
    keypoints[1:] = NAN
    given = leaves(output, head.outputs)
    value = loss(given, keypoints, visibility)
    alone = loss({k: v[:1] for k, v in output.items()}, keypoints[:1], visibility[:1])
    torch.testing.assert_close(value, alone)
    value.backward()
    for key in loss.requires:
        assert given[key].grad[0].abs().sum() > 0
        assert given[key].grad[1:].unique().tolist() == [0.0]


def test_unlabelled_keypoints_change_nothing_whatever_is_said_of_them(pair):
    head, loss = pair
    output = head.eval()(Maps.of(2))
    keypoints, visibility = truth(2)
    visibility[:, 5:] = 0
    values = []
    for hidden, predicted in ((NAN, None), (0.3, None), (-7.0, 9.0), (NAN, NAN)):
        given, keypoints[:, 5:] = leaves(output, head.outputs), hidden
        if predicted is not None and "keypoints" in given:
            given["keypoints"].data[:, 5:] = predicted
        values.append(loss(given, keypoints, visibility))
        values[-1].backward()
        assert all(given[k].grad[:, 5:].unique().tolist() == [0.0] for k in loss.requires)
    assert len({value.item() for value in values}) == 1


def test_without_any_label_it_is_zero(pair):
    head, loss = pair
    maps = Maps.of(2, requires_grad=True)
    value = loss(head.eval()(maps), torch.full((2, 14, 2), NAN), torch.zeros(2, 14))
    value.backward()
    assert value.item() == 0
    gradients = [m.grad for m in maps] + [p.grad for p in loss.parameters()]
    assert all(g is None or g.abs().sum() == 0 for g in gradients)


def test_keypoints_outside_the_crop_leave_everything_finite(pair):
    head, loss = pair
    for far in (1.0, 1.3, -0.2, 50.0):
        maps = Maps.of(2, requires_grad=True)
        keypoints, visibility = truth(2)
        keypoints[0] = far
        value = loss(head.train()(maps), keypoints, visibility)
        value.backward()
        assert value.isfinite()
        assert all(m.grad.isfinite().all() for m in maps if m.grad is not None)


def test_a_labelled_nan_is_not_trained_on_silently(pair):
    """A loss gives NaN, or leaves the keypoint out, for it is in no crop; it never invents one."""
    head, loss = pair
    output = head.eval()(Maps.of(2))
    keypoints, visibility = truth(2)
    keypoints[0, 0] = NAN
    value = loss(output, keypoints, visibility)
    visibility[0, 0] = 0
    assert value.isnan() or value.item() == loss(output, keypoints, visibility).item()


class Patches(torch.nn.Module):
    """A backbone of the same maps that is traced quickly."""

    pixel_mean, pixel_std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = torch.nn.Conv2d(3, 4, 16, 16), torch.nn.Conv2d(3, 8, 32, 32)

    def forward(self, image):
        return [self.fine(image), self.coarse(image)]


@pytest.mark.parametrize("name", HEADS)
def test_a_whole_model_is_one_graph(name):
    """No branch depends on data: what `torch.export` refuses, ONNX cannot have."""
    model = PoseModel(Patches(), head_of(name), 14).eval()
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    graph = torch.export.export(model, (torch.zeros_like(image),))
    with torch.no_grad():
        expected, output = model(image), graph.module()(image)
    assert output.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(output[key], expected[key])


class TestPairs:
    @pytest.mark.parametrize("name", HEADS)
    def test_a_loss_trains_the_features_or_is_refused(self, name):
        head, trained = head_of(name).train(), []
        for loss in map(loss_of, LOSSES):
            if set(loss.requires) <= set(head.outputs):
                check_pair(head, loss)
                maps = Maps.of(4, requires_grad=True)
                loss(head(maps), *truth(4)).backward()
                assert maps[-1].grad.abs().sum() > 0
                trained.append(type(loss))
            else:
                with pytest.raises(ConfigError, match=rf"; type loss={head.default_loss}$"):
                    check_pair(head, loss)
        assert type(loss_of(head.default_loss)) in trained

    def test_parts_of_one_s_own(self):
        head, loss = torch.nn.Identity(), torch.nn.Identity()
        check_pair(head, loss)  # those that declare nothing train keypoints
        check_pair(head, loss_of("l1"))
        with pytest.raises(ConfigError, match=r"only keypoints .*; type a loss that trains keypo"):
            check_pair(head, loss_of("heatmap"))
        head.default_loss = "mine"
        with pytest.raises(ConfigError, match=r"Identity has only keypoints .*; type loss=mine$"):
            check_pair(head, loss_of("heatmap"))
        head.gives, loss.needs = ("simcc_logits",), ("simcc_logits",)  # the names of version 0.1
        check_pair(head, loss)
        head.gives = ("keypoints",)
        with pytest.raises(ConfigError, match=r"trains simcc_logits, and Identity has only keypo"):
            check_pair(head, loss)


def test_inside_is_labelled_and_within_the_crop():
    keypoints = torch.tensor(
        [[[0.0, 0.0], [1.0, 0.5], [0.5, -0.01], [NAN, NAN], [0.99, 0.99], [0.3, 0.3]]]
    )
    safe, inside = inside_crop(keypoints, torch.tensor([[1, 2, 2, 0, 2, 0]]))
    assert inside.tolist() == [[True, False, False, False, True, False]]
    assert safe[0, 1:4].unique().tolist() == [0.5]
    assert torch.equal(safe[0, [0, 4]], keypoints[0, [0, 4]])
