import datetime as dt
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from federation import Federation
from metric_families import families, families_of
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from server_host import Host, server_host
from small_synthesis import mock_job

from sordino_protocols.heads import sign_head
from sordino_protocols.messages import Message, Update
from sordino_protocols.metrics import METRICS, Place, ReleaseClass
from sordino_protocols.rounds import RunEvent
from sordino_protocols.wire import open_sealed, seal
from sordino_server.auth_failures import AuthFailure, AuthFailures
from sordino_server.heads import ContradictionError
from sordino_server.metrics import server_registry
from sordino_server.questions import FailureCause, RunFailedError
from sordino_server.registry import enrol, enrolled_sites
from sordino_server.runs import EVALUATION, RunDirectory
from sordino_server.statement import EvaluationFacts

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("host") / "federation"
    with server_host(directory, ("a", "b", "c")) as running:
        server = running.config.server
        enrol(running.superlink, enrolled_sites(server.sites, server.nodes))
        yield running


@pytest.fixture
def registry(host: Host, federation: Federation) -> CollectorRegistry:
    return registry_of(host, federation)


def registry_of(
    host: Host, federation: Federation, *, auth_failures: AuthFailures | None = None
) -> CollectorRegistry:
    return server_registry(
        host.superlink,
        federation.runs,
        contradictions=federation.contradictions,
        auth_failures=auth_failures,
    )


