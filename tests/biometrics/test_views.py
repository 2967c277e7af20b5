from dataclasses import replace

import numpy as np
import pytest

from demo.faces import View as Seen
from facefare.biometrics import HeadPose
from facefare.biometrics.views import View, most_different


@pytest.fixture(scope="module")
def faces(pipeline, collins):
    frame = collins.view(Seen())
    face = pipeline.observe(frame)

    def make(yaw, sharpness):
        quality = replace(face.quality, sharpness=sharpness)
        return View(frame, replace(face, pose=HeadPose(yaw, 0, 0), quality=quality))

    return make


def test_the_sharpest_view_comes_first_and_then_the_most_different(faces):
    views = [faces(yaw, sharpness) for yaw, sharpness in ((0, 0.1), (1, 0.2), (2, 0.1), (-12, 0.1), (11, 0.1))]
    chosen = most_different(views, 3)
    assert chosen == [views[1], views[3], views[4]]


def test_equal_views_are_each_chosen_once(faces):
    views = [faces(0, 0.1) for _ in range(4)]
    assert len({id(view) for view in most_different(views, 4)}) == 4


def test_more_views_than_there_are_cannot_be_chosen(faces):
    with pytest.raises(ValueError, match="3 views"):
        most_different([faces(0, 0.1)], 3)


def test_a_view_does_not_print_what_it_holds(faces):
    assert "[" not in repr(faces(0, 0.1))
    assert isinstance(faces(0, 0.1).frame, np.ndarray)
