"""MoveNet: its architecture against an independent one, its norms, its head."""

import math

import pytest
import torch
import torch.nn.functional as F
from fake_movenet import WIDTH, folded_arrays, movenet_crops, movenet_model, write_arrays
from tiny import composed

from convpose.config.instantiate import build
from convpose.errors import ConfigError
from convpose.files import conf_folder
from convpose.models.backbones.movenet import MoveNet, pad_same
from convpose.models.build import build_head, build_model
from convpose.models.keypoints.movenet import LSP_FROM_COCO, MoveNetHead
from convpose.models.pose_model import PoseModel
from convpose.skeleton import COCO17, LSP14
from convpose.train.calibration import settle_norms

CONF = conf_folder()
HEADS = sorted(path.stem for path in (CONF / "head").glob("*.yaml"))


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    return str(write_arrays(tmp_path_factory.mktemp("arrays")))


def config(*overrides):
    return composed("train", "data.input_size_px=64", *overrides)


class TestArchitecture:
    @pytest.mark.parametrize(
        ("name", "millions"), [("movenet_lightning", 2.32), ("movenet_thunder", 6.24)]
    )
    def test_as_many_parameters_as_published(self, name, millions):
        model = build_model(config(f"model={name}", "head=movenet"))
        kept = [p for n, p in model.named_parameters() if "probe" not in n]
        assert sum(p.numel() for p in kept) / 1e6 == pytest.approx(millions, abs=0.01)

    def test_maps_are_as_announced(self):
        backbone = MoveNet(WIDTH)
        maps = backbone(torch.zeros(2, 3, 96, 96))
        shapes = [(c, 96 // s) for c, s in zip(MoveNet.out_channels, MoveNet.strides, strict=True)]
        assert [(m.shape[1], m.shape[2]) for m in maps] == shapes

    @pytest.mark.parametrize("side", [5, 6, 7, 8, 31, 32])
    def test_padding_is_tensorflow_s(self, side):
        image = torch.arange(float(side * side)).view(1, 1, side, side) + 1
        kernel = torch.arange(9.0).view(1, 1, 3, 3) + 1
        cells = math.ceil(side / 2)
        total = max((cells - 1) * 2 + 3 - side, 0)  # TensorFlow's documentation of "SAME"
        expected = torch.zeros(cells, cells)
        for row in range(cells):
            for column in range(cells):
                for i in range(3):
                    for j in range(3):
                        y, x = 2 * row + i - total // 2, 2 * column + j - total // 2
                        if 0 <= y < side and 0 <= x < side:
                            expected[row, column] += kernel[0, 0, i, j] * image[0, 0, y, x]
        torch.testing.assert_close(F.conv2d(pad_same(image), kernel, stride=2)[0, 0], expected)

    def test_a_folded_network_written_out_gives_the_same(self, arrays):
        """Every convolution with its bias, as the file has it: no norm, no module of ours."""
        a = {name: value.float() for name, value in folded_arrays().items()}

        def conv(x, name, stride=1, act=None):
            weight, bias = a[f"{name}.weight"], a.get(f"{name}.bias")
            groups = len(weight) if weight.shape[1] == 1 and x.shape[1] > 1 else 1
            if weight.shape[-1] == 3:
                x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
            y = F.conv2d(x, weight, bias, stride, groups=groups)
            return {None: y, "relu6": y.clamp(0, 6), "relu": y.clamp(min=0)}[act]

        def larger(x):
            return F.interpolate(x, size=2 * x.shape[-1], mode="bilinear", align_corners=False)

        image = movenet_crops(2)
        x = conv(image / 127.5 - 1, "stem", 2, "relu6")
        seen = {}
        for i in range(17):
            stride = 2 if i in (1, 3, 6, 13) else 1
            y = x if i == 0 else conv(x, f"block_{i}.expand", act="relu6")
            y = conv(y, f"block_{i}.depthwise", stride, "relu6")
            y = conv(y, f"block_{i}.project")
            x = x + y if y.shape == x.shape else y
            seen[i] = x
        x = conv(conv(x, "last", act="relu6"), "pyramid.lateral_32")
        for stride, block in ((16, 9), (8, 5), (4, 2)):
            x = larger(x) + conv(seen[block], f"pyramid.lateral_{stride}")
            x = conv(x, f"pyramid.smooth_{stride}.depthwise")
            x = conv(x, f"pyramid.smooth_{stride}.pointwise", act="relu")
        x = conv(conv(x, "kpt_heatmap.depthwise"), "kpt_heatmap.pointwise", act="relu")
        coco = conv(x, "kpt_heatmap.output")
        expected = torch.stack([coco[:, list(of)].mean(dim=1) for of in LSP_FROM_COCO], dim=1)
        model = movenet_model(arrays).eval()
        with torch.no_grad():
            logits = model(image)["heatmap_logits"]
        assert logits.std() > 0.1
        torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("head", HEADS)
    def test_every_head_trains_a_step_on_it(self, head):
        torch.manual_seed(0)
        cfg = config(f"head={head}")
        backbone = MoveNet(WIDTH)
        model = PoseModel(backbone, build_head(cfg, backbone, 64), 14).train()
        loss = build(cfg.loss, "loss")
        optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], 1e-3)
        keypoints = torch.rand(4, 14, 2, generator=torch.Generator().manual_seed(2))
        values = []
        for _ in range(8):
            _, value = model.forward_with_loss(
                movenet_crops(), keypoints, torch.full((4, 14), 2), loss
            )
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(value.item())
        assert all(map(math.isfinite, values))
        assert values[-1] < values[0]

    def test_frozen_blocks_stay_as_they_are(self):
        backbone = MoveNet(WIDTH, frozen_blocks=3)
        before = {k: v.clone() for k, v in backbone.state_dict().items()}
        optimizer = torch.optim.AdamW(backbone.parameters(), 0.1, weight_decay=0.1)
        backbone.train()
        sum(m.square().mean() for m in backbone(torch.rand(4, 3, 64, 64))).backward()
        optimizer.step()
        kept = ("stem.", "blocks.block_0.", "blocks.block_1.", "blocks.block_2.")
        for name, value in backbone.state_dict().items():
            same = torch.equal(value, before[name])
            assert same is name.startswith(kept), name
        assert not backbone.eval().training