def scrape(registry: CollectorRegistry) -> Samples:
    text = generate_latest(registry).decode()
    assert families(text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def lasting(run: RunDirectory) -> None:
    """A run that is under way, and in its second round."""
    run.advance(RunEvent.STARTED, cohort=["a", "b", "c"])
    run.advance(RunEvent.ADMITTED)
    for number, epsilon in ((1, 0.5), (2, 0.75)):
        run.record(
            "round",
            round=number,
            participants=["a", "b"],
            refusals={"c": "budget_exhausted"},
            rejections={},
            epsilon_spent=epsilon,
            seconds=2.5,
        )


def test_the_server_tells_what_the_table_says(
    registry: CollectorRegistry, federation: Federation
) -> None:
    federation.coordinator(federation.submit()).execute()
    federation.submit()
    # Readiness and certificates are the daemon's, which every process with a network has.
    of_hosts = families_of(Place.LINK) & families_of(Place.SERVER)
    told = {family.name for family in registry.collect()}
    assert told == families_of(Place.SERVER) - of_hosts
    for family in registry.collect():
        facts = METRICS[family.name + ("_total" if family.type == "counter" else "")]
        assert facts.kind == family.type
        assert facts.release in {ReleaseClass.PUBLIC, ReleaseClass.DP}
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(facts.labels)


def test_after_a_run_the_text_says_what_happened(
    registry: CollectorRegistry, federation: Federation
) -> None:
    site = federation.sites["c"]

    def poison(envelope: bytes) -> bytes:
        reply: Message = open_sealed(site.answer(envelope), federation.trusted_sites).message
        if isinstance(reply, Update) and reply.round > 1:
            reply = replace(reply, vector=np.full_like(reply.vector, 1e30))
        return seal(reply, site.signer)

    run = federation.submit()
    federation.coordinator(run, federation.grid({"c": poison})).execute()
    samples = scrape(registry)
    assert value(samples, "sordino_updates_total", site="a", result="accepted") == 3
    assert value(samples, "sordino_updates_total", site="c", result="accepted") == 1
    assert value(samples, "sordino_updates_total", site="c", result="norm_exceeded") == 2
    assert value(samples, "sordino_updates_total", site="c", result="late") == 0
    assert value(samples, "sordino_runs", state="done") == 1
    assert value(samples, "sordino_runs", state="queued") == 0
    assert value(samples, "sordino_site_connected", site="a") == 0
    facts = run.read(EVALUATION, EvaluationFacts)
    told = value(samples, "sordino_eval_metric", run_id=run.run_id, metric="accuracy")
    assert told == facts.metrics["accuracy"].value
    # A run that is over has no progress.
    assert not [name for name, _ in samples if name.startswith("sordino_run_")]
    assert value(samples, "sordino_runs_total", outcome="done", reason="") == 1
    assert value(samples, "sordino_runs_total", outcome="failed", reason="no_quorum") == 0
    for phase, count in (("admission", 1), ("round", 3), ("evaluation", 1), ("table", 0)):
        name = "sordino_round_duration_seconds"
        assert value(samples, f"{name}_count", phase=phase) == count
        assert value(samples, f"{name}_bucket", phase=phase, le="3600.0") == count


def test_a_run_under_way_tells_how_far_it_is(
    registry: CollectorRegistry, federation: Federation
) -> None:
    run = federation.submit()
    lasting(run)
    samples = scrape(registry)
    label = {"run_id": run.run_id}
    assert value(samples, "sordino_run_round", **label) == 2
    assert value(samples, "sordino_run_rounds_planned", **label) == 3
    assert value(samples, "sordino_run_epsilon_spent", **label, site="a") == 0.75
    assert value(samples, "sordino_run_epsilon_spent", **label, site="c") == 0
    assert value(samples, "sordino_run_epsilon_planned", **label, site="c") == 4
    assert value(samples, "sordino_round_participants", **label, status="accepted") == 2
    assert value(samples, "sordino_round_participants", **label, status="refused") == 1
    assert value(samples, "sordino_round_participants", **label, status="late") == 0
    assert value(samples, "sordino_run_quorum", **label) == 2
    assert value(samples, "sordino_run_sites_connected", **label) == 0
    assert value(samples, "sordino_updates_total", site="c", result="refused") == 2
    assert value(samples, "sordino_round_duration_seconds_sum", phase="round") == 5
    last = [dt.datetime.fromisoformat(str(each["at"])) for each in run.events()][-1]
    told = value(samples, "sordino_round_last_progress_timestamp_seconds", **label)
    assert told == last.timestamp()


def test_a_site_that_came_too_late_has_paid_all_the_same(
    registry: CollectorRegistry, federation: Federation
) -> None:
    run = federation.submit()
    lasting(run)
    facts = {"participants": ["b"], "refusals": {}, "epsilon_spent": 1.0, "seconds": 1.0}
    run.record("round", round=3, rejections={"a": "late", "c": "unreachable"}, **facts)
    samples = scrape(registry)
    spent = {
        site: value(samples, "sordino_run_epsilon_spent", run_id=run.run_id, site=site)
        for site in ("a", "b", "c")
    }
    assert spent == {"a": 1.0, "b": 1.0, "c": 0.0}


def test_an_attempt_in_vain_is_no_progress(
    registry: CollectorRegistry, federation: Federation
) -> None:
    run = federation.submit()
    lasting(run)
    label = {"run_id": run.run_id}
    name = "sordino_round_last_progress_timestamp_seconds"
    before = value(scrape(registry), name, **label)
    run.record("attempt", number=1, flower_run="7")
    run.record("interrupted")
    assert value(scrape(registry), name, **label) == before


def test_runs_that_failed_are_counted_by_cause(
    registry: CollectorRegistry, federation: Federation
) -> None:
    silent = federation.grid({name: lambda _: b"" for name in federation.sites})
    with pytest.raises(RunFailedError):
        federation.coordinator(federation.submit(), silent).execute()
    crashed, old = federation.submit(), federation.submit()
    crashed.advance(RunEvent.GAVE_UP, reason="it crashed", cause=FailureCause.CRASHED.value)
    old.advance(RunEvent.GAVE_UP, reason="of a server that gave no cause")
    samples = scrape(registry)
    assert {
        reason: value(samples, "sordino_runs_total", outcome="failed", reason=reason)
        for reason in FailureCause
    } == {"no_quorum": 1, "crashed": 1, "other": 1, "impossible": 0}


def test_a_site_whose_ledger_contradicts_is_told_of_until_it_is_explained(
    registry: CollectorRegistry, federation: Federation
) -> None:
    federation.coordinator(federation.submit()).execute()
    name, heads = "sordino_site_contradicts", federation.heads
    known = heads.get("b")
    assert known is not None
    assert value(scrape(registry), name, site="b", record="ledger") == 0
    fork = sign_head(federation.sites["b"].signer, length=known.length, hash="5e" * 32)
    with pytest.raises(ContradictionError):
        heads.note("b", fork)
    samples = scrape(registry)
    assert value(samples, name, site="b", record="ledger") == 1
    assert value(samples, name, site="b", record="audit_log") == 0
    assert value(samples, name, site="a", record="ledger") == 0
    heads.forget("b")
    assert value(scrape(registry), name, site="b", record="ledger") == 0


def test_strangers_are_counted(host: Host, federation: Federation) -> None:
    failures = AuthFailures()
    registry = registry_of(host, federation, auth_failures=failures)
    failures.count(AuthFailure.NODE_KEY)
    failures.count(AuthFailure.NODE_KEY)
    samples = scrape(registry)
    assert value(samples, "sordino_auth_failures_total", kind="node_key") == 2
    assert value(samples, "sordino_auth_failures_total", kind="job_signature") == 0


def test_several_runs_at_once_still_make_a_valid_text(
    registry: CollectorRegistry, federation: Federation
) -> None:
    for _ in range(2):
        federation.coordinator(federation.submit()).execute()
        lasting(federation.submit())
        federation.submit()
    samples = scrape(registry)
    assert value(samples, "sordino_runs", state="training") == 2
    assert value(samples, "sordino_runs", state="queued") == 2
    assert value(samples, "sordino_runs", state="done") == 2
    # What is queued asks no site for anything yet.
    assert len([name for name, _ in samples if name == "sordino_run_round"]) == 2
    assert len([name for name, _ in samples if name == "sordino_eval_metric"]) == 4


def test_a_round_that_was_asked_twice_counts_once(
    registry: CollectorRegistry, federation: Federation
) -> None:
    run = federation.submit()
    lasting(run)
    facts = list(run.events())[-1]
    run.record("round", **{key: facts[key] for key in facts if key not in {"event", "at"}})
    samples = scrape(registry)
    assert value(samples, "sordino_updates_total", site="a", result="accepted") == 2


def test_counters_never_fall(registry: CollectorRegistry, federation: Federation) -> None:
    before: Samples = {}
    for _ in range(2):
        lasting(federation.submit())
        federation.coordinator(federation.submit()).execute()
        now = {key: each for key, each in scrape(registry).items() if key[0].endswith("_total")}
        assert all(now[key] >= each for key, each in before.items())
        assert now != before
        before = now


def test_evaluations_of_runs_long_gone_are_no_series(
    registry: CollectorRegistry, federation: Federation
) -> None:
    first = federation.submit()
    federation.coordinator(first).execute()
    facts = first.read(EVALUATION, EvaluationFacts)
    for _ in range(25):
        federation.submit().save(EVALUATION, facts)
    samples = scrape(registry)
    assert len([name for name, _ in samples if name == "sordino_eval_metric"]) == 40
    assert not any(("run_id", first.run_id) in labels for _, labels in samples)


def test_a_mock_under_way_is_a_run_that_costs_nothing(
    registry: CollectorRegistry, federation: Federation
) -> None:
    run = federation.submit(mock_job())
    run.advance(RunEvent.STARTED, cohort=["a", "b", "c"])
    samples = scrape(registry)
    assert value(samples, "sordino_runs", state="admitting") == 1
    # It releases nothing: it has no rounds, and no epsilon that it could lack.
    assert not any(("run_id", run.run_id) in labels for _, labels in samples)
