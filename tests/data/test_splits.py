"""Splits are the ones they are said to be, and no photo is on two sides."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fake_source import annotation

from convpose.data.splits import SUBSETS, duplicate_pairs, make_split
from convpose.errors import ConfigError, DataError


def people(count, dataset="lspet"):
    digits = 4 if dataset == "lsp" else 5
    point = [[1.0, 2.0]]
    return [
        annotation(point, image_id=f"im{i + 1:0{digits}d}", dataset=dataset) for i in range(count)
    ]


@pytest.fixture(scope="module")
def lspet_people():
    return people(10_000)


@pytest.fixture(scope="module")
def lsp_people():
    return people(2000, "lsp")


def held_apart(split):
    """True if no training image is a near-duplicate of a validation or test image."""
    train, held_out = set(split["train"]), {*split["val"], *split["test"]}
    return not any({a, b} & train and {a, b} & held_out for a, b in duplicate_pairs())


def check_paper_split(split, ids):
    order = np.random.default_rng(0).permutation(10_000)
    assert split["val"] == [ids[i] for i in order[7000:8500]]
    assert split["test"] == [ids[i] for i in order[8500:]]
    first = [ids[i] for i in order[:7000]]
    staying = set(split["train"])
    assert split["train"] == [i for i in first if i in staying]  # in the order of the permutation
    assert sizes(split) == [6977, 1500, 1500]
    twins = {image_id for pair in duplicate_pairs() for image_id in pair}
    assert set(first) - staying <= twins
    assert held_apart(split)


class TestPaper:
    def test_lspet_is_split_as_the_paper_says(self, lspet_people):
        split = make_split("paper", lspet_people)
        check_paper_split(split, [a.image_id for a in lspet_people])
        train = set(split["train"])
        assert any(set(pair) <= train for pair in duplicate_pairs())  # duplicates on one side stay
        assert make_split("seeded", lspet_people) == split

    def test_the_smallest_that_can_be_split_has_six_images(self):
        assert sizes(make_split("paper", people(6))) == [4, 1, 1]

    @pytest.mark.archive
    def test_the_real_lspet(self, lspet):
        ids = [f"im{i:05d}" for i in range(1, 10_001)]
        assert [a.image_id for a in lspet.annotations] == ids
        check_paper_split(make_split("paper", lspet.annotations), ids)


class TestLsp:
    def test_lsp_and_lspet(self, lsp_people, lspet_people):
        split = make_split("lsp", [*lsp_people, *lspet_people])
        assert split["test"] == [f"im{i}" for i in range(1001, 2001)]
        drawn = np.random.default_rng(0).permutation(1000)[:200]
        assert split["val"] == [f"im{i + 1:04d}" for i in sorted(drawn)]
        assert split["val"] == make_split("lsp", lsp_people)["val"]
        assert held_apart(split)
        everybody = {a.image_id for a in [*lsp_people, *lspet_people]}
        missing = everybody - {i for subset in SUBSETS for i in split[subset]}
        assert missing <= {i for pair in duplicate_pairs() for i in pair}
        assert 0 < len(missing) < 20
        assert sum(len(i) == 7 for i in split["train"]) > 9_990

    @pytest.mark.archive
    def test_the_real_lsp_and_lspet(self, lsp, lspet):
        split = make_split("lsp", [*lsp.annotations, *lspet.annotations])
        assert split["test"] == [f"im{i}" for i in range(1001, 2001)]
        assert len(split["val"]) == 200
        assert held_apart(split)
        known = {a.image_id for source in (lsp, lspet) for a in source.annotations}
        assert {image_id for pair in duplicate_pairs() for image_id in pair} <= known

    def test_lsp_paper_joins_both_protocols(self, lsp_people, lspet_people):
        both = make_split("lsp_paper", [*lsp_people, *lspet_people])
        lsp = make_split("lsp", lsp_people)
        paper = make_split("paper", lspet_people)
        for subset in ("val", "test"):
            assert both[subset] == lsp[subset] + paper[subset]
        assert {*both["train"]} <= {*lsp["train"], *paper["train"]}
        assert held_apart(both)


def test_the_near_duplicates_are_pairs_of_real_ids():
    pairs = duplicate_pairs()
    kinds = sorted((len(a), len(b)) for a, b in pairs)
    assert kinds == [(6, 6)] * 18 + [(6, 7)] * 3 + [(7, 7)] * 42  # LSP, both, LSPET
    names = {f"im{i:04d}" for i in range(1, 2001)} | {f"im{i:05d}" for i in range(1, 10_001)}
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert all({a, b} <= names and a != b for a, b in pairs)
    known = {("im00265", "im02354"), ("im0371", "im1622"), ("im1659", "im00408")}  # seen by eye
    assert known <= set(pairs)


class TestFile:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "splits.json"

    def write(self, path, **subsets):
        path.write_text(json.dumps(subsets))
        return str(path)

    def test_a_run_s_split_comes_back(self, path, lspet_people):
        split = make_split("paper", lspet_people)
        assert make_split(self.write(path, **split), lspet_people) == split

    def test_its_order_and_choice_are_kept(self, path):
        name = self.write(path, train=["im00003", "im00001"], val=["im00002"], test=["im00009"])
        split = make_split(name, people(9))
        assert split == {"train": ["im00003", "im00001"], "val": ["im00002"], "test": ["im00009"]}

    def test_near_duplicates_leave_its_training_subset_too(self, path, lspet_people):
        a, b = next(pair for pair in duplicate_pairs() if len(pair[0]) == 7)
        name = self.write(path, train=[a, "im00500"], val=[b], test=["im00501"])
        assert make_split(name, lspet_people)["train"] == ["im00500"]


def crowd(photos, people_each=3, dataset="coco", subset=None):
    """People of photographs, several each; ids tell the photograph."""
    return [
        replace(
            annotation([[1.0, 2.0]], image_id=f"{dataset}{subset}{n}_{i}", dataset=dataset),
            file=f"{subset}/{n}.jpg",
            subset=subset,
        )
        for n in range(photos)
        for i in range(people_each)
    ]


def photos_of(ids):
    return {image_id.partition("_")[0] for image_id in ids}


def sizes(split):
    return [len(split[subset]) for subset in SUBSETS]


class TestSeeded:
    def test_people_of_a_photograph_stay_together(self):
        split = make_split("seeded", crowd(20))
        assert sizes(split) == [42, 9, 9]
        photos = [photos_of(split[subset]) for subset in SUBSETS]
        assert [len(names) for names in photos] == [14, 3, 3]
        order = np.random.default_rng(0).permutation(20)
        assert photos[1] == {f"cocoNone{n}" for n in order[14:17]}

    def test_photographs_of_two_data_sets_are_not_mixed_up(self):
        both = [*crowd(10), *crowd(10, dataset="mpii")]
        assert sum(sizes(make_split("seeded", both))) == 60
        assert sizes(make_split("seeded", both)) == [42, 9, 9]

    def test_hr_lspet_is_on_the_side_of_lspet(self, lspet_people):
        """So that a network of the one is not tested on its training people in the other."""
        some = [replace(a, dataset="hr_lspet") for a in lspet_people if int(a.image_id[2:]) % 7]
        high, low = make_split("paper", some), make_split("paper", lspet_people)
        known = {a.image_id for a in some}
        for subset in ("val", "test"):
            assert high[subset] == [i for i in low[subset] if i in known]
        assert not set(high["train"]) & {*low["val"], *low["test"]}
        assert sum(sizes(high)) == pytest.approx(len(some), abs=25)  # near-duplicates left


class TestOfficial:
    def test_of_two_subsets_the_second_is_the_test(self):
        for held_out in ("val", "test"):
            people_ = [*crowd(20, subset="train"), *crowd(4, subset=held_out)]
            split = make_split("official", people_)
            assert split["test"] == [a.image_id for a in people_ if a.subset == held_out]
            assert sizes(split) == [54, 6, 12]
            assert not photos_of(split["train"]) & photos_of(split["val"])
            drawn = np.random.default_rng(0).permutation(20)[:2]
            assert photos_of(split["val"]) == {f"cocotrain{n}" for n in drawn}

    def test_three_subsets_are_taken_as_they_are(self):
        people_ = [a for subset in SUBSETS for a in crowd(3, subset=subset)]
        split = make_split("official", people_)
        for subset in SUBSETS:
            assert split[subset] == [a.image_id for a in people_ if a.subset == subset]

    def test_a_data_set_without_a_test_just_trains(self):
        mpii = crowd(10, dataset="mpii", subset="train")
        coco = [*crowd(20, subset="train"), *crowd(4, subset="val")]
        split = make_split("official", [*mpii, *coco])
        assert len(split["test"]) == 12
        assert {a.image_id for a in mpii} <= {*split["train"], *split["val"]}


def named(*names):
    point = [[1.0, 2.0]]
    return [replace(annotation(point, image_id=n, dataset="mine"), file=n) for n in names]


class TestGrouped:
    @pytest.mark.parametrize("form", ["v{}_{:04d}.jpg", "v{}/frame{:03d}.png", "v{}-{}.jpg"])
    def test_photographs_of_a_video_stay_together(self, form):
        names = [form.format(video, j) for video in "abcdefghij" for j in range(9)]
        split = make_split("grouped", named(*names))
        videos = [{name[:2] for name in split[subset]} for subset in SUBSETS]
        assert [len(some) for some in videos] == [7, 1, 2]
        assert sum(map(len, videos)) == len(set.union(*videos))
        assert sum(sizes(split)) == 90

    @pytest.mark.parametrize("form", ["IMG_{:04d}.jpg", "{:03d}.png", "{}a.jpg"])
    def test_names_that_tell_no_video_are_split_as_by_seeded(self, form):
        people = named(*map(form.format, range(40)))
        assert make_split("grouped", people) == make_split("seeded", people)


def test_official_is_seeded_where_no_maker_has_named_a_subset():
    assert make_split("official", crowd(20)) == make_split("seeded", crowd(20))


def test_the_whole_is_in_every_subset():
    ids = [a.image_id for a in crowd(2)]
    assert make_split("whole", crowd(2)) == dict.fromkeys(SUBSETS, ids)


IDS = {"train": ["im00001"], "val": ["im00002"], "test": ["im00003"]}
EMPTY = r": the {} subset is empty for {} images of {}; .*"


@pytest.mark.parametrize(
    ("name", "annotations", "message"),
    [
        ("coco", people(9), r": unknown split; type data\.split=pap"),
        ("paper", people(5), EMPTY.format("val", 5, "lspet") + "at least 6 images"),
        ("paper", [], r": the train and val and test subset is empty for 0 images of no data set"),
        ("lsp", people(9), EMPTY.format("val and test", 9, "lspet") + "the split lsp needs LSP"),
        ("official", crowd(20, subset="train"), EMPTY.format("test", 60, "coco") + "makers name"),
        ("official", crowd(20, subset="val"), EMPTY.format("train and val", 60, "coco")),
        (
            "lsp",
            crowd(20),
            EMPTY.format("val and test", 60, "coco")
            + r"type data\.split=seeded, or data\.split=whole to evaluate on everybody",
        ),
    ],
)
def test_a_name_that_cannot_split_these_data(name, annotations, message):
    with pytest.raises(ConfigError, match=rf"^data\.split={name}{message}"):
        make_split(name, annotations)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"No such file .*; expected \{\"train\""),
        ("a folder", "Is a directory; expected"),
        ({**IDS, "val": []}, "the val subset is empty for 9 images"),
        (b"{", r"not a JSON file \(.*\); expected"),
        (b"\xff\xfe", r"not a JSON file \(.*\); expected"),
        ([], r"not a split; expected \{\"train\""),
        ({**IDS, "test": 3}, "not a split; expected"),
        ({**IDS, "train": ["im9"], "val": ["im8"]}, "2 ids are not in the data, the first is im8;"),
        ({**IDS, "test": ["im00001"]}, "im00001 is listed twice; each id belongs to one subset"),
    ],
)
def test_a_file_that_is_no_split_of_these_data(tmp_path, content, message):
    path = tmp_path / "splits.json"
    if content == "a folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises((ConfigError, DataError), match=rf"splits\.json: {message}"):
        make_split(str(path), people(9))
