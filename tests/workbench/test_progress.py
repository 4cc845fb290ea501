"""What a person reads while a run goes on, where there is no terminal to draw on."""

import pytest

from sordino.progress import Event, follow

EVENTS: list[Event] = [
    {"event": "state", "state": "admitting", "cohort": ["cleveland", "va"]},
    {"event": "left_out", "site": "va", "reason": "integrity"},
    {"event": "waiting_for_approval", "site": "cleveland"},
    {"event": "waiting_for_site", "site": "va", "reason": "unavailable, its disk is full"},
    {"event": "hindered", "reason": "no space"},
    {"event": "answer_changed", "site": "va", "question": "RoundPlan"},
    {"event": "attempt", "number": 1},
    {"event": "state", "state": "training"},
    {"event": "round", "round": 1, "rounds": 2, "epsilon_spent": 0.5},
]


def test_a_person_reads_who_is_waited_for_and_who_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(follow(EVENTS)) == EVENTS
    lines = capsys.readouterr().err.splitlines()
    assert lines[:7] == [
        "admitting",
        "left out: va: integrity",
        "waiting for approval at cleveland",
        "waiting for va: unavailable, its disk is full",
        "the server waits to be mended: no space",
        "va gave two different answers; only the first counts",
        "training",
    ]
    assert lines[7].startswith("round 1/2  epsilon 0.500")
    assert len(lines) == 8


def test_a_quiet_follower_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(follow(EVENTS, is_quiet=True)) == EVENTS
    assert capsys.readouterr().err == ""


def test_the_bar_says_it_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    assert list(follow(EVENTS)) == EVENTS
    assert "waiting for approval at cleveland" in capsys.readouterr().err
