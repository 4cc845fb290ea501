"""A real Prometheus scrapes a real run: what dashboards and alerts make of it, and who is told."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest
from alert_rules import Panel, filled, read_panels, read_rules
from broken_promise import hand_over_broken_run, refute
from prometheus_host import Monitoring, Series, watched
from real_federation import Running, make_job, run_federation, until

from sordino_protocols.metrics import METRICS, MetricKind, ReleaseClass
from sordino_server.audit_document import AuditDocument, read_audit
from sordino_server.statement import Statement

pytestmark = pytest.mark.system

SITES = ("cleveland", "va")
ROUNDS = 6
QUORUM = 2
Numbers = list[float]


@dataclass(frozen=True, slots=True)
class Scraped:
    """A run that went to its end while Prometheus looked on, and another that broke its promise.

    Attributes:
        run_id: of the one that went to its end.
        broken: the other one's id.
        audit: what a real audit found of the other one.
        begin: Unix time before the first scrape.
        end: after the last one that is looked at.
    """

    monitoring: Monitoring
    run_id: str
    broken: str
    audit: AuditDocument
    statement: Statement
    begin: float
    end: float

    def over(self, expression: str) -> list[Series]:
        """An expression's values in all that time."""
        return self.monitoring.over(filled(expression), self.begin, self.end)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with run_federation(tmp_path_factory.mktemp("watched"), SITES) as started:
        yield started


