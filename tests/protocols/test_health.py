"""Readiness: named checks, bounded time, nobody else's words."""

import json
import threading

from sordino_protocols.errors import InputError
from sordino_protocols.health import Check, Checks, Finding, is_ready, read_checks, readiness


def good() -> Finding:
    return Finding(is_ok=True, detail="as it should be")


def test_is_ready_when_every_check_holds_and_says_each_by_name() -> None:
    checks = Checks({"disk": good, "clock": lambda: Finding(is_ok=False, detail="70 s behind")})
    found = checks.evaluate()
    assert found == (
        Check("disk", is_ok=True, detail="as it should be"),
        Check("clock", is_ok=False, detail="70 s behind"),
    )
    assert not is_ready(found)
    assert is_ready(found[:1])
    body = json.loads(readiness(found))
    assert body == {
        "ready": False,
        "checks": {
            "disk": {"ok": True, "detail": "as it should be"},
            "clock": {"ok": False, "detail": "70 s behind"},
        },
    }
    assert read_checks(body["checks"]) == found
    assert read_checks([1]) == ()


def test_asks_anew_every_time() -> None:
    answers = iter([Finding(is_ok=False, detail="not yet"), Finding(is_ok=True, detail="now")])
    checks = Checks({"superlink": lambda: next(answers)})
    assert [is_ready(checks.evaluate()) for _ in range(2)] == [False, True]


def test_an_error_of_ours_is_a_finding_and_a_librarys_text_stays_unsaid() -> None:
    def ours() -> Finding:
        raise InputError("key.pem: not a key")

    def theirs() -> Finding:
        raise ValueError("CANARY-71b2")

    found = Checks({"ours": ours, "theirs": theirs}).evaluate()
    assert found[0] == Check("ours", is_ok=False, detail="key.pem: not a key")
    assert found[1] == Check("theirs", is_ok=False, detail="failed: ValueError")
    assert b"CANARY" not in readiness(found)


def test_a_check_that_hangs_fails_in_bounded_time_and_is_not_started_twice() -> None:
    hold, started = threading.Event(), []

    def hangs() -> Finding:
        started.append(1)
        hold.wait()
        return good()

    checks = Checks({"hangs": hangs, "disk": good}, seconds=0.2)
    for _ in range(3):
        found = {each.name: each for each in checks.evaluate()}
        assert found["hangs"] == Check("hangs", is_ok=False, detail="no answer in time")
        assert found["disk"].is_ok
    assert len(started) == 1
    hold.set()
    patient = Checks({"hangs": hangs}, seconds=60)
    assert is_ready(patient.evaluate())
