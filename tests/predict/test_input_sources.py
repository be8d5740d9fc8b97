"""Frames of what source= names: files, folders, globs, clips, cameras, URLs, standard input."""

import io
import struct
import sys
from dataclasses import replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import ClassVar

import av
import numpy as np
import pytest
from fake_network import RedDot, dot
from fake_rtsp import camera
from PIL import Image

from convpose.data.reading.images import READS_HEIF
from convpose.errors import ConfigError, DataError
from convpose.geometry import transform
from convpose.predict import sources
from convpose.predict.drawing import VideoFile, draw_people
from convpose.predict.images import Limits
from convpose.predict.predictor import PosePredictor
from convpose.predict.sources import Failure, Frame, base_name, open_sources, read_clip, read_frames
from convpose.skeleton import LSP14


def png(colour=(9, 8, 7)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_clip(path: Path, times=(0.0, 0.1, 0.4), size=(64, 48)) -> Path:
    """A clip whose dot moves 10 px to the right from frame to frame."""
    video = VideoFile(path, *size)
    for i, time_s in enumerate(times):
        video.write(dot(*size, (10 + 10 * i, 20)), time_s)
    video.close()
    return path


def names(found) -> list[str]:
    return [Path(source.name).name for source in found]


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG.png", ".hidden.png", "deep/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png())
    (tmp_path / "notes.txt").write_text("no picture")
    write_clip(tmp_path / "clip.MP4")
    return tmp_path


def test_a_folder_gives_its_pictures_and_clips_in_order(folder):
    found = open_sources(folder)
    assert names(found) == ["a.JPG.png", "b.png", "clip.MP4"]
    assert [source.clip for source in found] == [False, False, True]
    assert [source.length for source in found] == [1, 1, 3]


def test_a_glob(folder):
    assert names(open_sources(f"{folder}/*.png")) == ["a.JPG.png", "b.png"]
    assert names(open_sources(f"{folder}/**/*.png")) == ["a.JPG.png", "b.png", "c.png"]


@pytest.mark.parametrize("name", ["ph [2024]", "[ab]", "x*y", "what?"])
def test_a_pattern_below_a_folder_whose_name_looks_like_one(name, tmp_path):
    (tmp_path / name / "deep [1]").mkdir(parents=True)
    for file in ("a.png", "b.png", "deep [1]/c.png"):
        (tmp_path / name / file).write_bytes(png())
    there = tmp_path / name
    assert names(open_sources(f"{there}/*.png")) == ["a.png", "b.png"]
    assert names(open_sources(f"{there}/**/*.png")) == ["a.png", "b.png", "c.png"]
    assert names(open_sources(f"{there}/[b].png")) == ["b.png"]
    assert names(open_sources(f"{there}/deep [1]/?.png")) == ["c.png"]


def test_what_is_passed_over_in_a_folder_is_counted(tmp_path):
    for name in ("a.jfif", "b.JPE", "c.3GP", "d.mts", "e.m2ts", "f.ogv", "g.jp2", "h.jpg"):
        (tmp_path / name).write_bytes(png())
    found = open_sources(tmp_path)
    assert len(found) == 8
    assert [source.note for source in found] == [None] * 8
    for name in ("i.XYZ", "j.xyz", "README", ".hidden", "k.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.d").mkdir()
    note = f"{tmp_path}: 4 files passed over: 2 .xyz, 1 without ending, 1 .txt"
    assert [source.note for source in open_sources(tmp_path)] == [note] + [None] * 7
    (tmp_path / "heic").mkdir()
    (tmp_path / "heic" / "a.HEIC").write_bytes(b"")
    if not READS_HEIF:
        with pytest.raises(
            ConfigError, match=r"\n.*1 file passed over: 1 \.heic; pip install pill"
        ):
            open_sources(tmp_path / "heic")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.3gp", "3gp"), ("a.mts", "mpegts"), ("a.m2ts", "mpegts"), ("a.ogv", "ogg")],
)
def test_clips_of_cameras_are_read(name, kind, tmp_path):
    with av.open(tmp_path / name, "w", format=kind) as file:
        codec = {"ogg": "libvpx", "3gp": "mpeg4"}.get(kind, "mpeg2video")
        stream = file.add_stream(codec, rate=25, width=64, height=48)
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(dot(64, 48, (20, 30)), format="rgb24")
        file.mux([*stream.encode(frame), *stream.encode(None)])
    (source,) = open_sources(tmp_path)
    assert source.clip
    (frame,) = read_frames([source])
    assert frame.picture.size_px == (64, 48)


