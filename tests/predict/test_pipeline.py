"""Frames in, files out: in batches, with failures aside, and with a good end when interrupted."""

import json
from functools import partial

import numpy as np
import pytest
from fake_network import NearSighted, RedDot, dot, on_diagonal
from some_people import person

from convpose.errors import DataError, ModelError
from convpose.predict.clips import ClipSmoother, OneEuro
from convpose.predict.drawing import Drawings
from convpose.predict.images import Picture
from convpose.predict.pipeline import HELD_PX, Outputs, batches, run
from convpose.predict.predictor import PosePredictor
from convpose.predict.sources import Failure, Frame, Source, read_frames
from convpose.predict.writers import open_keypoints
from convpose.skeleton import LSP14


def still(name, image=None):
    return Source(name, lambda: iter([Frame(name, Picture.of(dot() if image is None else image))]))


def broken(name):
    def read():
        raise DataError(f"{name}: a broken image")
        yield

    return Source(name, read)


def clip(name, count=6, live=False, end=None):
    def read():
        for i in range(count):
            picture = Picture.of(dot(at_px=(60 + 4 * i, 40)))
            yield Frame(name, picture, i, i / 30)
        if end is not None:
            raise end

    return Source(name, read, count, clip=True, live=live)


def outputs(folder, window=None, draw=True):
    drawings = Drawings(folder) if draw else None
    return Outputs(LSP14, open_keypoints("json", folder, LSP14), drawings, window)


def predicted(folder, *sources, clips=None, batch_size=16, max_frames=None, **options):
    predictor = PosePredictor(RedDot(), batch_size=batch_size)
    clips = clips or ClipSmoother()
    return run(sources, predictor, outputs(folder, **options), clips, max_frames=max_frames)


def content(folder):
    return json.loads((folder / "keypoints.json").read_text())["frames"]


def test_one_broken_file_among_many(tmp_path):
    sources = still("a.png"), broken("b.png"), still("c.png"), still("d.png")
    summary = predicted(tmp_path, *sources)
    assert (summary.inputs, summary.frames, summary.people) == (4, 3, 3)
    assert summary.failures == [Failure("b.png", "b.png: a broken image")]
    assert [frame["image"] for frame in content(tmp_path)] == ["a.png", "c.png", "d.png"]
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {"a_pose.png", "c_pose.png", "d_pose.png"}


def test_nothing_but_broken_files_leaves_nothing(tmp_path):
    summary = run(
        [broken("a"), broken("b")], PosePredictor(RedDot()), outputs(tmp_path), ClipSmoother()
    )
    assert (summary.frames, len(summary.failures)) == (0, 2)
    assert not list(tmp_path.iterdir())


def test_a_clip_that_breaks_off_keeps_its_beginning(tmp_path):
    torn = clip("a.mp4", 3, end=DataError("a.mp4: broken after 3 frames"))
    summary = predicted(tmp_path, torn, still("b.png"))
    assert [f.message for f in summary.failures] == ["a.mp4: broken after 3 frames"]
    assert [frame["frame"] for frame in content(tmp_path)] == [0, 1, 2, 0]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"keypoints.json", "a_pose.mp4", "b_pose.png"}


def test_without_drawings(tmp_path):
    predicted(tmp_path, still("a.png"), draw=False)
    assert [path.name for path in tmp_path.iterdir()] == ["keypoints.json"]


def test_max_frames(tmp_path):
    assert predicted(tmp_path, clip("a.mp4"), clip("b.mp4"), max_frames=8).frames == 8
    assert [frame["frame"] for frame in content(tmp_path)] == [*range(6), 0, 1]


@pytest.mark.parametrize("live", [True, False])
def test_ctrl_c_keeps_what_is_done(live, tmp_path):
    source = clip("webcam 0", 5, live, KeyboardInterrupt())
    if live:
        assert predicted(tmp_path, source, batch_size=2).frames == 5, "it is how a webcam is ended"
    else:
        with pytest.raises(KeyboardInterrupt):
            predicted(tmp_path, source, batch_size=2)
    assert [frame["frame"] for frame in content(tmp_path)] == list(range(5 if live else 4))
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "error",
    [ModelError("NaN"), OSError(28, "No space left on device"), MemoryError(), SystemExit(143)],
)
def test_what_was_found_before_an_error_stays(error, tmp_path):
    torn = clip("a.mp4", 5, end=None), Source("b", lambda: raising(error))
    with pytest.raises(type(error)):
        predicted(tmp_path, *torn, batch_size=2)
    assert [frame["frame"] for frame in content(tmp_path)] == list(range(4))
    assert {path.name for path in tmp_path.iterdir()} == {"keypoints.json", "a_pose.mp4"}


def raising(error):
    raise error
    yield


