"""Drawings of people, as pictures, as clips and in a window."""

import resource

import av
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from some_people import frame, person

from convpose.errors import ConfigError
from convpose.plot.skeletons import COLOURED
from convpose.predict import drawing
from convpose.predict.drawing import (
    Drawings,
    ScreenWindow,
    VideoFile,
    draw_people,
    person_style,
)
from convpose.predict.images import Picture
from convpose.predict.sources import Frame
from convpose.skeleton import LSP14

HIP = LSP14.index("right_hip")  # a joint, drawn over limbs, that no box touches


def at(image, point):
    x, y = np.rint(point).astype(int)
    return tuple(image[y, x].tolist())


def sure(x=50.0, y=60.0, **facts):
    return person(x, y, score=1.0, **facts)


@pytest.mark.parametrize("facts", [{}, {"box_px": None}, {"box_px": None, "track": 1}])
def test_one_alone_has_the_colours_of_left_and_right(facts):
    before = frame()
    image = draw_people(before, [sure(**facts)], LSP14)
    assert at(image, sure().keypoints_px[HIP]) == COLOURED.right
    assert at(image, (30, 40)) == (90, 90, 90), "no box"
    assert (before.picture.image == 90).all(), "the frame is not drawn on"


def test_several_have_a_colour_each_and_their_boxes():
    people = [sure(40), sure(110)]
    image = draw_people(frame(), people, LSP14)
    for number, found in enumerate(people, 1):
        style = person_style(number)
        assert at(image, found.keypoints_px[HIP]) == style.right
        assert at(image, found.box_px[:2]) == style.neutral
    assert person_style(1).right != person_style(2).right


def test_a_number_keeps_its_colour_and_is_written():
    plain = draw_people(frame(), [sure(40), sure(110)], LSP14)
    numbered = draw_people(frame(), [sure(110, track=2)], LSP14)
    assert at(numbered, sure(110).keypoints_px[HIP]) == person_style(2).right
    corner = np.s_[40:52, 90:100]
    label = (numbered[corner] == person_style(2).right).all(axis=-1).mean()
    assert label > 0.3 > (plain[corner] == person_style(2).right).all(axis=-1).mean()


def test_neighbouring_numbers_look_different():
    colours = np.array([person_style(n).neutral for n in range(1, 9)], float)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=-1)
    assert apart[~np.eye(8, dtype=bool)].min() > 60


def test_nobody_is_the_picture_itself():
    before = frame()
    image = draw_people(before, [], LSP14)
    assert np.array_equal(image, before.picture.image)
    assert not np.shares_memory(image, before.picture.image)


def test_a_reduced_picture_is_drawn_in_its_size():
    small = np.zeros((60, 80, 3), np.uint8)
    picture = Picture(small, np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]]), (160, 120))
    image = draw_people(Frame("a.jpg", picture), [sure()], LSP14)
    assert image.shape == (60, 80, 3)
    assert at(image, sure().keypoints_px[HIP] / 2 - 0.25) == COLOURED.right


def test_far_away_people_do_no_harm():
    image = draw_people(frame(), [sure(1e7), sure(-1e7, track=3)], LSP14)
    assert image.shape == (120, 160, 3)


