"""Arrays in, people out: in the right pixels, and with the accuracy that evaluate measures."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_network import SCORE, K, NearSighted, RedDot, dot, on_diagonal
from omegaconf import OmegaConf
from PIL import Image
from tiny import composed

import convpose
from convpose.data.build import build_datamodule
from convpose.data.crop import joints_box_px
from convpose.errors import ConfigError, DataError, ModelError
from convpose.evaluate.command import evaluate
from convpose.evaluate.predictions import Predictions
from convpose.evaluate.scoring import GroundTruth, on_device, predict
from convpose.predict.images import Picture, decode
from convpose.predict.people import Person
from convpose.predict.predictor import PosePredictor
from convpose.runtime import CropSpec
from convpose.runtime.pytorch import load_run, with_tta
from convpose.skeleton import COCO17, LSP14


class Finder:
    """A detector that finds what it is told to."""

    def __init__(self, *boxes, score=0.5):
        self.found = np.array(boxes, float).reshape(-1, 4), np.full(len(boxes), score)

    def __call__(self, image):
        return self.found


@pytest.mark.parametrize("size", [(160, 120), (120, 160), (37, 200)])
@pytest.mark.parametrize("frame", ["image", "letterbox"])
def test_a_whole_frame_comes_back_in_its_pixels(frame, size):
    at = np.array(size) * 0.6
    (person,) = PosePredictor(RedDot(frame))(dot(*size, at))
    assert person.keypoints_px.shape == (K, 2)
    assert person.keypoints_px.dtype == np.float32
    assert np.abs(person.keypoints_px - at).max() < 0.5
    assert person.box_px is None
    assert person.score == pytest.approx(SCORE)


def test_each_box_is_a_person_of_its_own():
    image = np.maximum(dot(300, 100, (50, 50)), dot(300, 100, (250, 40)))
    boxes = [[20, 20, 80, 90], [220, 10, 290, 90]]
    left, right = PosePredictor(RedDot())(image, boxes)
    assert np.abs(left.keypoints_px - (50, 50)).max() < 0.5
    assert np.abs(right.keypoints_px - (250, 40)).max() < 0.5
    assert left.box_px.tolist() == boxes[0]


def test_images_of_all_sizes_go_in_batches():
    runtime = RedDot()
    predictor = PosePredictor(runtime, batch_size=3)
    images = [dot(40 + 30 * i, 90, (20 + 10 * i, 30)) for i in range(5)]
    everybody = predictor.predict(images)
    assert runtime.batches == [3, 2]
    for i, (person,) in enumerate(everybody):
        assert np.abs(person.keypoints_px - (20 + 10 * i, 30)).max() < 0.7


def test_nobody_there_is_an_empty_result():
    runtime = RedDot()
    assert PosePredictor(runtime).predict([dot(), dot()], [[], np.zeros((0, 4))]) == [[], []]
    assert PosePredictor(runtime, Finder())(dot()) == []
    assert PosePredictor(runtime).predict([]) == []
    assert runtime.batches == []


def test_some_images_have_boxes_and_others_are_searched():
    finder = Finder([60, 10, 140, 80], [0, 0, 40, 40], score=0.5)
    predictor = PosePredictor(RedDot(), finder)
    given, searched = predictor.predict([dot(), dot()], [[[80, 20, 120, 60]], None])
    assert [person.box_score for person in given] == [1.0]
    assert [person.box_score for person in searched] == [0.5, 0.5]
    assert np.abs(searched[0].keypoints_px - (100, 40)).max() < 0.5
    assert searched[0].score == pytest.approx(0.5 * SCORE)


def test_the_crop_of_a_box_can_be_made_wider():
    seen = {}

    class Spy(RedDot):
        def __call__(self, crops):
            seen["red"] = (crops[:, 0] > 128).sum()
            return super().__call__(crops)

    box = [[90, 30, 110, 50]]
    PosePredictor(Spy(box_scale=1.25))(dot(), box)
    near = seen["red"]
    PosePredictor(Spy(box_scale=1.25), box_scale=2.5)(dot(), box)
    assert near / seen["red"] == pytest.approx(4, rel=0.1)


SMALL = (110, 50), 18  # place and radius of a person in a frame of 160 × 120 px


@pytest.mark.parametrize("frame", ["image", "letterbox"])
def test_a_second_look_is_closer(frame):
    images = [dot(160, 120, *SMALL), dot(240, 400, (70, 210), 40)]
    truth = [on_diagonal(*SMALL), on_diagonal((70, 210), 40)]
    runtime, off_px = NearSighted(frame), []
    for looks, batches in ((1, [2]), (2, [2, 2])):
        runtime.batches.clear()
        people = [person for (person,) in PosePredictor(runtime, looks=looks).predict(images)]
        assert runtime.batches == batches
        assert {person.box_px for person in people} == {None}
        off = zip(people, truth, strict=True)
        off_px.append([np.abs(person.keypoints_px - px).mean() for person, px in off])
    once, twice = np.array(off_px)
    assert (twice < 0.6 * once).all()


@pytest.mark.parametrize(("trusted", "calls"), [(2, 1), (3, 2)])
def test_an_unsure_first_look_keeps_the_frame(trusted, calls):
    runtime = NearSighted()
    runtime.scores = np.full(K, 0.1, np.float32)
    runtime.scores[[0, K - 1, 7][:trusted]] = 0.9
    (person,) = PosePredictor(runtime)(dot(160, 120, *SMALL))
    assert len(runtime.batches) == calls
    once = PosePredictor(runtime, looks=1)(dot(160, 120, *SMALL))[0]
    assert np.array_equal(person.keypoints_px, once.keypoints_px) == (calls == 1)


def test_boxes_and_detectors_get_one_look():
    runtime = NearSighted()
    PosePredictor(runtime)(dot(160, 120, *SMALL), [[0, 0, 159, 119]])
    PosePredictor(runtime, Finder([0, 0, 159, 119]))(dot(160, 120, *SMALL))
    assert runtime.batches == [1, 1]


def test_three_looks_are_refused():
    with pytest.raises(ConfigError, match="looks=3: expected 1 or 2"):
        PosePredictor(RedDot(), looks=3)


def test_a_reduced_picture_is_searched_as_it_is_and_answers_in_its_own_pixels():
    small = dot(160, 120, (100, 40))
    to_px = np.array([[4.0, 0, 1.5], [0, 4.0, 1.5]])
    picture = Picture(small, to_px, (640, 480))
    whole, found = (
        PosePredictor(RedDot(), detector).predict_pictures([picture], [None])[0][0]
        for detector in (None, Finder([80, 20, 120, 60]))
    )
    for person in (whole, found):
        assert np.abs(person.keypoints_px - (401.5, 161.5)).max() < 2
    assert found.box_px.tolist() == [321.5, 81.5, 481.5, 241.5]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[1, 2, 3]], r"boxes of shape \(1, 3\): expected \(N, 4\), x0, y0, x1, y1 in pixels"),
        ([1, 2, 3, 4], r"boxes of shape \(4,\)"),
        ([[5, 5, 5, 9]], r"box \[5.0, 5.0, 5.0, 9.0\]: expected x0, y0, x1, y1 .* x0 < x1"),
        ([[0, 0, float("nan"), 9]], r"box \[0.0, 0.0, nan, 9.0\]"),
        ([["a", 0, 1, 1]], r"expected numbers \(N, 4\)"),
    ],
)
def test_boxes_that_are_none(boxes, message):
    with pytest.raises(DataError, match=message):
        PosePredictor(RedDot())(dot(), boxes)


def test_an_image_that_is_none():
    with pytest.raises(DataError, match="an image is an array"):
        PosePredictor(RedDot())(dot().astype(float))
    with pytest.raises(DataError, match="2 images with 1 lists of boxes"):
        PosePredictor(RedDot()).predict([dot(), dot()], [None])


def test_a_network_that_diverged_is_said():
    class Broken(RedDot):
        def __call__(self, crops):
            keypoints, scores = super().__call__(crops)
            return keypoints * np.nan, scores

    with pytest.raises(ModelError, match="NaN or infinity: its training has diverged"):
        PosePredictor(Broken())(dot())


def test_one_pixel_is_a_picture():
    (person,) = PosePredictor(RedDot())(np.full((1, 1, 3), 9, np.uint8))
    assert np.isfinite(person.keypoints_px).all()


def test_the_extent_of_a_person():
    points = np.array([[3, 9], [1, 4], [2, 5]], np.float32)
    alone = Person(points, np.ones(3, np.float32))
    assert alone.extent_px.tolist() == [1, 4, 3, 9]
    assert replace(alone, box_px=np.array([0.0, 0, 9, 9])).extent_px.tolist() == [0, 0, 9, 9]


@pytest.mark.parametrize(
    ("crop", "frame"),
    [
        ("image", "image"),
        ("letterbox", "letterbox"),
        ("box", "letterbox"),
        ({"lsp": "letterbox", "lspet": "box"}, "letterbox"),
        ({"a": "box", "b": "image"}, "image"),
    ],
)
def test_the_crop_of_a_whole_frame_follows_the_training(crop, frame):
    data = OmegaConf.create({"input_size_px": 96, "crop": crop, "box_scale": 1.5})
    spec = CropSpec.from_config(data)
    assert (spec.frame, spec.input_size_px, spec.box_scale, spec.skeleton) == (
        *(frame, 96, 1.5),
        LSP14,
    )
    assert CropSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    data.skeleton = "coco17"
    assert CropSpec.from_config(data).skeleton == COCO17


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"skeleton": "robot9"}, "skeleton robot9 with 14 keypoints is not known here, only aic14"),
        ({"keypoints": ["nose"]}, "skeleton lsp14 with 1 keypoints is not known here"),
        ({"box_scale": None}, "the description of the network is incomplete"),
    ],
)
def test_a_description_that_does_not_hold(changed, message):
    facts = CropSpec(64, "image", 1.25, LSP14).to_dict()
    with pytest.raises(ModelError, match=message):
        CropSpec.from_dict(facts | changed)
    with pytest.raises(ModelError, match="incomplete"):
        CropSpec.from_dict({"skeleton": "lsp14"})


def people_of(dataset, run, folder):
    """The people of a data set's pictures, written as files and read again."""
    predictor = PosePredictor.from_run(run)
    people = []
    for i in dataset.indices:
        annotation = dataset.source.annotations[i]
        Image.fromarray(dataset.source.read_image(i)[0]).save(folder / "person.png")
        boxed = dataset.crop.mode == "box"
        box = [np.concatenate(joints_box_px(annotation))] if boxed else None
        people += predictor(decode(folder / "person.png").image, box)
    return people


