"""From MoveNet's weights to a pupil: whole runs, and the messages before one starts."""

import functools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_movenet import WIDTH, write_arrays
from tiny import composed

from convpose.data.augment import Augment
from convpose.data.build import build_datamodule
from convpose.data.crop import Crop, whole_frame
from convpose.data.dataset import PoseLandmarksDataset
from convpose.data.synthetic import SyntheticSource
from convpose.errors import ConfigError, ModelError
from convpose.evaluate.__main__ import main as evaluate
from convpose.geometry import invert, transform
from convpose.history import read_history
from convpose.models.build import build_model, check_skeleton
from convpose.runtime.pytorch import load_run
from convpose.skeleton import LSP14
from convpose.train.build import build_module
from convpose.train.command import train

pytestmark = pytest.mark.slow
TINY = (
    *("data=synthetic", "data.sources.synthetic.num_images=40", "data.num_workers=0"),
    *("data.sources.synthetic.image_size_px=48", "data.input_size_px=32", "data.batch_size=8"),
    *("trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=1", "optimizer=adamw"),
    *("callbacks.preview.images=1", "callbacks.preview.worst=1"),
)
MOVENET = ("model=movenet", f"model.width={WIDTH}", "head=movenet")


def config(*overrides):
    return composed("train", *TINY, *overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that started from MoveNet's arrays, which are gone since."""
    folder = tmp_path_factory.mktemp("run")
    arrays = write_arrays(tmp_path_factory.mktemp("arrays"))
    train(config(*MOVENET, f"model.weights={arrays}"), folder)
    arrays.unlink()
    return folder


def test_a_run_needs_the_weights_file_no_more(run, monkeypatch):
    network = load_run(run, accelerator="cpu").model
    assert isinstance(network.head.kpt_heatmap, torch.nn.Module)
    monkeypatch.setattr("sys.argv", ["evaluate", f"run={run}", "split=val", "gallery=0"])
    evaluate()
    assert (run / "evaluate_val" / "metrics.json").is_file()


def test_its_norms_were_settled_before_the_first_step(run):
    """Nothing of the running mean's start at 0 is left."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    variances = [v for k, v in state.items() if k.endswith("backbone.stem.norm.running_var")]
    assert variances
    assert all((v != 1).all() for v in variances)


def test_a_pupil_learns_from_a_run(run, tmp_path):
    keys = ("model=vgg_narrow", "model.width=0.0625", "head=heatmap", "loss=distill")
    train(config(*keys, f"loss.teacher={run}"), tmp_path)
    (row,) = read_history(tmp_path / "metrics.csv")
    assert np.isfinite(row["train/loss"])
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert not [name for name in saved if name.startswith("loss.")]


class TestTeacherMessages:
    def message(self, *overrides):
        cfg = config(*overrides)
        with pytest.raises((ConfigError, ModelError)) as error:
            build_module(cfg, build_model(cfg))
        return str(error.value)

    def test_none(self):
        assert self.message("head=heatmap", "loss=distill") == (
            "loss=distill: learns from a trained network; type loss.teacher=large, or a run "
            "folder, or loss=heatmap to learn from the labels alone"
        )

    def test_without_heatmaps(self, unbroken):
        message = self.message("head=heatmap", "loss=distill", f"loss.teacher={unbroken}")
        assert message == (
            f"loss.teacher={unbroken}: RegressionHead gives no heatmaps; type a run with "
            "head=heatmap, head=integral or head=movenet"
        )

    def test_of_another_skeleton(self, run):
        cfg = config("head=heatmap", "loss=distill", f"loss.teacher={run}")
        cfg.data.skeleton = "coco17"
        with pytest.raises(ConfigError) as error:
            build_module(cfg, build_model(cfg))
        assert str(error.value) == (
            f"loss.teacher={run}: has the skeleton lsp14, the data coco17; type a run of coco17, "
            "or data.skeleton=lsp14"
        )

    def test_of_a_skeleton_without_a_name_that_can_be_typed(self, run):
        cfg = config("head=heatmap", "loss=distill", f"loss.teacher={run}")
        message = "has the skeleton bug, the data lsp14; type a run of lsp14, or data.skeleton=FILE"
        other = cfg.copy()
        other.data.skeleton = {"name": "bug", "keypoints": ["left_eye", "right_eye"]}
        for typed in (f"loss.teacher={run}", "model.run=runs/3"):
            with pytest.raises(ConfigError, match=f"{typed}: {message}"):
                check_skeleton(cfg, other, typed)

    def test_a_file_or_a_run_without_a_checkpoint(self, run, tmp_path):
        file = run / "checkpoints" / "best.ckpt"
        keys = ("head=heatmap", "loss=distill")
        assert self.message(*keys, f"loss.teacher={file}") == (
            f"loss.teacher={file}: a file; type loss.teacher=FOLDER"
        )
        shutil.copy(run / "config.yaml", tmp_path)
        assert self.message(*keys, f"loss.teacher={tmp_path}").endswith(
            "best.ckpt: no such checkpoint; type loss.teacher=FOLDER of a run that has trained an "
            "epoch"
        )

    def test_of_a_cascade(self, unbroken, run):
        keys = ("model=cascade", f"model.run={unbroken}", "model.subimage_px=32", "head=heatmap")
        message = self.message(*keys, "loss=distill", f"loss.teacher={run}")
        assert message == (
            "loss=distill model=cascade: a teacher looks at whole crops and a cascade's last stage "
            "at parts of them; type loss=heatmap"
        )


class TestFrames:
    def test_the_share_of_samples_shows_the_whole_frame(self):
        source = SyntheticSource(num_images=60, image_size_px=48)
        keys = (Crop("box"), 32, LSP14, Augment(frame_probability=0.4))
        dataset = PoseLandmarksDataset(source, range(60), *keys)
        frame = whole_frame("letterbox", 48, 48)
        shown = [np.allclose(dataset[i]["unit_to_px"], frame, atol=1e-4) for i in range(60)]
        assert 0.25 < np.mean(shown) < 0.55

    def test_the_keypoints_stay_where_they_are_in_the_picture(self):
        source = SyntheticSource(num_images=4, image_size_px=48)
        keys = (Crop("box"), 32, LSP14, Augment(frame_probability=1.0, rotation_deg=30))
        sample = PoseLandmarksDataset(source, range(4), *keys)[2]
        px = transform(sample["unit_to_px"].double().numpy(), sample["keypoints"].double().numpy())
        assert px == pytest.approx(source.annotations[2].keypoints_px, abs=1e-3)
        assert invert(sample["unit_to_px"].double().numpy()).shape == (2, 3)

    def test_without_it_nothing_is_drawn(self):
        """Earlier runs repeat themselves."""
        rng = np.random.default_rng(3)
        assert not Augment().shows_frame(rng)
        assert rng.random() == np.random.default_rng(3).random()

    def test_a_cache_has_no_frames(self):
        cfg = config("augment=gentle", "data.cache=crops.safetensors")
        with pytest.raises(ConfigError) as error:
            build_datamodule(cfg)
        assert str(error.value) == (
            "data.cache=crops.safetensors augment.frame_probability=0.3: a cache holds the crops "
            "and not the frames around them; type data.cache=null, or augment.frame_probability=0"
        )


def test_of_two_data_sets_each_is_validated_by_itself(tmp_path, monkeypatch):
    """And both together are what the whole is, by their numbers of keypoints."""
    init = SyntheticSource.__init__

    @functools.wraps(init)  # its signature is the schema
    def of_two(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.annotations = [
            replace(a, dataset="ab"[i % 3 == 0]) for i, a in enumerate(self.annotations)
        ]

    monkeypatch.setattr(SyntheticSource, "__init__", of_two)
    train(config("model=vgg_narrow", "model.width=0.0625", "head=heatmap"), tmp_path)
    (row,) = read_history(tmp_path / "metrics.csv")
    ids = json.loads((tmp_path / "splits.json").read_text())["val"]
    share = np.mean([int(image_id.split("_")[1]) % 3 == 0 for image_id in ids])
    assert 0 < share < 1
    mean = (1 - share) * row["val/pck@0.2/a"] + share * row["val/pck@0.2/b"]
    assert row["val/pck@0.2"] == pytest.approx(mean, abs=1e-5)
    assert {"val/limbs_pck@0.2/a", "val/limbs_pck@0.2/b"} <= set(row)


def test_one_data_set_is_validated_once(run):
    (row,) = read_history(run / "metrics.csv")
    assert not [name for name in row if name.startswith("val/pck@0.2/")]
