"""Somebody's own keypoints: trained, evaluated, exported and predicted without a line of code."""

import json
import logging

import numpy as np
import pytest
from own_keypoints import OWN, own_folder
from PIL import Image
from tiny import composed, tiny_config

from convpose.config.instantiate import skeleton_of
from convpose.data.build import build_datamodule, describe_skeleton
from convpose.data.coco import CocoSource
from convpose.errors import ConfigError, DataError
from convpose.evaluate.command import evaluate
from convpose.export.command import export
from convpose.predict.predictor import PosePredictor
from convpose.run import Run
from convpose.runtime.packaged import pack
from convpose.runtime.pytorch import TestTimeAugmentation
from convpose.skeleton import LSP14, Skeleton
from convpose.train.command import train

pytestmark = pytest.mark.slow
NETWORK = ("data.input_size_px=32", "data.batch_size=4", "data.num_workers=0")
SMALL = (
    *("data=coco", *NETWORK, "model.width=0.0625", "trainer=cpu", "trainer.max_epochs=1"),
    *("augment=default", "model.depth=11", "callbacks.preview=null", "logger=none"),
)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return own_folder(tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="module")
def run(labels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(composed("train", *SMALL, f"data.source={labels}"), folder)
    return Run(folder)


def data(labels, *overrides):
    return composed("train", *SMALL, f"data.source={labels}", *overrides)


def test_the_category_is_the_skeleton_and_it_says_so(labels, caplog):
    caplog.set_level(logging.INFO)
    datamodule = build_datamodule(cfg := data(labels))
    assert datamodule.skeleton.keypoints == tuple(OWN.values())
    assert datamodule.skeleton.limbs[0] == ("Foot R", "R-Hip")
    assert datamodule.skeleton == skeleton_of(cfg)  # for the network of the same configuration
    said = " ".join(caplog.text.split())
    assert "its own skeleton dancer with 10 keypoints: Foot R, Foot L, R-Hip" in said
    assert "guessed from the names: Foot L–Foot R, L-Hip–R-Hip, hand_l–hand_r" in said
    assert "; without a partner" not in said
    text = describe_skeleton(Skeleton("a", ("Left Eye", "Right Eye", "Left Ear")), "a.json")
    assert "Eye; without a partner, so unlabelled in mirrored samples: Left Ear\n" in text
    assert "PCK in box sides" in said
    assert "data.skeleton=FILE.yaml" in said


def test_without_pairs_nothing_is_mirrored(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    names = {name: f"point {chr(97 + i)}" for i, name in enumerate(OWN)}
    labels = own_folder(tmp_path, 12, names)
    datamodule = build_datamodule(data(labels, "augment.mirror_probability=1.0"))
    datamodule.setup()
    assert "no mirror pairs in the names, so no mirror augmentation" in caplog.text
    train = datamodule.datasets["train"]
    x = [train.truth(i)["keypoints"][:, 0] for i in range(len(train))]
    shown = [train[i]["keypoints"][:, 0] for i in range(len(train))]
    for before, after in zip(x, shown, strict=True):  # a mirror would turn the order around
        assert np.corrcoef(before, after)[0, 1] > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.skeleton=lsp14", "data.names={tail: neck}"], "there is no tail; the joints of the"),
        (["data.skeleton=lsp14", "data.names={throat: gills}"], "there is no gills; the keypoints"),
        (
            ["data.skeleton=hand21"],
            "none of the joint names of coco is one of hand21: Foot R, .*hand21 has wrist",
        ),
    ],
)
def test_both_sides_are_listed_where_names_do_not_meet(labels, overrides, message):
    with pytest.raises((ConfigError, DataError), match=message):
        build_datamodule(data(labels, *overrides)).setup()


def test_names_are_mapped(labels):
    names = {"Foot R": "right_ankle", "throat": "neck"}
    people = CocoSource(str(labels), skeleton="lsp14", names=names).annotations
    known = {LSP14.keypoints[i] for i in np.flatnonzero(people[0].labelled)}
    assert known == {
        "right_ankle",
        "neck",
        *(f"{s}_{j}" for s in ("left", "right") for j in ("hip", "shoulder")),
    }
    own = build_datamodule(data(labels, "data.names={throat: neck}")).skeleton
    assert own.keypoints[8:] == ("neck", "crown")


def test_a_run_holds_the_skeleton_and_evaluates_with_it(run, tmp_path):
    assert list(run.config.data.skeleton.keypoints) == list(OWN.values())
    cfg = composed("evaluate", f"run={run.folder}", f"output={tmp_path}", "gallery=2", "split=val")
    evaluate(cfg)
    measures = json.loads((tmp_path / "metrics.json").read_text())
    assert list(measures["per_joint"]) == list(OWN.values())
    assert (measures["normaliser"], "per_torso_angle" in measures) == ("box_side", False)
    assert measures["nme"] > 0
    report = (tmp_path / "report.md").read_text()
    assert "| NME %" in report
    assert "degrees" not in report
    assert not [line for line in report.splitlines() if line.startswith(("| head ", "| knee"))]


@pytest.mark.parametrize("kind", ["run", "packaged", "onnx"])
def test_it_travels_with_the_network(kind, run, labels, tmp_path):
    picture = np.asarray(Image.open(labels.parent / "000.png"))
    if kind == "run":
        predictor = PosePredictor.from_run(run.folder)
    else:
        file = pack(run.folder, tmp_path / "mine.safetensors")
        if kind == "onnx":
            pytest.importorskip("onnxruntime")
            file = tmp_path / "mine.onnx"
            export(composed("export", f"run={run.folder}", f"output={file}"))
        predictor = PosePredictor.from_weights(file)
    assert predictor.skeleton.keypoints == tuple(OWN.values())
    assert predictor.skeleton.limbs
    (person,) = predictor(picture)
    assert person.keypoints_px.shape == (10, 2)


def test_the_flip_test_wants_pairs():
    nobody = Skeleton("blob", ("head end", "tail end"))
    with pytest.raises(
        ConfigError, match=r"mirror_test=true: nobody knows left and right of .*blob"
    ):
        TestTimeAugmentation(None, nobody, mirror=True, quarter_turns=False)


def test_other_data_keep_their_skeleton():
    assert build_datamodule(tiny_config()).skeleton == LSP14