class TestNorms:
    def test_settled_norms_change_nothing_in_evaluation(self, arrays):
        model = movenet_model(arrays).eval()
        image = movenet_crops(8)
        with torch.no_grad():
            before = model(image)["heatmap_logits"]
        settle_norms(model, [{"image": image}, {"image": movenet_crops(8) // 2}])
        assert not model.training
        with torch.no_grad():
            after = model(image)["heatmap_logits"]
        torch.testing.assert_close(before, after, rtol=1e-3, atol=2e-3)

    def test_then_training_begins_at_the_same_network(self, arrays):
        """Without them the first batch turns it into another one."""
        image = movenet_crops(16)
        told, untold = movenet_model(arrays), movenet_model(arrays)
        settle_norms(told, [{"image": image}])
        with torch.no_grad():
            expected = told.eval()(image)["heatmap_logits"]
            near = told.train()(image)["heatmap_logits"] - expected
            far = untold.train()(image)["heatmap_logits"] - expected
        assert near.abs().mean() < 0.01 * far.abs().mean()

    def test_the_statistics_are_those_of_all_batches(self, arrays):
        model = movenet_model(arrays)
        batches = [{"image": movenet_crops(3)}, {"image": movenet_crops(5) // 3}]
        settle_norms(model, batches)
        pixels = torch.cat([b["image"] for b in batches]) / 127.5 - 1
        with torch.no_grad():
            x = model.backbone.stem.conv(pad_same(pixels))
        norm = model.backbone.stem.norm
        torch.testing.assert_close(norm.running_mean, x.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
        variance = x.var(dim=(0, 2, 3), correction=0)
        torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-5)

    def test_the_device_computes_and_gives_the_network_back(self, arrays, monkeypatch):
        model, moves = movenet_model(arrays), []
        monkeypatch.setattr(model, "to", moves.append)
        there = torch.device("cpu", 0)
        settle_norms(model, [{"image": movenet_crops()}], there)
        assert moves == [there, torch.device("cpu")]

    def test_a_run_s_weights_have_their_own_statistics(self, arrays, tmp_path):
        assert MoveNet(WIDTH, arrays).folded
        model = movenet_model(arrays)
        settle_norms(model, [{"image": movenet_crops()}])
        file = tmp_path / "run.ckpt"
        torch.save({"state_dict": {f"model.{k}": v for k, v in model.state_dict().items()}}, file)
        again = movenet_model(str(file))
        assert not again.backbone.folded
        for name, value in model.state_dict().items():
            if "probe" not in name:
                torch.testing.assert_close(again.state_dict()[name], value, msg=name)


class TestHead:
    def test_its_rows_are_named_as_the_skeletons_name_them(self):
        for row, (name, of) in enumerate(zip(LSP14.keypoints, LSP_FROM_COCO, strict=True)):
            named = {COCO17.keypoints[i] for i in of}
            expected = {"neck": {"left_shoulder", "right_shoulder"}, "head_top": {"nose"}}
            assert named == expected.get(name, {name}), row

    def test_another_skeleton(self, arrays):
        with pytest.raises(ConfigError) as error:
            MoveNetHead(MoveNet.out_channels, MoveNet.strides, 64, 16, weights=arrays)
        assert str(error.value) == (
            f"head.weights={arrays}: MoveNet's 17 joints of COCO give no 16; type "
            "data.skeleton=lsp14 or data.skeleton=coco17, or head.weights=null for a random head"
        )

    def test_coco_s_skeleton_keeps_all_rows(self, arrays):
        head = MoveNetHead(MoveNet.out_channels, MoveNet.strides, 64, 17, weights=arrays)
        expected = folded_arrays()["kpt_heatmap.output.weight"].float()
        assert torch.equal(head.kpt_heatmap.output.weight, expected)

    def test_impossible_keys(self):
        with pytest.raises(ConfigError, match=r"head\.stride=4: expected at least three cells"):
            MoveNetHead(MoveNet.out_channels, (1, 2, 4, 8), 8, 14)

    def test_its_logits_keep_their_digits_under_autocast(self, arrays):
        model = movenet_model(arrays).eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logits = model(movenet_crops())["heatmap_logits"]
        assert logits.dtype is torch.float32
        assert not torch.equal(logits, logits.bfloat16().float())
