from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from federation import Federation
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from server_host import Host, server_host
from small_synthesis import mock_job

from sordino_protocols.messages import Message, Update
from sordino_protocols.rounds import RunEvent
from sordino_protocols.wire import open_sealed, seal
from sordino_server.metrics import RELEASE_CLASSES, server_registry
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
    return server_registry(host.superlink, federation.runs)


def scrape(registry: CollectorRegistry) -> Samples:
    text = generate_latest(registry).decode()
    # Prometheus refuses a text in which a metric is described twice; the parser here does not.
    described = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(described) == len(set(described))
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
        )


def test_every_metric_has_a_release_class(
    registry: CollectorRegistry, federation: Federation
) -> None:
    federation.coordinator(federation.submit()).execute()
    federation.submit()
    assert {family.name for family in registry.collect()} == set(RELEASE_CLASSES)
    assert set(RELEASE_CLASSES.values()) == {"public", "dp"}


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
    assert value(samples, "sordino_updates_total", site="c", result="implausible") == 2
    assert value(samples, "sordino_updates_total", site="c", result="late") == 0
    assert value(samples, "sordino_runs", state="done") == 1
    assert value(samples, "sordino_runs", state="queued") == 0
    assert value(samples, "sordino_site_connected", site="a") == 0
    facts = run.read(EVALUATION, EvaluationFacts)
    told = value(samples, "sordino_eval_metric", run_id=run.run_id, metric="accuracy")
    assert told == facts.metrics["accuracy"].value
    # A run that is over has no progress.
    assert not [name for name, _ in samples if name.startswith("sordino_run_")]


def test_a_run_under_way_tells_how_far_it_is(
    registry: CollectorRegistry, federation: Federation
) -> None:
    run = federation.submit()
    lasting(run)
    samples = scrape(registry)
    label = {"run_id": run.run_id}
    assert value(samples, "sordino_run_round", **label) == 2
    assert value(samples, "sordino_run_rounds_planned", **label) == 3
    assert value(samples, "sordino_run_epsilon_spent", **label) == 0.75
    assert value(samples, "sordino_run_epsilon_planned", **label) == 4
    assert value(samples, "sordino_round_participants", **label) == 2
    assert value(samples, "sordino_updates_total", site="c", result="refused") == 2


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
    assert len([name for name, _ in samples if name == "sordino_run_round"]) == 4
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
    samples = scrape(registry)
    assert value(samples, "sordino_run_epsilon_planned", run_id=run.run_id) == 0
    federation.coordinator(run).execute()
