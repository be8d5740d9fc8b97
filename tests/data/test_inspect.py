import io
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from rich.console import Console

from convpose.data.annotation import Annotation
from convpose.data.datamodule import JoinedSource
from convpose.data.inspect import PixelRange, inspect_source, render
from convpose.errors import DataError
from convpose.geometry import identity
from convpose.skeleton import LSP14

NAN = np.nan


class FourPeople:
    """Hand-made people: whole, occluded and outside, short torso, no torso; the third is broken."""

    def __init__(self):
        whole = np.stack([np.linspace(10, 40, 14), np.linspace(20, 80, 14)], axis=1)
        outside = whole.copy()
        outside[0], outside[1], outside[2] = (-0.6, 20), (99.4, 20), (99.6, 20)
        short = whole.copy()
        short[LSP14.index("left_shoulder")] = short[LSP14.index("right_hip")] + (3, 4)
        short[LSP14.index("left_shoulder"), 1] -= 0.1
        missing = whole.copy()
        gone = [LSP14.index(name) for name in ("right_hip", "left_hip", "neck")]
        missing[gone] = NAN
        self.annotations = [
            self.person("im0001", whole),
            self.person("im0002", outside, occluded=[5, 6], size_px=(100, 200)),
            self.person("im0003", short),
            self.person("im0003", missing, size_px=(300, 90)),
        ]

    def person(self, image_id, points_px, occluded=(), size_px=(100, 100)):
        visibility = np.where(np.isnan(points_px[:, 0]), 0, 2).astype(np.uint8)
        visibility[list(occluded)] = 1
        return Annotation(image_id, "lsp", *size_px, points_px.astype(np.float32), visibility)

    def read_image(self, index):
        if index == 2:
            raise DataError("archive.zip: im0003.jpg is damaged")
        return np.zeros((1, 1, 3), np.uint8), identity()


def test_counts_and_sizes_are_those_of_hand():
    found = inspect_source(FourPeople(), LSP14)
    assert found.images == {"lsp": 4}
    assert found.complete == 3
    assert found.fewest == 11
    assert found.missing.sum() == 3
    assert found.missing[LSP14.index("neck")] == 1
    assert found.occluded.tolist() == [0] * 5 + [1, 1] + [0] * 7
    assert (found.visible + found.occluded + found.missing).tolist() == [4] * 14
    assert found.width_px == PixelRange(100, 100, 300)
    assert found.height_px == PixelRange(90, 100, 200)
    assert found.box_px.smallest == 60
    assert found.box_px.largest == pytest.approx(100.2)
    assert found.torso_px.smallest == pytest.approx(np.hypot(3, 3.9), abs=1e-4)
    assert found.without_torso == 1


def test_people_of_one_photograph_are_counted_apart():
    people = FourPeople()
    people.annotations = [replace(a, file="a.jpg") for a in people.annotations[:3]]
    people.annotations.append(replace(people.annotations[0], file="b.jpg", image_id="im9"))
    found = inspect_source(people, LSP14)
    assert (found.people, found.images) == ({"lsp": 4}, {"lsp": 2})
    text = rendered(found)
    assert "images of lsp " in text
    assert "people of lsp " in text
    assert "people of lsp" not in rendered(inspect_source(FourPeople(), LSP14))


def test_what_readers_note_is_said_of_joined_ones_too():
    one, two = FourPeople(), FourPeople()
    one.notes, two.notes = ["one: masked"], ["two: left out"]
    assert inspect_source(one, LSP14).notes == ("one: masked",)
    both = inspect_source(JoinedSource([one, two]), LSP14)
    assert both.notes == ("one: masked", "two: left out")
    assert "one: masked\ntwo: left out\n" in rendered(both)


def rendered(found):
    console = Console(file=io.StringIO(), width=100)
    console.print(render(found))
    return re.sub(" +\n", "\n", console.file.getvalue())


def test_problems_are_found_and_named():
    found = inspect_source(FourPeople(), LSP14, decode=True)
    assert found.outside == ("im0002 right_ankle", "im0002 right_hip")
    assert found.degenerate == ("im0003",)
    assert found.repeated == ("im0003",)
    assert found.undecodable == ("im0003 (archive.zip: im0003.jpg is damaged)",)
    assert found.problems == [
        "images that cannot be decoded: 1 (im0003 (archive.zip: im0003.jpg is damaged))",
        "image ids that occur more than once: 1 (im0003)",
        "labelled keypoints outside their image: 2 (im0002 right_ankle, im0002 right_hip)",
        "torsos shorter than 5 px: 1 (im0003)",
    ]


def test_images_are_only_decoded_if_asked():
    assert inspect_source(FourPeople(), LSP14).undecodable is None


def test_a_sound_source_has_no_problems():
    people = FourPeople()
    people.annotations = people.annotations[:1]
    assert inspect_source(people, LSP14, decode=True).problems == []


def test_a_source_without_labels_is_refused():
    people = FourPeople()
    people.annotations = [people.person("im0001", np.full((14, 2), NAN))]
    with pytest.raises(DataError, match=r"1 annotations and no labelled keypoint; choose another"):
        inspect_source(people, LSP14)


def test_the_rendering_shows_counts_and_problems():
    console = Console(file=io.StringIO(), width=100)
    console.print(render(inspect_source(FourPeople(), LSP14, decode=True)))
    text = console.file.getvalue()
    assert "3 (75.0%)" in text
    assert "100 / 100 / 300" in text
    assert "3 of 4" in text
    assert all(name in text for name in LSP14.keypoints)
    assert "torsos shorter than 5 px: 1 (im0003)" in text


def test_a_torso_that_nobody_has_is_said():
    people = FourPeople()
    people.annotations = people.annotations[3:]
    found = inspect_source(people, LSP14)
    assert found.torso_px is None
    console = Console(file=io.StringIO(), width=100)
    console.print(render(found))
    assert "none labelled" in console.file.getvalue()
    assert "no problems" in console.file.getvalue()


def test_near_duplicates_are_pairs_of_different_ids():
    text = resources.files("convpose.data").joinpath("duplicates.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert rows[0] == ["image_a", "image_b"]
    pairs = {frozenset(row) for row in rows[1:]}
    assert len(pairs) == len(rows) - 1
    assert all(len(pair) == 2 for pair in pairs)
    assert {"im00265", "im02354"} in pairs  # inside LSPET
    assert {"im0371", "im1622"} in pairs  # LSP, training and test half
    assert {"im1659", "im00408"} in pairs  # LSP's test half and LSPET


@pytest.mark.archive
def test_the_real_lspet_is_described(lspet):
    found = inspect_source(lspet, LSP14)
    assert found.images == {"lspet": 10000}
    assert found.complete == 3945
    assert found.fewest == 4
    assert found.without_torso == 1705
    assert found.width_px == PixelRange(51, 252, 1723)
    assert len(found.outside) == 5  # of the 8 outside 0 … W, 3 lie within half a pixel
    assert found.degenerate == ("im00620", "im02628")
    assert found.repeated == ()


@pytest.mark.archive
def test_every_real_lsp_image_decodes_and_is_known(lsp, lspet):
    assert inspect_source(lsp, LSP14, decode=True).undecodable == ()
    ids = {a.image_id for source in (lsp, lspet) for a in source.annotations}
    text = resources.files("convpose.data").joinpath("duplicates.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert {image_id for row in rows[1:] for image_id in row} <= ids