@pytest.mark.parametrize("name", ["clip", "clip.dat", "clip.jpg", "clip.mp4.bak"])
def test_what_is_no_picture_is_tried_as_a_clip(name, tmp_path):
    write_clip(tmp_path / "clip.mp4").rename(tmp_path / name)
    assert [f.index for f in read_frames(open_sources(tmp_path / name))] == [0, 1, 2]


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"avif"])
def test_a_picture_in_the_container_of_a_clip_is_none(brand, tmp_path, monkeypatch):
    """Its tiles would be taken for frames."""
    monkeypatch.setattr(sources, "read_clip", None)
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(99))
    (failure,) = read_frames(open_sources(path))
    assert "image" in failure.message
    assert READS_HEIF or "pip install pillow-heif" in failure.message


def test_one_file(folder):
    (source,) = open_sources(str(folder / "b.png"))
    (frame,) = read_frames([source])
    assert (frame.index, frame.time_s, frame.picture.size_px) == (0, None, (6, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("none.jpg", r"source=none\.jpg: no such file; type a file, a folder, a pattern"),
        ("*.jpg", r"source=\*\.jpg: no such file"),
        ("[x]/*.jpg", r"source=\[x\]/\*\.jpg: no such file"),
        (".", r"source=\.: the folder holds no picture and no clip; type source='\./\*\*/\*\.jpg'"),
    ],
)
def test_nothing_there_is_said_before_anything_starts(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        open_sources(text)


def test_one_broken_file_among_many_is_a_failure_in_its_place(folder):
    (folder / "az.jpg").write_bytes(b"no picture")
    found = list(read_frames(open_sources(f"{folder}/*.[pj]*g")))
    assert [type(item) for item in found] == [Frame, Failure, Frame]
    assert found[1].name == str(folder / "az.jpg")
    assert found[1].message.startswith(f"{folder / 'az.jpg'}: not an image")


def test_frames_are_read_when_they_are_asked_for(folder):
    found = read_frames(open_sources(f"{folder}/*.png"))
    next(found)
    (folder / "b.png").unlink()
    assert "no such file" in next(found).message


def test_a_clip_keeps_its_times(tmp_path):
    found = list(read_frames(open_sources(write_clip(tmp_path / "clip.mp4"))))
    assert [frame.index for frame in found] == [0, 1, 2]
    assert [frame.time_s for frame in found] == pytest.approx([0.0, 0.1, 0.4], abs=1e-3)
    for i, frame in enumerate(found):
        _, x = np.nonzero(frame.picture.image[..., 0] > 128)
        assert abs(x.mean() - (10 + 10 * i)) < 1


MATRICES = {  # a, b, c, d: the pixel (x, y) is shown towards (a·x + c·y, b·x + d·y)
    "as stored": (1, 0, 0, 1),
    "mirrored": (-1, 0, 0, 1),
    "upside down and mirrored": (1, 0, 0, -1),
    "upside down": (-1, 0, 0, -1),
    "clockwise": (0, 1, -1, 0),
    "anticlockwise": (0, -1, 1, 0),
    "transposed": (0, 1, 1, 0),
    "transposed across": (0, -1, -1, 0),
    "nearly mirrored": (-0.9, 0.3, -0.3, 0.9),
}


def with_matrix(path: Path, matrix) -> Path:
    """Write a display matrix into the track header of a clip."""
    content = path.read_bytes()
    straight = b"\0\1\0\0" + bytes(12) + b"\0\1\0\0" + bytes(12) + b"\x40\0\0\0"
    a, b, c, d = (round(65536 * value).to_bytes(4, "big", signed=True) for value in matrix)
    start = content.index(straight, content.index(b"tkhd"))
    shown = a + b + bytes(4) + c + d + bytes(12) + b"\x40\0\0\0"
    path.write_bytes(content[:start] + shown + content[start + len(straight) :])
    return path


@pytest.mark.parametrize("name", MATRICES)
def test_a_clip_is_shown_as_its_display_matrix_says(name, tmp_path):
    matrix = MATRICES[name]
    path = with_matrix(write_clip(tmp_path / "clip.mp4"), matrix)
    first = next(read_frames(open_sources(path))).picture
    a, b, c, d = np.rint(matrix)  # the nearest of the eight
    corners = np.array([(a * x + c * y, b * x + d * y) for x in (0, 63) for y in (0, 47)])
    expected = np.array([a * 10 + c * 20, b * 10 + d * 20]) - corners.min(axis=0)
    assert first.size_px == tuple(np.ptp(corners, axis=0) + 1)
    y, x = np.nonzero(first.image[..., 0] > 128)
    assert abs(x.mean() - expected[0]) < 1
    assert abs(y.mean() - expected[1]) < 1


def write_wide_clip(path: Path, ratio: Fraction, size=(64, 48)) -> Path:
    """A clip whose pixels are not square, with a dot at (20, 30)."""
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=25, width=size[0], height=size[1])
        stream.pix_fmt, stream.codec_context.sample_aspect_ratio = "yuv420p", ratio
        frame = av.VideoFrame.from_ndarray(dot(*size, (20, 30)), format="rgb24")
        file.mux([*stream.encode(frame), *stream.encode(None)])
    return path


