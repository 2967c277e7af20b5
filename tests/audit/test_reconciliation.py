"""Honest noise passes, simulated abuse is found where it can be, and the test says where it can't."""

import json
import random
import re
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from facefare.audit.commands import app
from facefare.audit.entries import entry_of_enrolment, entry_of_search
from facefare.audit.errors import BundleError
from facefare.audit.log import Log
from facefare.audit.notes import KeyKind, NoteKey
from facefare.audit.reconciliation import (
    PayerChecks,
    Search,
    Site,
    WalletWord,
    power,
    reconcile,
    search_id,
    searches_in,
    sites_from_json,
    smallest_found,
)
from facefare.audit.report import report_html

DAY = 86_400_000
START = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp() * 1000)
SITE = Site(strangers=1000, spread=0.1, uncertainty=0.05, refused=0.03)
NONE = PayerChecks()


def simulated(chance, *, days=28, site=SITE, payers=400, extra=0, terminal="trm_gate1"):
    """Searches of honest days, with `extra` more each day, and what an honest wallet says of them."""
    searches, paid = [], set()
    for day in range(days):
        strangers = max(0, round(chance.gauss(site.strangers, site.spread * site.strangers)))
        strangers += round(chance.gauss(0, strangers**0.5))
        refused = sum(chance.random() < site.refused for _ in range(payers))
        for n in range(strangers + payers + extra):
            at = START + day * DAY + chance.randrange(6 * 3_600_000, 22 * 3_600_000)
            search = Search(terminal, at, chance.randbytes(32))
            searches.append(search)
            if n < payers - refused:
                paid.add(search.id)
    return searches, WalletWord(frozenset(paid), frozenset(paid))


def result_of(searches, wallet, site=SITE, checks=NONE):
    return reconcile(searches, wallet, {"trm_gate1": site}, checks)


def test_honest_noise_passes_nearly_always():
    alarms = sum(not result_of(*simulated(random.Random(seed), days=7, payers=100)).ok for seed in range(30))
    assert alarms <= 1


def test_four_hundred_extra_searches_a_day_are_found():
    found = sum(not result_of(*simulated(random.Random(seed), days=7, payers=50, extra=400)).ok for seed in range(10))
    assert found == 10


def test_fifty_extra_a_day_drown_among_a_thousand_strangers_for_ever_and_the_report_says_so():
    for days in (7, 28, 365):
        assert power(SITE, extra=50, days=days) < 0.2
    found = sum(not result_of(*simulated(random.Random(seed), payers=50, extra=50, days=7)).ok for seed in range(10))
    assert found <= 3
    floor = smallest_found(SITE, days=3650)
    assert 100 < floor < 250, "no number of days averages out that the strangers are known to 5 % only"


def test_what_finds_fifty_a_day_is_an_independent_count_of_people():
    counted = Site(strangers=1000, spread=0.0, uncertainty=0.01, refused=0.03)
    assert power(counted, extra=50, days=30) > 0.9
    searches, wallet = simulated(random.Random(1), site=counted, days=30, payers=50, extra=50)
    assert not result_of(searches, wallet, counted).ok


def test_power_grows_with_days_and_extra_and_falls_with_volume():
    small, large = Site(100, 0.1, 0.01, 0.03), Site(10_000, 0.1, 0.01, 0.03)
    assert power(small, extra=10, days=30) > power(small, extra=10, days=7) > power(small, extra=10, days=1)
    assert power(small, extra=20, days=7) > power(small, extra=10, days=7)
    assert power(small, extra=20, days=7) > power(large, extra=20, days=7)
    assert power(small, extra=0, days=30) == pytest.approx(0.01, abs=1e-6)
    assert smallest_found(large, days=7) > smallest_found(small, days=7)


def test_the_stated_power_is_what_a_simulation_gives():
    site = Site(300, 0.1, 0.0, 0.0)
    extra = smallest_found(site, days=7)
    mean, variance = site.expected(0, 7)
    chance = random.Random(5)
    found = 0
    for _ in range(2000):
        count = sum(
            chance.gauss(lam := chance.gauss(site.strangers, site.spread * site.strangers) + extra, max(lam, 1) ** 0.5)
            for _ in range(7)
        )
        found += (count - mean) / variance**0.5 > 2.326
    assert 0.87 < found / 2000 < 0.93


def test_an_identification_that_nobody_is_shown_is_an_alarm_each():
    searches, wallet = simulated(random.Random(3), days=3)
    hidden = next(iter(wallet.paid))
    result = result_of(searches, WalletWord(wallet.paid, wallet.visible - {hidden}))
    assert result.alarms == ("trm_gate1: 1 payments that no payer finds in the own access log",)
    result = result_of(searches, WalletWord(wallet.paid | {bytes(32)}, wallet.visible | {bytes(32)}))
    assert result.alarms == ("1 identifications that are in no guardian's log",)
    result = result_of(searches, wallet, checks=PayerChecks(400, 2))
    assert result.alarms == ("2 of 400 payers found their access log incomplete",)