@pytest.fixture(scope="module")
def scraped(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    directory = tmp_path_factory.mktemp("monitoring") / "here"
    with watched(running, directory) as monitoring:
        begin = time.time()
        every = len(SITES) + 1
        until(lambda: len(monitoring.at("up == 1")) == every)
        run_id = running.connection.submit(make_job(rounds=ROUNDS, quorum=QUORUM))
        states = [each["state"] for each in running.connection.watch(run_id) if "state" in each]
        assert states[-1] == "done", running.connection.show(run_id)
        until(lambda: bool(monitoring.at('sordino_runs_total{outcome="done"} == 1')))
        # Before any audit: that nobody audits is what the rules have to complain about.
        until(lambda: monitoring.firing() == {"AuditStale"})
        runs = running.server_config.runs_directory
        broken = hand_over_broken_run(runs, scratch=directory / "broken")
        refute(broken)
        audit = read_audit(broken)
        assert audit is not None
        until(lambda: "AuditViolation" in monitoring.firing())
        content = running.connection.fetch(run_id, "certificate.json")
        assert content
        statement = json.loads((runs / run_id / "statement.json").read_bytes())
        yield Scraped(
            monitoring,
            run_id,
            broken.run_id,
            audit,
            Statement.model_validate(statement, strict=False),
            begin,
            time.time(),
        )


def at_most(limit: float) -> Callable[[Numbers], bool]:
    return lambda values: max(values) <= limit


def reaches(value: float) -> Callable[[Numbers], bool]:
    return lambda values: math.isclose(max(values), value, rel_tol=1e-6)


def ends_at(value: float) -> Callable[[Numbers], bool]:
    return lambda values: math.isclose(values[-1], value, rel_tol=1e-6)


EXPECTED: Mapping[tuple[str, str], Callable[[Numbers], bool]] = {
    ("sordino-fleet", "Sites connected"): reaches(len(SITES)),
    ("sordino-fleet", "Sites away"): ends_at(0),
    ("sordino-fleet", "Runs under way"): lambda values: max(values) == 1 and values[-1] == 0,
    ("sordino-fleet", "Open violations"): lambda values: values[0] == 0 and values[-1] == 1,
    ("sordino-fleet", "Alerts firing"): lambda values: max(values) >= 1,
    ("sordino-fleet", "Certificates"): lambda values: min(values) > 86400,
    ("sordino-run", "Rounds planned"): ends_at(ROUNDS),
    ("sordino-run", "Rounds done"): lambda values: 0 < max(values) <= ROUNDS,
    ("sordino-run", "Sites over the quorum"): ends_at(len(SITES) - QUORUM),
    ("sordino-run", "Epsilon planned"): ends_at(4.0),
    ("sordino-run", "Epsilon spent"): lambda values: 0 < max(values) < 4.0,
    ("sordino-run", "Since it got further"): at_most(300),
    ("sordino-privacy", "Refusals, last day"): ends_at(0),
    ("sordino-privacy", "Runs without epsilon"): reaches(0),
    ("sordino-privacy", "Ledgers that do not hold"): reaches(0),
    ("sordino-privacy", "Held by runs"): lambda values: max(values) > 0 and values[-1] == 0,
    ("sordino-privacy", "Policies"): reaches(1),
    ("sordino-audit", "Open violations"): ends_at(1),
    ("sordino-audit", "Models withheld"): lambda values: values[0] == 0 and values[-1] == 1,
    ("sordino-site", "Connected"): ends_at(1),
    ("sordino-site", "Vault up"): ends_at(1),
    ("sordino-site", "Ledger holds"): ends_at(1),
    ("sordino-site", "Code passed its test"): ends_at(1),
    ("sordino-site", "Vault restarts, last hour"): reaches(0),
}
"""What a panel shows of this run, where that is known beforehand."""

QUIET = {
    ("sordino-fleet", "Checks that fail"),
    ("sordino-privacy", "Refusals"),
}
"""Panels that show nothing while all is well."""


def numbers(found: list[Series]) -> Numbers:
    return [value for series in found for value in series.values]


@pytest.mark.parametrize("panel", read_panels(), ids=str)
def test_a_panel_shows_what_it_should(scraped: Scraped, panel: Panel) -> None:
    key = (panel.board, panel.title)
    for expression, _ in panel.targets:
        found = scraped.over(expression)
        if key not in QUIET:
            assert found, expression
            assert any(math.isfinite(value) for value in numbers(found))
        if panel.kind == "stat":
            # A big number is one number.
            assert len(found) == 1
    if key in EXPECTED:
        values = numbers(scraped.over(panel.targets[0][0]))
        assert EXPECTED[key](values), values


def test_the_board_of_audits_shows_what_the_audit_found(scraped: Scraped) -> None:
    def last(title: str) -> float:
        (panel,) = [
            each for each in read_panels() if (each.board, each.title) == ("sordino-audit", title)
        ]
        return numbers(scraped.over(panel.targets[0][0]))[-1]

    audit = scraped.audit
    assert audit.verdict == "violation"
    assert audit.claimed is not None
    lows = [each.epsilon_low for each in audit.bounds if each.standing == "bound"]
    low = max(math.inf if each is None else each for each in lows)
    assert last("Proven epsilon") == pytest.approx(low)
    assert last("Bound over claim") == pytest.approx(low / audit.claimed)
    evidence = max(each.log10_value for each in audit.e_values)
    assert last("Evidence against a claim") == pytest.approx(evidence)


def test_budgets_are_what_the_sites_signed(scraped: Scraped) -> None:
    spent = {
        series.labels["site"]: series.values[-1]
        for series in scraped.over('sordino_privacy_budget_epsilon{kind="spent"}')
    }
    signed = {name: each.epsilon_spent_rdp for name, each in scraped.statement.receipts.items()}
    assert set(spent) == set(SITES)
    for site in SITES:
        # The budget's delta is the policy's, the receipt's is the job's: the same order.
        assert spent[site] == pytest.approx(signed[site], rel=0.5)


def test_every_site_answered_every_round(scraped: Scraped) -> None:
    found = scraped.over('sordino_updates_total{result="accepted"}')
    assert {series.labels["site"]: series.values[-1] for series in found} == dict.fromkeys(
        SITES, ROUNDS
    )


def test_every_metric_was_scraped_and_none_that_depends_on_records(scraped: Scraped) -> None:
    for name, facts in METRICS.items():
        sample = f"{name}_count" if facts.kind is MetricKind.HISTOGRAM else name
        found = scraped.over(sample)
        assert bool(found) is (facts.release is not ReleaseClass.LOCAL), name
        of_prometheus = {"__name__", "instance", "job", "site", "exported_site"}
        # Prometheus drops a label that is empty: one series in all has each of them.
        labels = {label for series in found for label in series.labels}
        if found:
            assert labels - of_prometheus == set(facts.labels) - {"site"}, name


def test_while_all_is_well_no_alert_has_a_reason(scraped: Scraped) -> None:
    reasons = {
        (rule.alert, rule.severity): bool(scraped.monitoring.at(rule.expression))
        for rule in read_rules()
    }
    assert {alert for (alert, _), has_one in reasons.items() if has_one} == {"AuditViolation"}


def test_a_violation_pages_somebody(scraped: Scraped) -> None:
    inbox = scraped.monitoring.inbox
    until(lambda: any(each["alertname"] == "AuditViolation" for each in inbox.fired("pages")))
    page = next(each for each in inbox.fired("pages") if each["alertname"] == "AuditViolation")
    assert page["model"] == scraped.broken
    assert not [each for each in inbox.fired("tickets") if each["alertname"] == "AuditViolation"]


def test_a_site_that_goes_away_is_told_of(running: Running, scraped: Scraped) -> None:
    inbox = scraped.monitoring.inbox
    assert not [each for each in inbox.fired("tickets") if each["alertname"] == "SiteDown"]
    running.kill("va-link")
    until(lambda: any(each["alertname"] == "SiteDown" for each in inbox.fired("tickets")))
    told = [each for each in inbox.fired("tickets") if each["alertname"] == "SiteDown"]
    assert {each["site"] for each in told} == {"va"}
