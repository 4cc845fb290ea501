"""`sordino audit` on real runs: what it writes, where, and how it ends."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from audited_federation import (
    CHEAP_JOB,
    LANES,
    assert_no_evidence,
    audit,
    finished,
    site_file,
    with_half_the_noise,
)
from federation import Federation

from sordino_audit.audit_document import schema_json
from sordino_audit.audit_runs import AUDIT
from sordino_audit.sealing import read_document
from sordino_audit.series import Series
from sordino_audit.site_runs import site_series
from sordino_client.config import load_config
from sordino_protocols.errors import ExitCode
from sordino_server.quarantine import quarantine_of
from sordino_server.runs import RunDirectory

# Which verdict it is, is chance, now and then; what may not be is `assert_no_evidence`'s matter.
VERDICTS = {
    ExitCode.OK,
    ExitCode.AUDIT_VIOLATION,
    ExitCode.AUDIT_SUSPECT,
    ExitCode.AUDIT_INCONCLUSIVE,
}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("audited"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def run(federation: Federation) -> RunDirectory:
    return finished(federation)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A federation with one run, in which one site added half the noise."""
    made = Federation(tmp_path_factory.mktemp("broken"))
    with_half_the_noise(made, "b")
    finished(made)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


def test_a_run_is_audited_reported_and_shown(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports, page = tmp_path / "reports", tmp_path / "audit.html"
    assert audit("run", run.path, "--reports", reports, "--html", page) in VERDICTS
    said = capsys.readouterr()
    document = read_document((run.path / AUDIT).read_bytes(), source="audit.json")
    assert_no_evidence(document)
    assert document.sentence in said.err
    assert document.hash in said.out
    assert (document.kind, document.run_id) == ("run", run.run_id)
    assert document.provenance.job_sha256 == run.manifest().job.digest
    assert len(document.attacks[0].inserted) + len(document.attacks[0].held_out) == 3 * LANES
    assert Series(reports).latest().document == document
    assert document.hash in page.read_text(encoding="utf-8")
    assert quarantine_of(run) is None

    assert audit("show", "--reports", reports, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == document.model_dump(mode="json")
    assert audit("show", "all", "--reports", reports, "-o", "json") == 0
    assert [row["subject"] for row in json.loads(capsys.readouterr().out)] == [run.run_id]
    assert audit("verify", reports, "--head", document.hash, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["holds"] is True


def test_the_second_audit_follows_on_the_first_and_counts_no_run_twice(
    run: RunDirectory, tmp_path: Path
) -> None:
    for _ in range(2):
        assert audit("run", run.path, "--reports", tmp_path / "reports") in VERDICTS
    first, second = Series(tmp_path / "reports").reports()
    assert second.document.previous == first.document.hash
    assert first.document.e_values == second.document.e_values
    assert {each.site for each in first.document.e_values} == {"a", "b", "c"}


def test_evidence_adds_up_over_runs(
    federation: Federation, run: RunDirectory, tmp_path: Path
) -> None:
    other = finished(federation)
    for each in (run, other):
        assert audit("run", each.path, "--reports", tmp_path / "reports") in VERDICTS
    last = Series(tmp_path / "reports").latest().document
    assert {len(each.history) for each in last.e_values} == {2}


def test_a_violation_is_9_and_quarantines_the_model(
    broken: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = broken.runs.all()
    assert audit("run", run.path) == ExitCode.AUDIT_VIOLATION
    document = read_document((run.path / AUDIT).read_bytes(), source="audit.json")
    assert document.verdict.value == "violation"
    held = quarantine_of(run)
    assert held is not None
    assert (held.audit_hash, held.reason) == (document.hash, document.sentence)
    assert "The promise was broken" in capsys.readouterr().err


def test_new_runs_are_audited_once(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mute = finished(federation, CHEAP_JOB.replace("lanes = 8", "lanes = 0"))
    fresh, queued = finished(federation), federation.submit()
    runs = fresh.path.parent
    capsys.readouterr()
    code = audit("run", "--new", runs, "--reports", tmp_path / "reports", "-o", "json")
    assert code in VERDICTS
    audited = {row["run"] for row in json.loads(capsys.readouterr().out)}
    assert fresh.run_id in audited
    assert not {mute.run_id, queued.run_id} & audited
    assert (fresh.path / AUDIT).exists()
    assert audit("run", "--new", runs, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_run_that_cannot_be_audited_stops_no_other(
    federation: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    ruined, fresh = finished(federation), finished(federation)
    for reading in (ruined.path / "readings").iterdir():
        reading.unlink()
    capsys.readouterr()
    assert audit("run", "--new", fresh.path.parent, "-o", "json") == ExitCode.ERROR
    rows = {row["run"]: row["verdict"] for row in json.loads(capsys.readouterr().out)}
    assert rows[ruined.run_id] == "error"
    assert rows[fresh.run_id] != "error"
    (ruined.path / AUDIT).write_text("{}")


def test_a_site_audits_its_own_run_and_keeps_the_report(
    federation: Federation, run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = site_file(federation.sites["a"])
    page = tmp_path / "site.html"
    assert audit("run", run.run_id, "--site", site, "--html", page) in VERDICTS
    filed = site_series(load_config(site)).latest()
    document = filed.document
    assert_no_evidence(document)
    assert (document.kind, document.run_id) == ("site", run.run_id)
    assert filed.path.parent == federation.sites["a"].directory / "audits"
    assert stat.S_IMODE(filed.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    names = [each.name for each in document.measurements]
    assert names[:3] == ["noise in the lanes", "weight of a canary", "sampling rate"]
    assert "This page is for the site alone" in page.read_text(encoding="utf-8")
    capsys.readouterr()
    assert audit("run", "--new", "--site", site, "-o", "json") in VERDICTS
    assert run.run_id not in {row["run"] for row in json.loads(capsys.readouterr().out)}


def test_a_site_with_half_the_noise_finds_out_itself(broken: Federation) -> None:
    site = site_file(broken.sites["b"])
    (run,) = broken.runs.all()
    assert audit("run", run.run_id, "--site", site) == ExitCode.AUDIT_VIOLATION
    sound = site_file(broken.sites["a"])
    assert audit("run", run.run_id, "--site", sound) in VERDICTS
    assert_no_evidence(site_series(load_config(sound)).latest().document)


def test_a_site_that_took_no_part_says_so(
    federation: Federation, capsys: pytest.CaptureFixture[str]
) -> None:
    site = site_file(federation.sites["c"])
    assert audit("run", "train-none", "--site", site) == ExitCode.NOT_FOUND
    assert "never took part" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run"], 2, "sordino audit run --new"),
        (["run", "nowhere"], 5, "no such directory of a run"),
        (["run", "."], 5, "not a run's directory"),
        (["run", "--new"], 2, "audit.runs"),
        (["run", "--new", "nowhere"], 5, "no such directory of runs"),
        (["run", "--new", ".", "--html", "x.html"], 2, "of one audit"),
        (["run", ".", "--config", "nowhere.toml"], 5, "nowhere.toml"),
        (["show"], 2, "--reports"),
        (["show", "nowhere.json"], 5, "sordino audit show all"),
        (["verify", "nowhere"], 5, "no such directory of reports"),
        (["schedule", "nowhere", "--install", "systemd"], 5, "no such directory"),
        (["schedule", ".", "--install", "cron", "--every", "7m"], 2, "must divide 60"),
        (["replay", "job.toml", "--out", "x"], 2, "either --schema"),
    ],
)
def test_errors_say_what_to_do(
    arguments: list[str],
    code: int,
    says: str,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert audit(*arguments) == code
    assert says in capsys.readouterr().err


def test_tampering_is_8(run: RunDirectory, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    assert audit("run", run.path, "--reports", reports) in VERDICTS
    path = Series(reports).latest().path
    path.write_text(path.read_text().replace('"lower_bound": ', '"lower_bound": 1', 1))
    assert audit("verify", reports) == ExitCode.INTEGRITY
    assert audit("verify", path) == ExitCode.INTEGRITY
    assert audit("show", "--reports", reports) == ExitCode.INTEGRITY


def test_a_page_that_cannot_be_written_is_an_error(run: RunDirectory, tmp_path: Path) -> None:
    assert audit("run", run.path, "--html", tmp_path / "no" / "page.html") == ExitCode.USAGE


def test_a_schedule_is_printed_or_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    units = tmp_path / "units"
    asked = ("schedule", tmp_path, "--install", "systemd", "--every", "6h", "--directory", units)
    assert audit(*asked, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert not units.exists()
    assert audit(*asked) == 0
    for name in ("sordino-audit.service", "sordino-audit.timer"):
        assert (units / name).read_text() in printed
    assert "enable --now" in capsys.readouterr().err


def test_prints_the_published_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit("schema") == 0
    assert capsys.readouterr().out == schema_json()