def test_searches_at_night_and_terminals_nobody_knows_are_found_however_few():
    searches, wallet = simulated(random.Random(4), days=7)
    day_time = Site(1000, 0.1, 0.05, 0.03, open_from=5, open_to=23)
    assert result_of(searches, wallet, day_time).ok
    night = Search("trm_gate1", START + 3 * DAY + 2 * 3_600_000, b"n" * 32)
    assert "1 searches while the place was closed" in result_of([*searches, night], wallet, day_time).excesses[0]
    hidden = Search("trm_van", START + DAY, b"v" * 32)
    assert "trm_van: 1 searches" in result_of([*searches, hidden], wallet, day_time).excesses[0]


def test_the_command_reads_real_logs_and_the_report_holds_nothing_personal(tmp_path):
    logs = [Log(tmp_path / "logs" / str(n), NoteKey(f"log{n}", KeyKind.LOG, bytes(32))) for n in range(3)]
    entries = []
    for n in range(200):
        entries.append(
            entry_of_search(
                terminal="trm_gate1",
                purpose="payment",
                issued_at=START + n * DAY // 100,
                gallery="gal_secret",
                query_id=n.to_bytes(16, "big"),
                request_sha256=n.to_bytes(32, "big"),
            ).to_bytes()
        )
    enrolment = entry_of_enrolment(
        station="stn_desk", issued_at=START, gallery="gal_secret", enrolment_id=bytes(16), request_sha256=bytes(32)
    )
    for log in logs:
        log.append([*entries, enrolment.to_bytes()])
        log.close()
    assert len(searches_in(tmp_path / "logs")) == 200
    paid = [search_id(entry).hex() for entry in entries[:60]]
    (tmp_path / "wallet.json").write_text(json.dumps({"paid": paid, "visible": paid}))
    (tmp_path / "sites.json").write_text(
        json.dumps({"trm_gate1": {"strangers": 70, "spread": 0.1, "uncertainty": 0.05, "refused": 0.03}})
    )
    arguments = ["reconcile", *(str(tmp_path / name) for name in ("logs", "wallet.json", "sites.json"))]
    result = CliRunner().invoke(app, [*arguments, "--html", str(tmp_path / "report.html")])
    assert result.exit_code == 0, result.output
    assert "would be found in 9 of 10" in result.output
    assert "stn_desk: 1 enrolments, 0 comparisons" in result.output
    page = (tmp_path / "report.html").read_text()
    assert "<img" in page
    assert "trm_gate1" in page
    assert "<td>stn_desk<td>1<td>0" in page
    assert not re.search(r"(src|href)=['\"](?!data:)|url\(|<script", page), "it shows without a network"
    for personal in ("gal_secret", *paid, "pay_"):
        assert personal not in page
    (tmp_path / "wallet.json").write_text(json.dumps({"paid": paid, "visible": paid[1:]}))
    assert CliRunner().invoke(app, arguments).exit_code == 1
    first_day = {"paid": paid, "visible": paid, "lost_answers": 3, "since": START, "until": START + DAY // 2}
    (tmp_path / "wallet.json").write_text(json.dumps(first_day))
    limited = CliRunner().invoke(app, arguments)
    assert "trm_gate1: 50 searches in 1 days, 0 without a payment" in limited.output
    assert "10 identifications that are in no guardian's log" in limited.output, "of that period"
    (tmp_path / "sites.json").write_text(json.dumps({"trm_gate1": {"strangers": -1}}))
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_report_says_how_likely_fifty_a_day_are_found_by_the_same_test_as_its_table():
    result = result_of(*simulated(random.Random(6), days=28, payers=50))
    (one,) = result.terminals
    assert one.tests == 29
    page = report_html(result)
    (likely,) = re.findall(r"50 extra searches a day here would be noticed in ([\d.]+)% of such reports", page)
    assert float(likely) == round(100 * power(SITE, extra=50, days=28, paid_a_day=48, tests=29), 1) < 1
    found = power(SITE, extra=one.smallest_found, days=28, paid_a_day=48, tests=one.tests)
    assert found == pytest.approx(0.9, abs=0.01)


def test_few_payments_of_a_day_are_not_told_apart():
    searches = [Search("trm_gate1", START + n, n.to_bytes(32, "big")) for n in range(20)]
    few = frozenset(search.id for search in searches[:3])
    page = report_html(result_of(searches, WalletWord(few, few), Site(17, 0.2, 0.1, 0.03)))
    assert "fewer than 5" in page
    assert "<td>3<td>" not in page
    assert "<td>20<td>at least 16<td>" in page
    flagged = result_of(searches, WalletWord(few, few), Site(1, 0.1, 0.1, 0.03))
    assert all("at least 16 unpaid" in excess for excess in flagged.excesses)
    assert len(flagged.excesses) == 2
    assert "17" not in report_html(flagged).split("<img")[0]


def test_impossible_sites_and_broken_files_are_refused():
    for text in ("[]", "{", '{"trm_a": {"strangers": 1}}', '{"trm_a": 3}'):
        with pytest.raises(BundleError):
            sites_from_json(text)
    for text in ("{}", '{"paid": ["xx"], "visible": []}', "3"):
        with pytest.raises(BundleError):
            WalletWord.from_json(text)
    with pytest.raises(BundleError):
        PayerChecks.from_json("{}")