def test_a_disk_that_is_full_for_drawings_keeps_the_keypoints(tmp_path, monkeypatch):
    def full(self, image, time_s):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("convpose.predict.drawing.VideoFile.write", full)
    with pytest.raises(OSError, match="No space left"):
        predicted(tmp_path, still("a.png"), clip("b.mp4"))
    assert [frame["image"] for frame in content(tmp_path)] == ["a.png", "b.mp4"]
    assert not list(tmp_path.glob("*.part"))


def test_an_error_before_the_first_frame_leaves_nothing(tmp_path):
    source = clip("a.mp4", 0, end=RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        predicted(tmp_path, source, batch_size=2)
    assert not list(tmp_path.iterdir())


def test_closing_the_window_ends_it(tmp_path):
    class FakeWindow:
        seen = 0

        def show(self, image, still):
            assert image.shape == (120, 160, 3)
            self.seen += 1
            return self.seen < 3

        def close(self):
            self.closed = True

    window = FakeWindow()
    summary = predicted(tmp_path, clip("webcam 0", 99, live=True), window=window)
    assert (summary.frames, window.closed) == (3, True)
    assert len(content(tmp_path)) == 3


def test_the_one_person_of_a_clip_has_a_number_and_is_smoothed(tmp_path):
    raw, smooth = tmp_path / "raw", tmp_path / "smooth"
    filtered = ClipSmoother(None, partial(OneEuro, beta=0.0))
    for folder, clips in ((raw, ClipSmoother()), (smooth, filtered)):
        predicted(folder, clip("a.mp4"), clip("b.mp4"), clips=clips)
    first = [frame["people"][0] for frame in content(smooth)]
    assert {found["id"] for found in first} == {1}
    x = np.array([found["keypoints_px"][0][0] for found in first])
    x_raw = np.array([frame["people"][0]["keypoints_px"][0][0] for frame in content(raw)])
    assert (x[1:6] < x_raw[1:6] - 1).all(), "a filter lags"
    assert x[6] == x_raw[6], "another clip starts anew"


def test_a_clip_costs_one_look_a_frame_while_its_person_is_there(tmp_path):
    def moving(name, places):
        pictures = [Picture.of(dot(160, 120, at, 18)) for at in places]
        return Source(
            name, lambda: (Frame(name, p, i, i / 30) for i, p in enumerate(pictures)), clip=True
        )

    places = [(60, 50), (64, 50), (68, 52), (130, 90), (134, 90)]  # it jumps once
    sources = still("a.png"), moving("b.mp4", places), moving("c.mp4", places[3:])
    runtime = NearSighted()
    run(sources, PosePredictor(runtime, batch_size=4), outputs(tmp_path), ClipSmoother())
    # dot() is too small for a box; then the first frame, two that follow, and the jump: lost;
    # six parts of the still, in which others may be
    assert runtime.batches == [1, *(1, 1), 1, 1, *(4, 2), *(1, 1, 1), 1, *(1, 1), 1]
    for frame, at in zip(content(tmp_path)[1:], [*places, *places[3:]], strict=True):
        found = np.array(frame["people"][0]["keypoints_px"])
        assert np.abs(found - on_diagonal(at, 18)).max() < 4


def test_a_still_is_neither_numbered_nor_smoothed():
    clips = ClipSmoother(None, OneEuro)
    frame = next(still("a.png").read())
    (found,) = clips(frame, [person(box_px=None)])
    assert found.track is None


def test_each_clip_gets_a_tracker_of_its_own_and_numbers_of_a_file_stay():
    made = []

    def new_tracker():
        made.append(0)
        return lambda people, time_s: people

    clips = ClipSmoother(new_tracker)
    for name in ("a.mp4", "b.mp4"):
        for frame in clip(name).read():
            clips(frame, [person()])
    assert len(made) == 2
    frame = next(clip("c.mp4").read())
    assert [p.track for p in clips(frame, [person(track=7)])] == [7]
    assert len(made) == 2


def test_batches_are_bounded_by_pixels_as_well():
    small = [next(still(str(i)).read()) for i in range(5)]
    assert [len(batch) for batch in batches(iter(small), 2)] == [2, 2, 1]
    huge = Frame("h", Picture.of(np.zeros((10_000, HELD_PX // 10_000, 3), np.uint8)))
    mixed = [small[0], huge, Failure("x", "x"), small[1], small[2]]
    assert [len(batch) for batch in batches(iter(mixed), 3)] == [2, 3]


def test_frames_are_not_read_ahead_of_the_batch(tmp_path):
    read = []

    def slow(name):
        def frames():
            read.append(name)
            yield Frame(name, Picture.of(dot()))

        return Source(name, frames)

    found = batches(read_frames([slow(str(i)) for i in range(6)]), 2)
    next(found)
    assert read == ["0", "1"]
