import itertools
import tracemalloc

import cv2
import numpy as np
import pytest

from demo.faces import View
from facefare.biometrics.errors import SourceError
from facefare.biometrics.frames import open_source
from facefare.client import ApiError, AttemptReply, Unreachable
from facefare.identification.calibration import Calibration
from facefare.identification.errors import CalibrationError, TemplateOutOfRange
from facefare.terminal import gate as gate_module
from facefare.terminal.approach import Approach, Lane
from facefare.terminal.codes import Offer
from facefare.terminal.fares import FixedFare, Price
from facefare.terminal.gate import NOT_LIVE, ONE_AT_A_TIME, UNREADABLE_FRAME, Gate
from facefare.terminal.screen import State

EMPTY = np.full((480, 640, 3), 90, np.uint8)
ACCEPTED = AttemptReply("accepted", None, 280, "EUR", "pi_1", "rcp_1")


class Desk:
    """A gate whose wallet says what the test wants, and what it showed and did."""

    def __init__(self, pipeline, reply=ACCEPTED, codes=None):
        self.reply = reply
        self.asked, self.shown, self.attempts = [], [], []
        self.gate = Gate(
            Approach(pipeline, Lane()), self._ask, self, FixedFare(280, "EUR"), self.attempts.append, codes
        )

    def _ask(self, probe):
        self.asked.append(probe)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def show(self, shown):
        self.shown.append(shown)

    @property
    def reply_opens(self):
        return self.attempts[0].outcome in ("accepted", "already_paid")

    @property
    def states(self):
        return [state for state, _ in itertools.groupby(self.shown, lambda shown: shown.state)]


@pytest.fixture(scope="module")
def walk(collins):
    return collins.walk_up(3)


@pytest.fixture
def desk(pipeline):
    return Desk(pipeline)


def test_one_walk_is_one_attempt_and_the_amount_is_shown_before_it(desk, walk):
    desk.gate.run([EMPTY, *walk, *walk, EMPTY])
    assert len(desk.asked) == len(desk.attempts) == 1
    assert desk.attempts[0].outcome == "accepted"
    assert desk.states == [State.IDLE, State.LOOK_HERE, State.WAIT, State.ACCEPTED, State.IDLE]
    assert all((shown.amount, shown.currency) == (280, "EUR") for shown in desk.shown)


def test_after_an_empty_lane_the_next_person_gets_an_attempt(desk, hopper, walk):
    desk.gate.run([*walk, EMPTY, *hopper.walk_up(4), EMPTY])
    assert len(desk.asked) == 2
    assert desk.asked[0].vector @ desk.asked[1].vector < 0.95


def test_while_somebody_stands_there_after_the_answer_no_frame_is_held(desk, walk):
    desk.gate.run(walk + walk)
    assert desk.gate._approach._views == []


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (ApiError(503, "identification-unavailable", "A guardian is away."), State.USE_CARD),
        (Unreachable("No answer."), State.NO_NETWORK),
        (TemplateOutOfRange("The template is unlike any face's; take the pictures again."), State.USE_CARD),
        (CalibrationError("The template is of another model."), State.USE_CARD),
        (AttemptReply("use_card", "several_match", 280, "EUR", "pi_1", None), State.SEVERAL),
        (AttemptReply("confirmation_required", "second_factor", 280, "EUR", "pi_1", None), State.USE_CARD),
    ],
)
def test_who_cannot_be_searched_or_has_to_be_asked_more_uses_the_card(pipeline, failure, state, walk):
    desk = Desk(pipeline, failure)
    desk.gate.run(walk)
    assert not desk.reply_opens
    assert desk.states[-1] is state


def test_a_photo_is_asked_for_the_card_and_never_searched(desk, collins, monkeypatch):
    monkeypatch.setattr(gate_module, "PATIENCE", 0.0)
    desk.gate.run([collins.view(View(), seed) for seed in range(6)])
    assert desk.asked == []
    assert [(attempt.outcome, attempt.reason) for attempt in desk.attempts] == [("use_card", NOT_LIVE)]


def test_a_broken_frame_is_skipped_calmly(desk, walk):
    first, *rest = walk
    desk.gate.run([first, np.zeros((480, 640), np.uint8), np.zeros((2, 2, 3), np.uint8), *rest])
    assert UNREADABLE_FRAME in [shown.hint for shown in desk.shown]
    assert desk.attempts[0].outcome == "accepted"


def test_two_people_side_by_side_are_asked_to_come_one_by_one(desk, collins, hopper):
    both = np.hstack([collins.view(View())[:, 170:490], hopper.view(View())[:, 170:490]])
    desk.gate.run([both, both, both])
    assert ONE_AT_A_TIME in [shown.hint for shown in desk.shown]
    assert desk.attempts == []


