"""The status page: says what is so, changes nothing, loads nothing, repeats no markup."""

import datetime as dt
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from watched_server import NOW, WatchedServer, audited, node, watched_server

from sordino_protocols.errors import InputError
from sordino_protocols.heads import sign_head
from sordino_protocols.rounds import RunEvent
from sordino_server.decisions import Decisions
from sordino_server.heads import ContradictionError
from sordino_server.page_facts import Severity
from sordino_server.page_reader import SHOWN_RUNS
from sordino_server.plain_http import serve_http
from sordino_server.quarantine import release_run
from sordino_server.state_location import HEADS


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[WatchedServer]:
    with watched_server(tmp_path) as running:
        yield running


def ask(
    address: str, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[http.client.HTTPResponse, str]:
    with closing(http.client.HTTPConnection(address, timeout=120)) as connection:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        response = connection.getresponse()
        return response, response.read().decode()


def read(watched: WatchedServer, path: str = "/") -> str:
    response, text = ask(watched.address, path)
    assert response.status == 200
    return text


def fork(watched: WatchedServer, site: str) -> Path:
    """Have a site sign a second history of its ledger; where the server keeps the proof."""
    heads = watched.federation.heads
    known = heads.get(site)
    assert known is not None
    signer = watched.federation.sites[site].signer
    with pytest.raises(ContradictionError):
        heads.note(site, sign_head(signer, length=known.length, hash="5e" * 32))
    return watched.directory / HEADS / f"{site}.contradiction.json"


def test_an_empty_server_says_what_to_do(watched: WatchedServer) -> None:
    text = read(watched)
    assert "All 3 sites are connected. Nothing is under way." in text
    assert "sordino job submit" in text
    assert "No run is over yet" in text
    assert 'aria-label="What somebody should look at"' not in text


def test_shows_a_finished_run_with_its_cost_result_audit_and_certificate(
    watched: WatchedServer,
) -> None:
    run = watched.finished()
    audited(run, verdict="tight", lower=1.7)
    facts = watched.reader().read()
    (shown,) = facts.ended
    receipts = json.loads((run.path / "statement.json").read_text())["receipts"]
    assert shown.epsilon_spent == max(each["epsilon_spent_pld"] for each in receipts.values())
    assert shown.epsilon_planned == 4
    assert shown.audit is not None
    # The estimate of 99 is no bound, and no alarm may rest on it.
    assert (shown.audit.verdict, shown.audit.lower) == ("tight", 1.7)
    assert {site.accepted for site in facts.sites} == {3}
    assert facts.worst_budget is not None
    assert facts.worst_budget[1].spent == max(each["budget_spent"] for each in receipts.values())
    assert not facts.notices
    text = read(watched)
    assert "shown 1.70, claimed 4" in text
    assert (
        read(watched, f"/runs/{run.run_id}/certificate.json")
        == (run.path / "certificate.json").read_text()
    )


def test_shows_how_far_a_run_is_and_whose_answers_did_not_count(watched: WatchedServer) -> None:
    run = watched.started(rounds=2)
    assert "small is training" in read(watched)
    assert "2 of 3" in read(watched)
    (shown,) = watched.reader().read().active
    assert shown.participants == ("berlin", "lyon")
    porto = next(each for each in watched.reader().read().sites if each.name == "porto")
    assert (porto.accepted, porto.rejected) == (0, 2)
    page = read(watched, f"/runs/{run.run_id}")
    assert "rejections porto late" in page
    assert "epsilon spent 0.5" in page


def test_a_broken_promise_is_the_first_thing_said_and_its_certificate_is_withheld(
    watched: WatchedServer,
) -> None:
    run = watched.finished()
    audited(run, verdict="violation", lower=5.3)
    watched.nodes[2] = node("porto", is_online=False)
    watched.is_ready = False
    facts = watched.reader().read()
    assert facts.violations == 1
    assert [each.severity for each in facts.notices[:2]] == [Severity.NOW, Severity.NOW]
    assert {each.subject for each in facts.notices} >= {"small", "porto", "server"}
    text = read(watched)
    assert "withheld until somebody decides" in text
    assert "porto is not connected" in text
    assert "certificate.json" not in text
    response, reason = ask(watched.address, f"/runs/{run.run_id}/certificate.json")
    assert response.status == 403
    assert "in quarantine" in reason


def test_a_broken_promise_is_shown_until_somebody_decides_however_many_runs_came_since(
    watched: WatchedServer,
) -> None:
    run = watched.finished()
    audited(run, verdict="violation", lower=5.3)
    for _ in range(SHOWN_RUNS):
        watched.federation.submit().advance(RunEvent.GAVE_UP, reason="no site took part")
    facts = watched.reader().read()
    assert facts.violations == 1
    assert facts.ended[-1].run_id == run.run_id
    assert facts.notices[0].run_id == run.run_id
    release_run(run, reason="the canaries were counted twice", by="ada")
    facts = watched.reader().read()
    assert facts.violations == 0
    assert len(facts.ended) == SHOWN_RUNS


def test_says_who_is_waited_for_and_why_a_run_failed(watched: WatchedServer) -> None:
    waiting = watched.federation.submit()
    waiting.advance(RunEvent.STARTED, cohort=["berlin"])
    waiting.record("waiting_for_approval", site="berlin")
    failed = watched.federation.submit()
    failed.advance(RunEvent.GAVE_UP, reason="no site took part")
    facts = watched.reader().read()
    assert facts.active[0].waits_for == ("berlin",)
    assert facts.ended[0].reason == "no site took part"
    assert "yes at berlin" in read(watched)
    assert "It failed: no site took part." in read(watched)


def test_a_failure_is_noticed_until_a_newer_run_is_over(watched: WatchedServer) -> None:
    watched.federation.submit().advance(RunEvent.GAVE_UP, reason="no site took part")
    (notice,) = watched.reader().read().notices
    assert (notice.severity, notice.subject) == (Severity.SOON, "small")
    watched.finished()
    assert not watched.reader().read().notices


def test_a_ledger_that_contradicts_what_its_site_signed_is_said_until_it_is_explained(
    watched: WatchedServer,
) -> None:
    watched.finished()
    fork(watched, "porto")
    facts = watched.reader().read()
    (notice,) = facts.notices
    assert (notice.severity, notice.subject) == (Severity.NOW, "porto")
    assert {each.name: len(each.contradicted) for each in facts.sites} == {
        "berlin": 0,
        "lyon": 0,
        "porto": 1,
    }
    text = read(watched)
    assert "Its ledger contradicts what it signed before" in text
    assert "<code>sordino server forget porto</code>" in text
    assert "ledger contradicts" in text
    watched.federation.heads.forget("porto")
    assert not watched.reader().read().notices


def test_a_proof_that_was_altered_is_no_proof_that_all_is_well(watched: WatchedServer) -> None:
    watched.finished()
    proof = fork(watched, "porto")
    proof.write_bytes(proof.read_bytes()[:-9])
    (notice,) = watched.reader().read().notices
    assert "the proof of it was altered" in notice.text


def test_an_audit_log_that_was_rewritten_is_said_until_it_is_explained(
    watched: WatchedServer,
) -> None:
    watched.finished()
    reader = watched.reader()
    assert not reader.read().notices
    assert not watched.federation.heads.note_audit_log("lyon", (1, "c4" * 32), is_fresh=True)
    (notice,) = reader.read().notices
    assert (notice.severity, notice.subject) == (Severity.NOW, "lyon")
    assert notice.command == "sordino server forget --audit-log lyon"
    # Runs come and go; only a person's decision ends it.
    watched.finished()
    assert len(reader.read().notices) >= 1
    Decisions(watched.federation.audit_log).audit_log_forgotten("lyon", by="admin")
    assert not [each for each in reader.read().notices if each.subject == "lyon" and each.command]


@pytest.mark.parametrize(
    ("hours", "severity"), [(15 * 24, None), (13 * 24, Severity.SOON), (36, Severity.NOW)]
)
def test_a_certificate_is_to_be_renewed_when_the_alerts_say_so(
    watched: WatchedServer, hours: int, severity: Severity | None
) -> None:
    watched.certificate_ends = NOW + dt.timedelta(hours=hours)
    found = [each.severity for each in watched.reader().read().notices]
    assert found == ([] if severity is None else [severity])


def test_with_less_than_a_day_the_readiness_check_says_it_alone(watched: WatchedServer) -> None:
    watched.certificate_ends = NOW + dt.timedelta(hours=23)
    assert not watched.reader().read().notices


def test_a_run_that_was_silent_for_two_deadlines_is_noticed(watched: WatchedServer) -> None:
    run = watched.started()
    log = run.path / "events.jsonl"
    assert not watched.reader().read().notices
    lines = [json.loads(line) | {"at": "2020-01-01T00:00:00+00:00"} for line in log.open()]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (notice,) = watched.reader().read().notices
    assert "No progress" in notice.text


def test_only_looks_and_only_under_its_own_name(watched: WatchedServer) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(watched.address, "/", method=method)[0].status == 405
    port = watched.address.rpartition(":")[2]
    assert ask(watched.address, "/", host=f"localhost:{port}")[0].status == 200
    assert ask(watched.address, "/", host=f"[::1]:{port}")[0].status == 200
    for stranger in ("evil.example", f"evil.example:{port}", "localhost.evil.example", ""):
        assert ask(watched.address, "/", host=stranger)[0].status == 421
    for path in ("/runs/nothing", "/runs/..%2f..%2fetc", "/assets/..%2fframe.html.j2", "/metrics"):
        assert ask(watched.address, path)[0].status == 404


def test_every_answer_forbids_what_the_page_does_not_need(watched: WatchedServer) -> None:
    for path in ("/", "/nothing", "/assets/status.js"):
        response, text = ask(watched.address, path)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Cache-Control"] == "no-store"
    text = read(watched)
    assert " style=" not in text
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_markup_from_a_site_or_a_log_is_text(watched: WatchedServer) -> None:
    run = watched.started()
    run.record("round", round=2, rounds=3, participants=["<b>x</b>"], rejections={}, refusals={},
               epsilon_spent=0.1)  # fmt: skip
    watched.nodes[0] = node("<script>alert(1)</script>")
    assert "<script>alert" not in read(watched)
    assert "&lt;script&gt;alert" in read(watched)
    assert "<b>x" not in read(watched, f"/runs/{run.run_id}")


def test_a_watcher_hears_of_a_change_and_of_nothing_else(watched: WatchedServer) -> None:
    run = watched.started()
    with closing(http.client.HTTPConnection(watched.address, timeout=120)) as connection:
        connection.request("GET", "/events")
        stream = connection.getresponse()
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        first, _ = stream.readline(), stream.readline()
        watched.round(run, 2)
        second = stream.readline()
    assert first.startswith(b"data: ")
    assert second.startswith(b"data: ")
    assert first != second


def test_an_address_that_is_taken_is_an_error_that_names_the_key(watched: WatchedServer) -> None:
    with pytest.raises(InputError, match=r"page\.address.*free host:port"):
        serve_http(lambda *_: None, watched.address, key="page.address")  # type: ignore[arg-type]
