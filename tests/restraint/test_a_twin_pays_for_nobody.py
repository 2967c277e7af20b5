"""Real guardians, the wallet on a real database: people who look alike enrol, and a face alone pays for neither."""

import numpy as np
import pytest
from three_guardians import LIVE, STATION, TERMINAL, synthetic_templates

from facefare.audit.entries import Entry
from facefare.audit.log import read_frames
from facefare.client import PayerClient, StationClient, TerminalClient


class Site:
    """A wallet in front of the three guardians, a station and a till."""

    def __init__(self, trio, http):
        self.trio, self.http = trio, http

    def enrol(self, template):
        """A payer with a PIN, and whether the station heard "done"."""
        payer, _ = PayerClient.register(self.http, "EUR")
        payer.top_up(1000, "first")
        payer.set_pin("2468")
        _, consent = payer.consent("1")
        request = self.trio.enrol_request(
            template, gallery=LIVE, station=STATION, key=self.trio.keys[STATION], consent_sha256=consent
        )
        return payer, StationClient(self.http).enrol(request.to_bytes())

    def look(self, template):
        search = self.trio.search_request(template, gallery=LIVE).to_bytes()
        return self.till.attempt(amount=1, currency="EUR", search=search)

    @property
    def till(self):
        return TerminalClient(self.http, TERMINAL, self.trio.keys[TERMINAL])


@pytest.fixture
def site(trio, wallet):
    with wallet("Till 1", "till") as http:
        yield Site(trio, http)


def between(one, other, share):
    """A template `share` of the way from one to the other."""
    return ((1 - share) * one + share * other).astype(np.float32)


def test_twins_are_found_at_the_station_and_only_a_pin_tells_them_apart(site):
    one, far = synthetic_templates(2, seed=4711)
    twin = between(one, far, 0.35)  # within the threshold of one
    ada, done = site.enrol(one)
    assert done
    ben, done = site.enrol(twin)
    assert not done
    assert [payer.account().faces[0].lookalike for payer in (ada, ben)] == [True, True]

    away = between(one, far, -0.35)  # Ada on a day when she looks least like her twin
    reply = site.look(away)
    assert (reply.outcome, reply.reason) == ("confirmation_required", "second_factor")
    assert [payer.account().available for payer in (ada, ben)] == [1000, 1000]
    assert site.till.confirm(reply.payment_intent, "2468").outcome == "accepted"
    assert [payer.account().available for payer in (ada, ben)] == [999, 1000]

    reply = site.look(between(one, twin, 0.5))  # like both: no PIN may choose
    assert (reply.outcome, reply.reason) == ("use_card", "several_match")


def test_one_face_under_two_accounts_pays_for_neither_until_both_accounts_say_so(site):
    face, stranger = synthetic_templates(2, seed=4712)
    old, _ = site.enrol(face)
    new, done = site.enrol(face)
    assert not done
    assert site.look(face).reason == "several_match"
    third, done = site.enrol(face)
    assert not done
    assert third.account().faces == ()

    word = old.give_up_face()
    assert site.look(face).outcome == "confirmation_required"
    new.same_person(word)
    assert site.look(face).outcome == "accepted"
    assert (old.account().available, new.account().available) == (1000, 999)
    assert site.enrol(stranger)[1]


def test_each_comparison_is_in_the_guardians_public_logs_under_the_stations_name(site, trio):
    (face,) = synthetic_templates(1, seed=4713)
    site.enrol(face)
    for index in range(3):
        with (trio.folder(index) / "log" / "entries").open("rb") as file:
            last = [Entry.from_bytes(data) for data in read_frames(file)][-2:]
        assert [(entry.terminal, entry.purpose) for entry in last] == [(STATION, "enrolment"), (STATION, "enrolled")]
