import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from facefare.biometrics import decode
from facefare.biometrics.errors import BrokenImageError, FaceError, ImageError, ImageTooLargeError
from facefare.biometrics.pictures import MAX_BYTES, checked


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def quadrants():
    """Red above left, green above right, blue below left, white below right; 64 wide, 48 high."""
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[:24, :32, 0] = pixels[:24, 32:, 1] = pixels[24:, :32, 2] = 255
    pixels[24:, 32:] = 255
    return Image.fromarray(pixels)


def assert_quadrants(frame):
    assert frame.shape == (48, 64, 3)
    for y, x, bgr in [(8, 8, (0, 0, 255)), (8, 56, (0, 255, 0)), (40, 8, (255, 0, 0)), (40, 56, (255,) * 3)]:
        assert np.abs(frame[y, x].astype(int) - bgr).max() < 30


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_every_supported_kind_decodes_to_blue_green_red(quadrants, kind):
    assert_quadrants(decode(encoded(quadrants, kind)))


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)],
)
def test_exif_rotation_is_applied(quadrants, orientation, undo):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_quadrants(decode(encoded(quadrants.transpose(undo), "JPEG", exif=exif, quality=95)))


def test_cmyk_becomes_colour(quadrants):
    assert_quadrants(decode(encoded(quadrants.convert("CMYK"), "JPEG", quality=95)))


def test_a_palette_picture_becomes_colour(quadrants):
    assert_quadrants(decode(encoded(quadrants.convert("P"), "PNG")))


def test_transparency_is_dropped(quadrants):
    assert_quadrants(decode(encoded(quadrants.convert("RGBA"), "PNG")))


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_three_equal_channels(quadrants, mode):
    frame = decode(encoded(quadrants.convert(mode), "PNG"))
    assert frame.shape == (48, 64, 3)
    assert (frame == frame[:, :, :1]).all()


def test_of_an_animation_the_first_frame_is_taken(quadrants):
    black = Image.new("RGB", quadrants.size)
    for kind in ("GIF", "PNG", "WEBP"):
        assert_quadrants(decode(encoded(quadrants, kind, save_all=True, append_images=[black] * 3)))


@pytest.mark.parametrize("data", [b"", b"\x00", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_picture_is_called_broken(data):
    with pytest.raises(BrokenImageError):
        decode(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_called_broken(astronaut, kind, share):
    data = encoded(Image.fromarray(astronaut), kind)
    with pytest.raises(BrokenImageError):
        decode(data[: int(len(data) * share)])


def test_a_corrupt_picture_is_called_broken(quadrants):
    data = bytearray(encoded(quadrants, "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(BrokenImageError):
        decode(bytes(data))


def test_a_kind_that_is_not_supported_is_called_broken(quadrants):
    with pytest.raises(BrokenImageError):
        decode(encoded(quadrants, "TIFF"))


def test_a_one_pixel_picture_is_called_broken():
    with pytest.raises(BrokenImageError, match="smaller than"):
        decode(encoded(Image.new("RGB", (1, 1)), "PNG"))


def png_header(width, height):
    """A PNG that announces a size and holds no pixels."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", body), (b"IDAT", b""), (b"IEND", b"")]
    parts = [struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(t + b)) for t, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(10_000, 10_000), (50_000, 50_000), (1, 2**31 - 1)])
def test_too_many_pixels_are_refused_before_decoding(size, monkeypatch):
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(ImageTooLargeError):
        decode(png_header(*size))


def test_too_many_bytes_are_refused_before_anything_is_looked_at():
    with pytest.raises(ImageTooLargeError):
        decode(bytes(MAX_BYTES + 1))


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((480, 640), np.uint8),
        np.zeros((480, 640, 4), np.uint8),
        np.zeros((480, 640, 3), np.float32),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((0, 640, 3), np.uint8),
    ],
)
def test_an_array_that_is_no_frame_is_called_broken(frame):
    with pytest.raises(BrokenImageError):
        checked(frame)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]),
    changes=st.lists(st.tuples(st.integers(0), st.binary(max_size=4)), max_size=8),
)
def test_bytes_that_were_tampered_with_give_a_frame_or_an_error_of_ours(quadrants, kind, changes):
    data = bytearray(encoded(quadrants, kind))
    for place, value in changes:
        at = place % len(data)
        data[at : at + len(value)] = value
    try:
        frame = decode(bytes(data))
    except ImageError:
        return
    assert frame.dtype == np.uint8
    assert frame.ndim == 3


def test_a_picture_decodes_as_opencv_decodes_it(astronaut):
    there, data = cv2.imencode(".png", astronaut)
    assert there
    assert (decode(data.tobytes()) == astronaut).all()


def test_whatever_decodes_goes_through_the_pipeline_without_another_kind_of_error(pipeline, astronaut):
    rng = np.random.default_rng(11)
    small = astronaut[:320, 60:380]
    picture = Image.fromarray(np.ascontiguousarray(small[:, :, ::-1]))
    originals = [encoded(picture, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    through = 0
    for _ in range(150):
        data = bytearray(originals[rng.integers(len(originals))])
        for _ in range(rng.integers(1, 6)):
            place = int(rng.integers(len(data)))
            data[place : place + 2] = rng.bytes(rng.integers(0, 4))
        try:
            pipeline.observe(decode(bytes(data)))
        except (ImageError, FaceError):
            continue
        through += 1
    assert through > 0


def test_a_hundred_megapixels_are_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    data = encoded(Image.new("1", (10_000, 10_000)), "PNG")
    assert len(data) < MAX_BYTES
    with pytest.raises(ImageTooLargeError, match="million"):
        decode(data)