@pytest.mark.parametrize(
    ("ratio", "matrix", "shown", "size", "at_shown", "at"),
    [
        (Fraction(2), (1, 0, 0, 1), (128, 48), (64, 48), (40.5, 30), (20, 30)),
        (Fraction(1, 2), (1, 0, 0, 1), (64, 96), (64, 48), (20, 60.5), (20, 30)),
        (Fraction(4, 3), (1, 0, 0, 1), (85, 48), (64, 48), (26.7, 30), (20, 30)),
        (Fraction(2), (0, 1, -1, 0), (48, 128), (48, 64), (17, 40.5), (17, 20)),  # turned
        (Fraction(500), (1, 0, 0, 1), (64, 48), (64, 48), (20, 30), (20, 30)),  # nonsense
    ],
)
def test_pixels_that_are_not_square_are_seen_in_the_shape_that_is_shown(
    ratio, matrix, shown, size, at_shown, at, tmp_path
):
    path = with_matrix(write_wide_clip(tmp_path / "clip.mp4", ratio), matrix)
    (frame,) = read_frames(open_sources(path))
    picture = frame.picture
    assert picture.image.shape == (*shown[::-1], 3)
    assert picture.size_px == size
    y, x = np.nonzero(picture.image[..., 0] > 128)
    centre = np.array([x.mean(), y.mean()])
    assert np.abs(centre - at_shown).max() < 0.7
    assert np.abs(transform(picture.to_px, centre) - at).max() < 0.7
    box = np.array([[at[0] - 9, at[1] - 9, at[0] + 9, at[1] + 9]], float)
    for given in (None, box):  # a dot that is found in its crop is told in pixels of the file
        people = PosePredictor(RedDot(), looks=1).predict_pictures([picture], [given])[0]
        assert np.abs(people[0].keypoints_px - at).max() < 1.5
    drawn = draw_people(frame, people, LSP14)
    assert drawn.shape == picture.image.shape


@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(1, 2)])
def test_crops_are_square_in_the_shape_that_is_shown(ratio, tmp_path):
    """A circle that is stored as an ellipse is a circle to the network."""
    (frame,) = read_frames(open_sources(write_wide_clip(tmp_path / "clip.mp4", ratio)))
    picture = frame.picture
    circle = np.full_like(picture.image, 0)
    y, x = np.mgrid[: circle.shape[0], : circle.shape[1]]
    centre = transform(picture.to_px, np.array([circle.shape[1] / 2, circle.shape[0] / 2]))
    circle[(x - circle.shape[1] / 2) ** 2 + (y - circle.shape[0] / 2) ** 2 < 100, 0] = 255
    seen = []

    class Watched(RedDot):
        def __call__(self, crops):
            seen.extend(crops)
            return super().__call__(crops)

    box = np.array([*(centre - 8), *(centre + 8)])
    for given in (None, box[None]):
        PosePredictor(Watched(), looks=1).predict_pictures(
            [replace(picture, image=circle)], [given]
        )
    for crop in seen:
        rows, columns = np.nonzero(crop[0] > 128)
        assert abs(np.ptp(rows) - np.ptp(columns)) <= 2


