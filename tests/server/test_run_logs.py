"""What is logged of a run names the run, the round and how long it took."""

from dataclasses import replace

import numpy as np
from federation import JOB, Federation, make_job
from logged import logged
from unruly import away_for, changing

from sordino_protocols.audit_log import read_audit_log
from sordino_protocols.messages import Message, RoundPlan, Update

ROUNDS = 3


def a_huge_update(message: Message) -> Message:
    assert isinstance(message, Update)
    return replace(message, vector=np.full_like(message.vector, 1e30))


def test_everything_that_ends_in_a_run_says_how_long_it_took(federation: Federation) -> None:
    run = federation.submit(make_job(JOB))
    with logged() as heard:
        federation.coordinator(run).execute()
    rounds, states = heard.of("round_ended"), heard.of("state_ended")
    assert [line["round"] for line in rounds] == list(range(1, ROUNDS + 1))
    assert [line["state"] for line in states] == [
        "queued",
        "admitting",
        "training",
        "evaluating",
        "settling",
    ]
    ended = [*rounds, *states, *heard.of("released"), *heard.of("admitted")]
    assert len(heard.of("released")) == len(federation.sites) * (ROUNDS + 1)
    assert len(heard.of("admitted")) == len(federation.sites)
    for line in ended:
        assert isinstance(line["dur_s"], float), line
        assert line["dur_s"] >= 0
    assert {line["run_id"] for line in heard.lines} == {run.run_id}
    # A line of no round does not carry the last one's number.
    assert all("round" not in line for line in states)


def test_whoever_works_on_a_round_logs_its_number(federation: Federation) -> None:
    run = federation.submit(make_job(JOB))
    huge = changing(federation, "c", Update, a_huge_update)
    with logged() as heard:
        federation.coordinator(run, federation.grid({"c": huge})).execute()
    rejected = heard.of("answer_rejected")
    assert [line["round"] for line in rejected] == list(range(1, ROUNDS + 1))
    assert {line["run_id"] for line in rejected} == {run.run_id}


def test_poisoned_updates_stand_in_the_servers_audit_log_once(federation: Federation) -> None:
    run = federation.submit(make_job(JOB))
    huge = changing(federation, "c", Update, a_huge_update)
    federation.coordinator(run, federation.grid({"c": huge})).execute()
    log = read_audit_log(run.path.parent.parent / "audit.log")
    (entry,) = [each for each in log if each.action == "answer_rejected"]
    assert (entry.actor, entry.object, entry.decision) == ("server", "c", "deny")
    assert entry.reason == f"norm_exceeded in {run.run_id}"


def test_a_site_that_is_only_away_is_not_accused(federation: Federation) -> None:
    run = federation.submit(make_job(JOB))
    away = away_for(federation, "c", RoundPlan)
    federation.coordinator(run, federation.grid({"c": away})).execute()
    left_out = [each["rejections"] for each in run.events() if each["event"] == "round"]
    assert left_out == [{"c": "unreachable"}] * ROUNDS
    log = read_audit_log(run.path.parent.parent / "audit.log")
    assert "answer_rejected" not in {each.action for each in log}
