"""COCO's own measures: those of pycocotools on the same files, in true boxes and others."""

import contextlib
import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tiny import composed

sys.path.append(str(Path(__file__).parent.parent / "data"))
from fake_coco import fake_coco
from fake_lsp import write_folder
from fake_mpii import fake_mpii, fake_mpii_json
from fake_people import mat

from convpose.data.build import build_datamodule
from convpose.errors import ConfigError, DataError
from convpose.evaluate.command import evaluate
from convpose.evaluate.oks import STATS, score_coco
from convpose.evaluate.predictions import Predictions
from convpose.evaluate.scoring import GroundTruth
from convpose.skeleton import COCO17, LSP14

VAL = "annotations/person_keypoints_val2017.json"


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("coco"), fake_coco())


def data(coco, *overrides):
    keys = (f"data.source={coco}", "data.num_workers=0", "data.input_size_px=32", *overrides)
    return composed("evaluate", "data=coco", *keys)


def guesses(coco, folder, *overrides, noise_px=1.5):
    """People of val2017 as they are but for some noise, in a file."""
    datamodule = build_datamodule(data(coco, *overrides))
    datamodule.setup()
    truth = GroundTruth.of(datamodule.datasets["test"], datamodule.skeleton)
    rng = np.random.default_rng(0)
    points_px = truth.keypoints_px.nan_to_num(20.0).numpy()
    points_px = (points_px + rng.normal(0, noise_px, points_px.shape)).astype(np.float32)
    scores = rng.uniform(0.2, 1, points_px.shape[:2]).astype(np.float32)
    found = Predictions(np.array(truth.image_ids), points_px, scores)
    found.save(folder / "found.npz")
    return datamodule, found


def of_pycocotools(truth: Path, results: Path, sigmas) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        people = COCO(str(truth))
        scored = COCOeval(people, people.loadRes(str(results)), "keypoints")
        scored.params.kpt_oks_sigmas = np.array(sigmas)
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
    return dict(zip(STATS, scored.stats.tolist(), strict=True))


def test_evaluate_says_what_the_library_says_of_the_same_files(coco, tmp_path, capsys):
    guesses(coco, tmp_path, "data.skeleton=coco17")
    keys = ("data.skeleton=coco17", f"predictions={tmp_path}/found.npz", "gallery=0")
    evaluate(data(coco, *keys, f"output={tmp_path}/out"))

    measured = json.loads((tmp_path / "out/metrics.json").read_text())["oks"]
    expected = of_pycocotools(coco / VAL, tmp_path / "out/coco_results.json", COCO17.sigmas)
    assert 0.05 < expected["AP"] < 0.95
    for name, value in expected.items():
        assert measured[name] == (None if value < 0 else pytest.approx(value, abs=1e-12)), name
    # nine people have joints; two crowds and two without joints are in the file to be ignored
    assert (measured["num_people"], measured["num_images"]) == (9, 6)
    assert f" {100 * expected['AP']:.1f} " in capsys.readouterr().out
    assert "| boxes        |" in (tmp_path / "out/report.md").read_text()


def test_the_truth_is_perfect_and_sigmas_are_the_skeletons(coco, tmp_path):
    datamodule, found = guesses(coco, tmp_path, "data.skeleton=coco17", noise_px=0)
    assert score_coco(datamodule, "test", found, tmp_path)["AP"] == pytest.approx(1)
    datamodule, found = guesses(coco, tmp_path, "data.skeleton=coco17")
    before = score_coco(datamodule, "test", found, tmp_path)
    datamodule.skeleton = replace(COCO17, sigmas=(0.2,) * 17)
    after = score_coco(datamodule, "test", found, tmp_path)
    expected = of_pycocotools(coco / VAL, tmp_path / "coco_results.json", [0.2] * 17)
    assert after["AP"] == pytest.approx(expected["AP"])
    assert after["AP"] > before["AP"]


def test_joints_that_the_network_lacks_count_for_nobody(coco, tmp_path):
    datamodule, found = guesses(coco, tmp_path, noise_px=0)
    assert datamodule.skeleton == LSP14
    measured = score_coco(datamodule, "test", found, tmp_path)
    assert (measured["AP"], measured["joints"]) == (pytest.approx(1), "12 of 17")


def test_people_who_are_left_out_count_as_not_found(coco, tmp_path, caplog):
    few = json.loads((coco / VAL).read_text())
    labels = few["annotations"][0]["keypoints"]
    labels[9:] = [0] * 42  # three joints are left
    (tmp_path / "val.json").write_text(json.dumps(few))
    keys = ("data.skeleton=coco17", "data.split=whole", f"data.sources.coco.images={coco}")
    datamodule, found = guesses(tmp_path / "val.json", tmp_path, *keys, noise_px=0)
    measured = score_coco(datamodule, "test", found, tmp_path)
    assert measured["AR"] == pytest.approx(8 / 9)
    assert "AP: 1 of 9 people of val.json are left out of the data, and count as not" in caplog.text
    assert "data.sources.coco.min_joints=1 reads them" in caplog.text


def test_a_part_of_a_file_is_scored_on_its_photographs_alone(coco, tmp_path):
    datamodule, _ = guesses(coco, tmp_path, "data.skeleton=coco17")
    truth = GroundTruth.of(datamodule.datasets["val"], datamodule.skeleton)
    points_px = truth.keypoints_px.nan_to_num(20.0).numpy()
    found = Predictions(np.array(truth.image_ids), points_px)
    measured = score_coco(datamodule, "val", found, tmp_path)
    assert (measured["AP"], measured["num_images"]) == (pytest.approx(1), 2)
    assert measured["num_people"] == len(points_px)