@pytest.mark.parametrize("name", ["_detector", "_mesher", "_embedder"])
def test_a_network_that_gives_no_numbers_opens_no_gate(desk, pipeline, monkeypatch, name, walk):
    network = getattr(pipeline, name)._network
    honest = network._session

    class Broken:
        def run(self, *arguments):
            return [np.full_like(output, np.nan) for output in honest.run(*arguments)]

    monkeypatch.setattr(network, "_session", Broken())
    desk.gate.run(walk)
    assert desk.asked == []
    assert all(attempt.outcome == "use_card" for attempt in desk.attempts)


def test_a_video_that_ends_ends_the_gate_without_an_error(desk, tmp_path, walk):
    file = tmp_path / "walk.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10, (640, 480))
    for frame in walk:
        writer.write(frame)
    writer.release()
    with open_source(file) as frames:
        desk.gate.run(frames)
    assert desk.attempts[0].outcome == "accepted"


def test_memory_does_not_grow_with_the_frames(desk, walk):
    lane = [*walk, EMPTY]

    def frames(count):
        return (lane[number % len(lane)] for number in range(count))

    desk.gate.run(frames(18))
    tracemalloc.start()
    desk.gate.run(frames(18))
    before, _ = tracemalloc.get_traced_memory()
    desk.gate.run(frames(90))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(desk.asked) == 14
    assert after - before < 300_000  # a third of a frame: the probes that this test keeps


def test_a_camera_that_disappears_ends_the_gate_with_a_sentence(desk, walk):
    def camera():
        yield from walk[:2]
        raise SourceError("Camera 0 stopped giving pictures. Check its cable, then start again.")

    with pytest.raises(SourceError, match="cable"):
        desk.gate.run(camera())
    assert desk.asked == []


def test_a_template_of_another_embedder_is_refused(pipeline):
    Calibration.default().require_model(pipeline.model_id)
    with pytest.raises(CalibrationError, match="other-embedder"):
        Calibration.default().require_model("other-embedder")


# --- the code on the screen ---


def test_the_code_is_offered_with_the_fare_and_beside_the_look_and_not_without_a_network(pipeline, code, walk):
    desk = Desk(pipeline, Unreachable("No answer."), code)

    def frames():
        for frame in [EMPTY, *walk]:
            yield frame
            desk.gate.tick()

    desk.gate.run(frames())
    offered = {shown.state: shown.code for shown in desk.shown}
    assert offered[State.IDLE] == offered[State.LOOK_HERE] == code.shown
    assert offered[State.WAIT] is offered[State.NO_NETWORK] is None
    assert code.offered == [Offer(280, Price(280, 280, "EUR"))]
    code.answering = False
    desk.gate.run([EMPTY])
    assert desk.shown[-1].code is None


def test_who_pays_by_the_code_passes_once_and_whoever_stands_there_is_not_searched(pipeline, code, walk):
    desk = Desk(pipeline, codes=code)

    def frames():
        yield EMPTY
        yield walk[0]
        code.paid = code.payment(280)
        desk.gate.tick()
        yield from walk
        desk.gate.tick()
        yield EMPTY

    desk.gate.run(frames())
    assert desk.asked == []
    assert [attempt.outcome for attempt in desk.attempts] == ["accepted"]
    assert desk.states == [State.IDLE, State.LOOK_HERE, State.ACCEPTED, State.IDLE]
    assert code.offered[-2:] == [None, code.offered[0]]


def test_whom_the_camera_does_not_see_has_time_to_pass_and_is_not_asked_for_a_look(pipeline, code, walk, monkeypatch):
    desk = Desk(pipeline, codes=code)

    def frames():
        yield EMPTY
        code.paid = code.payment(280)
        desk.gate.tick()
        yield EMPTY
        yield from walk
        assert desk.shown[-1].state is State.ACCEPTED
        monkeypatch.setattr(desk.gate, "_open_until", 0.0)
        yield EMPTY
        yield from walk

    desk.gate.run(frames())
    assert [attempt.outcome for attempt in desk.attempts] == ["accepted"] * 2
    assert len(desk.asked) == 1


def test_of_a_look_and_a_code_paid_at_once_one_opens(pipeline, code, walk):
    desk = Desk(pipeline, codes=code)

    def paid_meanwhile(probe):
        code.paid = code.payment(280)
        desk.gate.tick()
        return ACCEPTED

    desk.gate._ask = paid_meanwhile
    desk.gate.run([EMPTY, *walk])
    desk.gate.tick()
    assert [attempt.outcome for attempt in desk.attempts] == ["accepted"]
    assert (desk.states[-1], code.offered[-1], code.paid) == (State.ACCEPTED, None, None)


def test_after_a_look_that_opened_nothing_the_code_still_does(pipeline, code, walk):
    desk = Desk(pipeline, AttemptReply("use_card", "not_recognised", 280, "EUR", "pi_1", None), code)
    desk.gate.run([EMPTY, *walk])
    assert (desk.shown[-1].state, desk.shown[-1].code) == (State.USE_CARD, code.shown)
    code.paid = code.payment(280, before=True)
    desk.gate.tick()
    assert [attempt.outcome for attempt in desk.attempts] == ["use_card", "already_paid"]
    desk.gate.run([*walk])
    assert len(desk.asked) == 1