def test_a_camera_that_speaks_rtsp():
    with camera(dot(96, 64)) as url:
        (source,) = open_sources(url)
        assert source.live
        frames = read_frames([source])
        found = [next(frames) for _ in range(20)]
        frames.close()
    assert [frame.index for frame in found] == list(range(20))
    assert {frame.name for frame in found} == {url.replace("me:secret@", "")}, "no password"
    assert np.abs(found[-1].picture.image.astype(int) - dot(96, 64)).mean() < 8


def written_clip(path, change):
    """A clip of 40 frames with its tables in front, its bytes changed."""
    rng = np.random.default_rng(0)
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as clip:
        clip.metadata["title"] = "TITLE"
        stream = clip.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(40):
            pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        clip.mux(stream.encode())
    path.write_bytes(change(path.read_bytes()))
    return list(read_frames(open_sources(path)))


def trimmed(content):
    """As a telephone trims a clip: 1.5 of its 4 s are shown, from 1 s on."""
    content = bytearray(content)
    for box, at, values in (
        ("mvhd", 20, (1500,)),
        ("tkhd", 24, (1500,)),
        ("elst", 12, (1500, 10240)),
    ):
        struct.pack_into(f">{len(values)}I", content, content.index(box.encode()) + at, *values)
    return bytes(content)