def middle(crops):
    """A network that finds all joints in the middle of a crop, sure by a half."""
    shape = (len(crops), 17)
    return {"keypoints": torch.full((*shape, 2), 0.5), "scores": torch.full(shape, 0.5)}


def test_people_of_a_detector_are_predicted_in_their_boxes(coco, tmp_path):
    datamodule, found = guesses(coco, tmp_path, "data.skeleton=coco17")
    detections = [
        {"image_id": 901, "category_id": 1, "bbox": [10.0, 8.0, 20.0, 30.0], "score": 0.8},
        {"image_id": "901", "bbox": [4, 4, 8, 8], "score": 0.4},
        {"image_id": 901, "category_id": 2, "bbox": [4, 4, 8, 8], "score": 0.4},  # a dog
        {"image_id": 1, "category_id": 1, "bbox": [4, 4, 8, 8], "score": 0.4},  # of train2017
        {"image_id": 902, "category_id": 1, "bbox": [4, 4, 0, 8], "score": 0.4},  # no area
    ]
    (tmp_path / "boxes.json").write_text(json.dumps(detections))
    where = str(tmp_path / "boxes.json")
    measured = score_coco(datamodule, "test", found, tmp_path, where, middle)
    results = json.loads((tmp_path / "coco_results.json").read_text())
    assert [(r["image_id"], r["category_id"], r["score"]) for r in results] == [
        (901, 1, pytest.approx(0.4)),
        (901, 1, pytest.approx(0.2)),
    ]
    assert results[0]["keypoints"] == [19.5, 22.5, 0.5] * 17  # the centre, from the first pixel's
    assert measured["boxes"] == "boxes.json"
    expected = of_pycocotools(coco / VAL, tmp_path / "coco_results.json", COCO17.sigmas)
    assert measured["AR"] == pytest.approx(expected["AR"])


@pytest.mark.parametrize(
    ("content", "network", "kind", "message"),
    [
        ("[{}]", middle, DataError, r"KeyError: 'image_id'; expected a JSON list of"),
        ("[]", middle, DataError, "nobody in the 6 images of the subset"),
        ("{", middle, DataError, "not a JSON file"),
        ("[]", None, ConfigError, "a file of predictions has no network; type run=FOLDER"),
    ],
)
def test_other_files_of_boxes_are_refused(coco, tmp_path, content, network, kind, message):
    datamodule, found = guesses(coco, tmp_path, "data.skeleton=coco17")
    where = tmp_path / "boxes.json"
    where.write_text(content)
    with pytest.raises(kind, match=f"{where}.*{message}"):
        score_coco(datamodule, "test", found, tmp_path, str(where), network)


def fake_mpii_json_with_heads(train=24, valid=6):
    """Put the boxes of heads, 3 px wide and 4 high, where Simple Baselines has them."""
    files = fake_mpii_json(train, valid)
    count = len(json.loads(files["annot/valid.json"]))
    corners = np.tile(np.array([[10, 20], [13, 24]])[..., None], count)
    return files | {"annot/gt_valid.mat": mat(headboxes_src=corners)}


@pytest.mark.parametrize(
    ("name", "files"), [("mpii", fake_mpii(20)), ("mpii_json", fake_mpii_json_with_heads())]
)
def test_mpii_has_pckh_without_pelvis_and_thorax(name, files, tmp_path, capsys):
    mpii = write_folder(tmp_path / "mpii", files)
    keys = ("data.skeleton=mpii16", f"data.source={mpii}", "data.num_workers=0")
    datamodule = build_datamodule(cfg := composed("evaluate", f"data={name}", *keys))
    datamodule.setup()
    truth = GroundTruth.of(datamodule.datasets["test"], datamodule.skeleton)
    points_px = truth.keypoints_px.nan_to_num(20.0)
    thorax, wrist = (datamodule.skeleton.index(name) for name in ("thorax", "left_wrist"))
    points_px[:, [thorax, wrist], 0] += 40
    Predictions(np.array(truth.image_ids), points_px.numpy()).save(tmp_path / "found.npz")
    cfg.predictions, cfg.gallery, cfg.output = f"{tmp_path}/found.npz", 0, f"{tmp_path}/out"
    evaluate(cfg)
    measured = json.loads((tmp_path / "out/metrics.json").read_text())
    labelled = truth.visibility.numpy() > 0
    counted = np.delete(labelled, [6, 7], axis=1).sum()  # MPII's numbers of pelvis and thorax
    assert measured["pckh@0.5"] == pytest.approx(1 - labelled[:, wrist].sum() / counted)
    assert measured["pckh_per_part"]["thorax"] == 0
    assert measured["pckh_per_part"]["wrist"] == pytest.approx(0.5)
    assert "PCKh@0.5 %" in capsys.readouterr().out


def test_other_data_have_no_ap():
    datamodule = build_datamodule(composed("evaluate", "data=synthetic"))
    assert score_coco(datamodule, "test", None, Path()) == {}
    with pytest.raises(ConfigError, match=r"boxes=b.json: people in boxes are scored with data=c"):
        score_coco(datamodule, "test", None, Path(), "b.json")
