"""Every kind of picture file becomes upright RGB or one clear error."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_network import dot
from PIL import ExifTags, GifImagePlugin, Image

from convpose.errors import DataError
from convpose.geometry import transform
from convpose.predict import images
from convpose.predict.images import Picture, decode

ORIENTATION = ExifTags.Base.Orientation


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 12, width: int = 20) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


TURNED = {  # of an image: where EXIF's orientations say that it lies as it was taken
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_rotation_is_applied_once(kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = decode(encoded(noise(), kind, exif=exif, **options))
    upright = TURNED[orientation](np.asarray(noise()))
    assert np.array_equal(picture.image, upright)
    assert picture.size_px == upright.shape[1::-1]
    assert np.array_equal(picture.to_px, np.eye(2, 3))


def test_broken_exif_is_no_reason_to_refuse_the_pixels():
    content = encoded(noise(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode(content).image.shape == (12, 20, 3)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("1", 1, (255, 255, 255)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
    ],
)
@pytest.mark.parametrize("size", [(5, 4), (1, 1)])
def test_grey_and_transparency(mode, colour, expected, size):
    picture = decode(encoded(Image.new(mode, size, colour)))
    assert picture.image.shape == (*size[::-1], 3)
    assert picture.size_px == size
    assert (picture.image == expected).all()


def test_a_palette_with_a_transparent_colour_lies_on_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 200, 255, 0, 0])
    image.putpixel((1, 2), 1)
    picture = decode(encoded(image, transparency=0))
    assert tuple(picture.image[2, 1]) == (255, 0, 0)
    assert tuple(picture.image[0, 0]) == (255, 255, 255)


def test_cmyk():
    picture = decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert np.abs(picture.image.astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_upper_bits(kind):
    levels = np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16)
    picture = decode(encoded(Image.fromarray(levels), kind))
    assert picture.image[0].tolist() == [[v, v, v] for v in (0, 0, 1, 128, 255)]


def test_sixteen_bit_colour():
    bgr = np.full((3, 3, 3), (0x1000, 0x2000, 0xF0FF), np.uint16)
    picture = decode(cv2.imencode(".png", bgr)[1].tobytes())
    assert (picture.image == (0xF0, 0x20, 0x10)).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_huge_picture_is_decoded_smaller_and_keeps_its_pixels(kind, orientation, monkeypatch):
    monkeypatch.setattr(images, "DECODED_PX", 10_000)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    # 641 × 479 is 30 times as much, and no factor divides it
    picture = decode(encoded(Image.fromarray(dot(641, 479, (500, 120), 24)), kind, exif=exif))
    height, width = picture.image.shape[:2]
    assert height * width <= 10_000
    assert picture.size_px == ((641, 479) if orientation == 1 else (479, 641))
    y, x = np.nonzero(picture.image[..., 0] > 128)
    found = transform(picture.to_px, np.array([[x.mean(), y.mean()]]))[0]
    upright = (500, 120) if orientation == 1 else (479 - 1 - 120, 500)
    assert np.abs(found - upright).max() < picture.to_px[0, 0], "a pixel of the smaller picture"


def peak_memory_mib() -> int:
    """The most memory that this process has held since the peak was reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the peak")
def test_a_hundred_megapixels_in_bounded_memory(tmp_path):
    path = tmp_path / "huge.jpg"
    Image.new("RGB", (10_000, 10_000), (90, 90, 90)).save(path)
    Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is held now
    before = peak_memory_mib()
    picture = decode(path)
    assert picture.image.shape == (5000, 5000, 3)
    assert picture.size_px == (10_000, 10_000)
    assert peak_memory_mib() - before < 280, "a whole decode takes more than 380"


def test_of_an_animation_the_first_frame_with_a_note():
    first, second = Image.new("RGB", (6, 5), (255, 0, 0)), Image.new("RGB", (6, 5), (0, 0, 255))
    content = encoded(first, "GIF", save_all=True, append_images=[second, first])
    picture = decode(content, "dance.gif")
    assert tuple(picture.image[0, 0]) == (255, 0, 0)
    assert picture.note == "dance.gif: only the first of its frames is used"


def test_the_frames_of_an_animation_are_not_counted(monkeypatch):
    """To count those of a GIF all are decoded: 8 s for a million and a half."""
    frames = [Image.new("L", (1, 1), 255 * (i % 2)) for i in range(50)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    seen = []
    seek = GifImagePlugin.GifImageFile._seek
    monkeypatch.setattr(
        GifImagePlugin.GifImageFile, "_seek", lambda f, n, *a: seen.append(n) or seek(f, n, *a)
    )
    assert decode(content, "many.gif").note == "many.gif: only the first of its frames is used"
    assert max(seen) <= 1


def test_a_phone_photograph_with_a_second_picture_needs_no_note():
    content = encoded(noise(16, 16), "MPO", save_all=True, append_images=[noise(16, 16)])
    assert decode(content).note is None


def claims(width: int, height: int) -> bytes:
    """A PNG whose header lies about its size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + encoded(Image.new("1", (1, 1)))[33:]


BROKEN = {
    "empty": (b"", "not an image that can be read; save it as JPEG, PNG"),
    "text": (b"hello", "not an image that can be read"),
    "half a PNG": (encoded(noise())[:-40], "a broken image (image file is truncated); get it"),
    "half a JPEG": (encoded(noise(99, 99), "JPEG")[:3000], "a broken image (image file is trunc"),
    "a bomb": (claims(20_000, 20_000), "too many pixels to decode safely; save it smaller"),
    "floats": (encoded(Image.new("F", (3, 3), 0.5), "TIFF"), "32-bit pixels, of which nobody"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_picture_is_one_error_with_its_name(what):
    content, message = BROKEN[what]
    with pytest.raises(DataError) as error:
        decode(content, "some.jpg")
    assert str(error.value).startswith(f"some.jpg: {message}")


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.jpg: no such file"):
        decode(tmp_path / "none.jpg")


def test_a_file_reads_as_its_bytes_do(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(noise()))
    assert np.array_equal(decode(Path(path)).image, np.asarray(noise()))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        "photo.jpg",
    ],
)
def test_an_array_of_another_kind_is_refused(image):
    with pytest.raises(DataError, match=r"an image is an array \(H, W, 3\) uint8 RGB, got"):
        Picture.of(image)