def opened(run, cfg):
    cfg.data.split = str(run / "splits.json")
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    return datamodule


def test_accuracy_through_this_door_is_what_evaluate_measures(trained, tmp_path):
    quick = ["split=val", "gallery=0", "accelerator=cpu", f"output={tmp_path / 'evaluation'}"]
    evaluate(composed("evaluate", f"run={trained}", *quick))
    measured = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    expected = Predictions.load(tmp_path / "evaluation" / "predictions.npz")
    dataset = opened(trained, OmegaConf.load(trained / "config.yaml")).datasets["val"]
    people = people_of(dataset, trained, tmp_path)
    found_px = np.stack([person.keypoints_px for person in people])
    assert len(people) == len(expected.image_id) == 6
    assert np.abs(found_px - expected.keypoints_px).max() < 1e-4
    assert np.abs([person.scores for person in people] - expected.scores).max() < 1e-4
    again = GroundTruth.of(dataset, LSP14).score(torch.from_numpy(found_px))
    for name in ("pck@0.2", "auc", "epe_px", "mse_unit"):
        assert again[name] == pytest.approx(measured[name], abs=1e-4), name


@pytest.mark.parametrize("crop", ["letterbox", "image"])
def test_whole_frames_are_cropped_as_in_training(crop, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    cfg = OmegaConf.load(run / "config.yaml")
    cfg.data.crop = crop
    OmegaConf.save(cfg, run / "config.yaml")
    datamodule = opened(run, cfg)
    model = load_run(run).model
    expected = predict(on_device(model, torch.device("cpu"), "32-true"), datamodule.loader("val"))
    people = people_of(datamodule.datasets["val"], run, tmp_path)
    found_px = np.stack([person.keypoints_px for person in people])
    assert np.abs(found_px - expected.keypoints_px).max() < 1e-4


def test_several_looks_are_those_of_evaluate(trained):
    once = PosePredictor.from_run(trained)
    twice = PosePredictor(with_tta(load_run(trained), mirror=True, quarter_turns=False))
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    mirrored = image[:, ::-1].copy()
    a, b = once(image)[0].keypoints_px, once(mirrored)[0].keypoints_px[list(LSP14.mirror)]
    b = np.stack([47 - b[:, 0], b[:, 1]], axis=1)
    both = twice(image)[0].keypoints_px
    assert np.abs(a - b).max() > 1e-2, "an untrained network is not symmetric"
    assert ((both >= np.minimum(a, b) - 1e-3) & (both <= np.maximum(a, b) + 1e-3)).all()


def test_the_study_folder_stands_for_its_newest_run(trained, tmp_path):
    (tmp_path / "study").mkdir()
    shutil.copytree(trained, tmp_path / "study" / "one")
    assert load_run(tmp_path / "study").spec == load_run(trained).spec


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"accelerator": "tpu"}, "accelerator=tpu: type auto, cpu or gpu"),
        ({"precision": "half"}, "precision=half: type auto, 32-true, bf16-mixed or 16-mixed"),
        ({"checkpoint": "none.ckpt"}, r"none\.ckpt: no such checkpoint"),
    ],
)
def test_a_run_that_cannot_be_loaded_so(how, message, trained):
    with pytest.raises((ConfigError, ModelError), match=message):
        load_run(trained, **how)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu(trained):
    with pytest.raises(ConfigError, match="accelerator=gpu: PyTorch sees no GPU here"):
        load_run(trained, accelerator="gpu")


def test_half_precision_is_near(trained):
    image = dot(48, 48, (20, 20))
    whole = PosePredictor.from_run(trained)(image)[0].keypoints_px
    half = PosePredictor.from_run(trained, precision="bf16-mixed")(image)[0].keypoints_px
    assert 0 < np.abs(whole - half).max() < 1.0


def test_the_package_offers_nothing_else():
    with pytest.raises(AttributeError, match="'convpose' has no attribute 'PosePredicto'"):
        _ = convpose.PosePredicto
