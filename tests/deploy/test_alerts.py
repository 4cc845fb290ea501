"""The alert rules: each is tried by promtool, explained to people, and about metrics that exist."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from alert_rules import ALERTS, DEPLOY, Rule, metrics_in, read_rules

from sordino_protocols.metrics import METRICS, MetricKind, ReleaseClass

DOCS = DEPLOY.parent / "docs"
TRIALS = tuple(ALERTS.with_name(name) for name in ("alerts.test.yml", "alerts-slow.test.yml"))
EXPECTED = {
    "AuditStale",
    "AuditViolation",
    "AuthFailures",
    "BudgetNearlyExhausted",
    "BudgetReservationLeak",
    "CertExpiring",
    "LedgerTampered",
    "NonDPPath",
    "PolicyChanged",
    "QuorumLost",
    "RoundStalled",
    "SiteDown",
    "TrainerCrashLoop",
    "UpdateRejected",
}
PAGES = {"AuditViolation", "LedgerTampered", "NonDPPath"}


def checked(tool: str, package: str, *arguments: str) -> str:
    if shutil.which(tool) is None:
        pytest.skip(f"needs the system package {package}")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules_and_its_configuration() -> None:
    checked("promtool", "prometheus", "check", "rules", str(ALERTS))
    checked("promtool", "prometheus", "check", "config", str(DEPLOY / "prometheus/prometheus.yml"))


def test_every_alert_fires_when_it_should_and_no_sooner() -> None:
    checked("promtool", "prometheus", "test", "rules", *map(str, TRIALS))


def test_a_rule_that_is_wrong_is_found_by_its_test(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs the system package prometheus")
    broken = ALERTS.read_text().replace("sordino_site_connected == 0", "sordino_site_connected < 0")
    (tmp_path / "alerts.yml").write_text(broken)
    trial = yaml.safe_load(TRIALS[0].read_text())
    trial["tests"] = [each for each in trial["tests"] if each["name"] == "SiteDown"]
    (tmp_path / "trial.yml").write_text(yaml.safe_dump(trial))
    command = ["promtool", "test", "rules", str(tmp_path / "trial.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "SiteDown" in done.stderr


def test_alertmanager_takes_its_configuration() -> None:
    path = str(DEPLOY / "prometheus/alertmanager.yml")
    checked("amtool", "prometheus-alertmanager", "check-config", path)


@pytest.mark.parametrize("rule", read_rules(), ids=lambda rule: f"{rule.alert}-{rule.severity}")
def test_an_alert_waits_has_a_severity_and_a_place_in_the_runbook(rule: Rule) -> None:
    assert re.fullmatch(r"[1-9][0-9]*[mh]", rule.wait)
    assert rule.severity in {"page", "ticket", "info"}
    assert rule.summary.endswith(".")
    anchor = rule.alert.lower()
    assert rule.runbook == f"docs/runbook.md#{anchor}"
    assert f"\n## {rule.alert}\n" in (DOCS / "runbook.md").read_text()


def test_there_are_the_alerts_that_people_expect() -> None:
    rules = read_rules()
    assert {rule.alert for rule in rules} == EXPECTED
    assert {rule.alert for rule in rules if rule.severity == "page"} >= PAGES


def test_the_runbook_is_about_alerts_that_exist() -> None:
    headings = re.findall(r"^## (\w+)$", (DOCS / "runbook.md").read_text(), flags=re.MULTILINE)
    assert set(headings) == EXPECTED
    assert len(headings) == len(EXPECTED)


@pytest.mark.parametrize("rule", read_rules(), ids=lambda rule: f"{rule.alert}-{rule.severity}")
def test_an_alert_is_about_metrics_that_may_be_scraped(rule: Rule) -> None:
    named = metrics_in(rule.expression)
    assert named
    assert all(METRICS[name].release is not ReleaseClass.LOCAL for name in named)
    assert all(METRICS[name].kind is not MetricKind.HISTOGRAM for name in named)


def test_every_alert_is_tried_silent_and_firing() -> None:
    trials = [yaml.safe_load(path.read_text()) for path in TRIALS]
    cases = [
        case for trial in trials for test in trial["tests"] for case in test["alert_rule_test"]
    ]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert fires == silent == EXPECTED
    severities = {
        (case["alertname"], alert["exp_labels"]["severity"])
        for case in cases
        for alert in case.get("exp_alerts", ())
    }
    assert severities == {(rule.alert, rule.severity) for rule in read_rules()}


def test_a_site_that_is_away_silences_what_follows_from_it() -> None:
    written = yaml.safe_load((DEPLOY / "prometheus/alertmanager.yml").read_text())
    pairs = [
        (each["source_matchers"], each["target_matchers"]) for each in written["inhibit_rules"]
    ]
    assert (['alertname="SiteDown"'], ['alertname="RoundStalled"']) in pairs
