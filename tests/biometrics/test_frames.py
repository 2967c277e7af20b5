import cv2
import numpy as np
import pytest

from demo.faces import save
from facefare.biometrics.errors import BrokenImageError, SourceError
from facefare.biometrics.frames import open_source


def grey_frames(count):
    return [np.full((64, 80, 3), 40 * number + 20, dtype=np.uint8) for number in range(count)]


def test_a_folder_gives_its_pictures_in_order_and_ends(tmp_path):
    save(grey_frames(5), tmp_path)
    (tmp_path / "notes.txt").write_text("not a picture")
    with open_source(tmp_path) as frames:
        assert [int(frame[0, 0, 0]) for frame in frames] == [20, 60, 100, 140, 180]


def test_a_video_gives_its_frames_in_order_and_ends(tmp_path):
    file = tmp_path / "walk.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 64))
    for frame in grey_frames(5):
        writer.write(frame)
    writer.release()
    with open_source(file) as frames:
        levels = [float(frame.mean()) for frame in frames]
    assert levels == pytest.approx([20, 60, 100, 140, 180], abs=4)


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_nothing_to_read_is_an_error_that_says_so(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError), open_source(tmp_path / name):
        pass


def test_a_file_that_is_no_video_is_an_error(tmp_path):
    file = tmp_path / "noise.mp4"
    file.write_bytes(bytes(1000))
    with pytest.raises(SourceError, match="no video"), open_source(file):
        pass


def test_a_camera_that_is_not_there_is_an_error():
    with pytest.raises(SourceError, match="Camera 97"), open_source(97):
        pass


def test_a_camera_that_disappears_is_an_error_and_is_released(monkeypatch):
    class Camera:
        left = 2
        released = False

        def isOpened(self):
            return True

        def read(self):
            self.left -= 1
            return (True, np.zeros((64, 80, 3), np.uint8)) if self.left >= 0 else (False, None)

        def release(self):
            self.released = True

    camera = Camera()
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: camera)
    seen = []
    with pytest.raises(SourceError, match="stopped"), open_source(0) as frames:
        seen.extend(frames)  # grows until the error
    assert len(seen) == 2
    assert camera.released


def test_a_broken_picture_in_a_folder_is_an_error(tmp_path):
    save(grey_frames(1), tmp_path)
    (tmp_path / "001.png").write_bytes(b"broken")
    with open_source(tmp_path) as frames:
        next(frames)
        with pytest.raises(BrokenImageError):
            next(frames)