@pytest.mark.parametrize(
    ("change", "frames", "message"),
    [
        (bytes, 40, None),
        (lambda content: content.replace(b"TITLE", b"\xba\xffTLE"), 40, None),
        (
            lambda content: content.replace(b"V_MPEG4/ISO/ASP", b"V_OTHER/ISO/ASP"),
            0,
            "not a video that can be read: an unknown codec; get it again",
        ),
        (
            lambda content: content[: len(content) * 6 // 10],
            19,
            "broken after 19 of 40 frames; get it again",
        ),
        (trimmed, 15, None),
    ],
    ids=["whole", "title", "codec", "cut", "trimmed"],
)
def test_clips_of_other_hands(change, frames, message, tmp_path):
    """A cut download ends without an error of FFmpeg; a trimmed clip has fewer frames, rightly."""
    path = tmp_path / ("a.mp4" if frames else "a.mkv")
    found = written_clip(path, change)
    good = [frame for frame in found if isinstance(frame, Frame)]
    failures = [frame.message for frame in found if not isinstance(frame, Frame)]
    assert len(failures) == (message is not None), failures
    if message:
        assert failures[0].startswith(f"{path}: {message}")
    assert len(good) == frames


def test_a_clip_that_breaks_off_gives_what_there_is(tmp_path):
    path = tmp_path / "long.mp4"
    rng = np.random.default_rng(0)
    video = VideoFile(path, 64, 48)
    for i in range(30):
        video.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), i / 30)
    video.close()
    content = bytearray(path.read_bytes())
    data = content.index(b"mdat") + len(content) // 3
    content[data : data + len(content) // 3] = bytes(len(content) // 3)
    path.write_bytes(content)
    *good, last = read_frames(open_sources(path))
    assert 0 < len(good) < 30
    assert all(isinstance(frame, Frame) for frame in good)
    assert last.message.startswith(f"{path}: broken after {len(good)} frames (")


@pytest.mark.parametrize("content", [b"", b"no video at all" * 99])
def test_what_is_no_clip(content, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    (source,) = open_sources(path)
    assert source.length is None
    (failure,) = read_frames([source])
    assert failure.message.startswith(f"{path}: not a video that can be read (")
    assert failure.message.endswith("get it again or save it as .mp4")


def test_a_sound_is_no_clip(tmp_path):
    path = tmp_path / "song.ts"
    with av.open(path, "w") as file:
        stream = file.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.rate = 8000
        file.mux([*stream.encode(silence), *stream.encode(None)])
    with pytest.raises(DataError, match=r"song\.ts: holds no video; expected a clip"):
        next(read_clip(path, "song.ts"))


def write_avi(path: Path, *sizes: tuple[int, int]) -> Path:
    """A clip whose frames are PNG files of these sizes; its header has the first one."""
    with av.open(path, "w") as file:
        stream = file.add_stream("png", rate=25, width=sizes[0][0], height=sizes[0][1])
        stream.pix_fmt = "rgb24"
        for i, size in enumerate(sizes):
            buffer = io.BytesIO()
            Image.new("RGB", size).save(buffer, "PNG")
            packet = av.Packet(buffer.getvalue())
            packet.stream, packet.pts, packet.dts = stream, i, i
            packet.is_keyframe = True
            file.mux(packet)
    return path


SMALL = Limits(megapixels=0.01, seconds=0.3, file_mb=1)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        (
            "a.mp4",
            lambda p: write_clip(p, size=(160, 120)),
            "160 × 120 are 0 megapixels, more",
        ),
        (
            "a.avi",
            lambda p: write_avi(p, (160, 120)),
            "more than the 0.01 megapixels of max_m",
        ),
        ("a.png", lambda p: Image.new("L", (160, 120)).save(p), "the 0.01 of max_megapixels; save"),
        ("a.gif", lambda p: Image.new("L", (160, 120)).save(p), "the 0.01 of max_megapixels; save"),
        ("a.mp4", lambda p: write_clip(p, (0, 0.2, 0.9)), "longer than the 0.3 s of max_seconds"),
        ("a.mp4", lambda p: p.write_bytes(bytes(2**21)), "2 MiB, more than the 1 of max_file_mb"),
        ("a.jpg", lambda p: p.write_bytes(bytes(2**21)), "2 MiB, more than the 1 of max_file_mb"),
        ("a.mp4", lambda p: p.write_text("ffconcat version 1.0\nfile a.mp4\n"), "not a video that"),
        (
            "a.mp4",
            lambda p: p.write_text("#EXTM3U\n#EXTINF:1,\na.mp4\n"),
            "not a video that can",
        ),
        ("a.png", lambda p: p.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%EOF\n"), "not an image that"),
    ],
)
def test_what_is_over_a_limit_is_refused_before_it_is_decoded(name, write, message, tmp_path):
    path = tmp_path / name
    write(path)
    (failure,) = read_frames(open_sources(path, SMALL))
    assert failure.message.startswith(f"{path}: ")
    assert message in failure.message


def test_a_frame_that_is_larger_than_the_header_says_is_not_decoded(tmp_path):
    path = write_avi(tmp_path / "grows.avi", (64, 48), (64, 48), (640, 480))
    *good, last = read_frames(open_sources(path, SMALL))
    assert {frame.picture.size_px for frame in good} == {(64, 48)}
    assert last.message.startswith(f"{path}: broken after {len(good)} frames (")
    (*three,) = read_frames(open_sources(path))
    assert three[-1].picture.size_px == (640, 480)


@pytest.mark.parametrize("name", ["a:b.mp4", "concat:a.mp4", "-a.mp4", "a b%20.mp4"])
def test_a_name_of_a_clip_is_no_address(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(Path(name))
    assert len(list(read_frames(open_sources(name)))) == 3


def from_stdin(content: bytes, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    return list(read_frames(open_sources("-")))


def test_a_picture_and_a_clip_from_standard_input(tmp_path, monkeypatch):
    (frame,) = from_stdin(png((1, 2, 3)), monkeypatch)
    assert (frame.name, frame.time_s) == ("stdin", None)
    assert tuple(frame.picture.image[0, 0]) == (1, 2, 3)
    content = write_clip(tmp_path / "clip.mp4").read_bytes()
    assert [frame.index for frame in from_stdin(content, monkeypatch)] == [0, 1, 2]


def test_something_else_from_standard_input(monkeypatch):
    (failure,) = from_stdin(b"hello", monkeypatch)
    assert failure.message.startswith("stdin: not an image that can be read")
    monkeypatch.setattr(sources, "LARGEST_BYTES", 1 << 20)
    (failure,) = from_stdin(bytes((1 << 20) + 1), monkeypatch)
    assert failure.message == "stdin: more than 1 MiB; save it as a file first"


class Web(BaseHTTPRequestHandler):
    clips: ClassVar = {}  # path: kind, content

    def do_GET(self):
        if self.path in self.clips:
            kind, content = self.clips[self.path]
            self.protocol_version, self.close_connection = "HTTP/1.1", True
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if kind == "video/mp2t":  # a stream comes in pieces and has no length
                self.send_header("Transfer-Encoding", "chunked")
                content = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
            else:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        content = {"/a%20b.png": png((4, 5, 6)), "/page": b"<html>"}.get(self.path)
        self.send_response(404 if content is None and self.path != "/short.png" else 200)
        content = content or b"\x89PNG"
        self.send_header("Content-Length", str(len(content) + 99 * (self.path == "/short.png")))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(monkeypatch):
    """The URL of a server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/live", "video/mp2t"),
        ("/clip", "video/mp4"),  # its table is behind its frames: downloaded
        ("/clip.mp4", "application/octet-stream"),
        ("/clip", "application/octet-stream"),
    ],
)
def test_a_clip_and_a_stream_from_a_url(path, kind, site, tmp_path, monkeypatch):
    file = write_clip(tmp_path / "clip.mp4")
    if kind == "video/mp2t":
        with av.open(tmp_path / "clip.ts", "w") as out:
            stream = out.add_stream("mpeg2video", rate=25, width=64, height=48)
            stream.pix_fmt = "yuv420p"
            noise = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
            for i, image in enumerate(noise):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = i
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        file = tmp_path / "clip.ts"
    monkeypatch.setattr(Web, "clips", {path: (kind, file.read_bytes())})
    found = list(read_frames(open_sources(f"{site}{path}")))
    assert [frame.index for frame in found] == [0, 1, 2]
    assert found[0].name == f"{site}{path}"


@pytest.mark.parametrize("kind", ["rtsp", "rtmp", "srt"])
def test_the_url_of_a_camera_is_opened_as_a_stream(kind):
    (source,) = open_sources(f"{kind}://me:secret@127.0.0.1:9/front")
    assert (source.name, source.clip, source.live) == (f"{kind}://127.0.0.1:9/front", True, True)
    assert base_name(source.name) == "front"
    (failure,) = read_frames([source])  # nobody answers
    assert failure.message.startswith(f"{kind}://127.0.0.1:9/front: not a video that can be read (")
    assert "secret" not in failure.message


def test_a_stream_leads_to_no_file_of_this_machine(site, tmp_path, monkeypatch):
    playlist = f"#EXTM3U\n#EXTINF:1,\nfile://{write_clip(tmp_path / 'clip.mp4')}\n".encode()
    monkeypatch.setattr(Web, "clips", {"/a.m3u8": ("application/vnd.apple.mpegurl", playlist)})
    (failure,) = read_frames(open_sources(f"{site}/a.m3u8"))
    assert "can be read" in failure.message


def test_a_picture_from_a_url(site):
    (frame,) = read_frames(open_sources(f"{site}/a%20b.png"))
    assert tuple(frame.picture.image[0, 0]) == (4, 5, 6)
    assert base_name(frame.name) == "a b.png"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("{site}/page", "not an image that can be read"),
        ("{site}/none.png", "could not be fetched (404"),
        ("{site}/short.png", "broke off ("),
        ("http://127.0.0.1:9/a.png", "could not be fetched ("),  # nobody answers
    ],
)
def test_a_url_without_a_picture(url, message, site):
    (failure,) = read_frames(open_sources(url.format(site=site)))
    assert failure.message.startswith(f"{url.format(site=site)}: {message}")


class FakeCamera:
    """cv2.VideoCapture of a camera that sends two pictures and is unplugged."""

    opened: ClassVar[list["FakeCamera"]] = []

    def __init__(self, index):
        self.index, self.sent, self.released = index, 0, False
        FakeCamera.opened.append(self)

    def isOpened(self):  # noqa: N802, OpenCV's name
        return self.index < 2

    def read(self):
        self.sent += 1
        return self.sent <= 2, np.full((4, 6, 3), (255, 10, 0), np.uint8)  # BGR

    def release(self):
        self.released = True


def test_a_webcam(monkeypatch):
    monkeypatch.setattr("cv2.VideoCapture", FakeCamera)
    (source,) = open_sources("1")
    assert (source.live, source.clip, source.length) == (True, True, None)
    first, second, failure = read_frames([source])
    assert (first.name, first.index, second.index) == ("webcam 1", 0, 1)
    assert tuple(first.picture.image[0, 0]) == (0, 10, 255)
    assert 0 <= first.time_s <= second.time_s
    assert failure.message == "webcam 1: sends no pictures any more; plug it in again"
    assert FakeCamera.opened[-1].released


def test_a_webcam_that_is_not_there(monkeypatch):
    monkeypatch.setattr("cv2.VideoCapture", FakeCamera)
    with pytest.raises(ConfigError, match="source=2: no camera with that number; type source=1"):
        next(read_frames(open_sources(2)))
    assert FakeCamera.opened[-1].released