def test_stills_keep_their_kind_or_become_png(tmp_path):
    drawings = Drawings(tmp_path / "new")
    image = np.full((5, 7, 3), 200, np.uint8)
    names = ("x/a (1).jpg", "y/a (1).jpg", "b.bmp", "b.png", "https://host/c.webp?d=1", "stdin")
    for name in names:
        drawings.write(frame(name), image)
    drawings.close()
    found = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert found == [
        *("a (1)_pose.jpg", "a (1)_pose_2.jpg", "b_pose.png", "b_pose_2.png"),
        *("c_pose.webp", "stdin_pose.png"),
    ]
    for name, kind in (("a (1)_pose.jpg", "JPEG"), ("b_pose.png", "PNG"), ("c_pose.webp", "WEBP")):
        with Image.open(tmp_path / "new" / name) as file:
            assert (file.format, file.size) == (kind, (7, 5))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_a_drawing_that_the_disk_cuts_off_is_not_taken_for_whole(name, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            Drawings(tmp_path).write(frame(name), noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def read(path):
    with av.open(path) as file:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in file.decode(video=0)]


def test_a_clip_becomes_a_clip_and_the_next_one_another(tmp_path):
    drawings = Drawings(tmp_path)
    for name in ("one.avi", "two.mov"):
        for i, time_s in enumerate((0.0, 0.5, 0.6)):
            image = np.full((48, 64, 3), 60 * i, np.uint8)
            drawings.write(frame(name, index=i, time_s=time_s), image)
    drawings.write(frame("three.png"), image)
    drawings.close()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"one_pose.mp4", "two_pose.mp4", "three_pose.png"}
    times, images = zip(*read(tmp_path / "one_pose.mp4"), strict=True)
    assert times == pytest.approx([0.0, 0.5, 0.6], abs=1e-3)
    assert [round(image.mean() / 60) for image in images] == [0, 1, 2]


def test_a_clip_that_is_not_complete_leaves_nothing(tmp_path):
    drawings = Drawings(tmp_path)
    drawings.write(frame("one.avi", time_s=0.0), np.zeros((48, 64, 3), np.uint8))
    drawings.close(complete=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("size", "even"), [((65, 49), (64, 48)), ((1, 1), (2, 2))])
def test_odd_sizes(size, even, tmp_path):
    video = VideoFile(tmp_path / "a.mp4", *size)
    for i in range(2):
        video.write(np.zeros((size[1], size[0], 3), np.uint8), i / 10)
    video.close()
    shapes = {image.shape for _, image in read(tmp_path / "a.mp4")}
    assert shapes == {(even[1], even[0], 3)}


def test_times_that_stand_still_or_go_back_and_sizes_that_change(tmp_path):
    video = VideoFile(tmp_path / "a.mp4", 64, 48)
    for time_s, size in ((0.0, (48, 64)), (0.0, (20, 30)), (1.0, (99, 99)), (0.5, (48, 64))):
        video.write(np.full((*size, 3), 255, np.uint8), time_s)
    video.close()
    times, images = zip(*read(tmp_path / "a.mp4"), strict=True)
    assert len(times) == 4
    assert list(times) == sorted(set(times))
    assert images[1][40, 60].max() < 20 < 200 < images[1][10, 10].min()


def test_without_a_display(monkeypatch):
    monkeypatch.setattr(plt, "get_backend", lambda: "agg")
    with pytest.raises(ConfigError) as error:
        ScreenWindow()
    assert str(error.value).startswith("show=true: no window can be opened here")
    assert "leave show out" in str(error.value)


@pytest.fixture
def screen(monkeypatch):
    """A toolkit that shows nothing: every pause with what the figure would show."""
    shown = []
    monkeypatch.setattr(plt, "get_backend", lambda: "TkAgg")
    monkeypatch.setattr(plt, "pause", lambda seconds: shown.append((seconds, picture())))

    def picture():
        (axes,) = plt.gcf().axes
        return np.asarray(axes.images[0].get_array())

    with plt.rc_context():
        plt.switch_backend("agg")
        yield shown
        plt.close("all")


def test_images_are_shown_one_after_the_other(screen):
    display = ScreenWindow()
    images = [
        np.full(shape, i * 20, np.uint8) for i, shape in enumerate([(4, 6, 3)] * 2 + [(8, 5, 3)])
    ]
    assert display.show(images[0], still=True)
    assert display.show(images[1], still=False)
    assert display.show(images[2], still=False)
    assert [seconds for seconds, _ in screen] == [drawing.STILL_S, 0.001, 0.001]
    assert all(np.array_equal(image, seen) for image, (_, seen) in zip(images, screen, strict=True))
    display.close()
    assert not plt.get_fignums()


def test_a_closed_window_ends_it(screen):
    display = ScreenWindow()
    plt.close("all")
    assert not display.show(np.zeros((4, 6, 3), np.uint8), still=False)
