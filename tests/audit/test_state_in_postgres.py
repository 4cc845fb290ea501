"""A server whose runs and remembered heads lie in a real PostgreSQL, and the audit of one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from audited_federation import finished
from federation import Federation
from postgres import Cluster, postgres_cluster

from sordino_audit.audit_config import AuditConfig
from sordino_audit.audit_runs import AUDIT, audit_one, new_runs, open_runs
from sordino_protocols.errors import InputError
from sordino_protocols.rounds import RunState
from sordino_server.database_storage import Database, DatabaseStorage
from sordino_server.quarantine import quarantine_of, quarantine_run
from sordino_server.runs import CERTIFICATE, MODEL, STATEMENT, RunDirectory
from sordino_server.statement import Statement


class CrashError(Exception):
    """The server died here."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres_cluster() as cluster:
        yield cluster


@pytest.fixture
def url(cluster: Cluster) -> sa.URL:
    return cluster.new_database()


@pytest.fixture
def federation(url: sa.URL, tmp_path: Path) -> Iterator[Federation]:
    database = Database(url)
    database.open()
    made = Federation(tmp_path, state=DatabaseStorage(database))
    yield made
    made.close()
    database.close()


@pytest.fixture
def auditor(url: sa.URL, tmp_path: Path) -> AuditConfig:
    url_file = tmp_path / "state.url"
    url_file.write_text(url.render_as_string(hide_password=False) + "\n")
    url_file.chmod(0o600)
    return AuditConfig(
        reports=tmp_path / "reports", heads=tmp_path / "heads.json", state_url_file=url_file
    )


def test_a_run_in_a_database_survives_its_server_and_is_audited(
    federation: Federation, auditor: AuditConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save = RunDirectory.save_checkpoint
    saved: list[object] = []

    def crash(self: RunDirectory, state: object) -> None:
        if len(saved) == 1:
            saved.append(self)
            raise CrashError
        saved.append(self)
        save(self, state)  # type: ignore[arg-type]  # it comes from the real caller

    with monkeypatch.context() as dying:
        dying.setattr(RunDirectory, "save_checkpoint", crash)
        with pytest.raises(CrashError):
            finished(federation)
    (run,) = federation.runs.all()
    assert run.state() is RunState.TRAINING
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert run.has(MODEL)
    assert run.has(CERTIFICATE)
    receipts = run.read(STATEMENT, Statement).receipts
    assert {name: site.spent for name, site in federation.sites.items()} == {
        name: pytest.approx(each.budget_spent) for name, each in receipts.items()
    }
    assert {
        name: federation.heads.get(name) is not None for name in federation.sites
    } == dict.fromkeys(federation.sites, True)
    # Nothing of the server lies in a file.
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "heads").exists()

    found = new_runs(open_runs(auditor))
    assert [each.run_id for each in found] == [run.run_id]
    done = audit_one(found[0], auditor)
    assert run.content(AUDIT)
    assert done.document.sentence
    assert new_runs(open_runs(auditor)) == []


def test_a_quarantine_in_a_database_is_seen_by_all(federation: Federation) -> None:
    run = finished(federation)
    quarantine_run(run, reason="it was shown to break its claim", audit_hash="ab" * 32)
    (again,) = federation.runs.all()
    assert quarantine_of(again) is not None


def test_an_auditor_needs_a_place_of_its_own(federation: Federation, auditor: AuditConfig) -> None:
    run = finished(federation)
    without = AuditConfig(reports=auditor.reports, state_url_file=auditor.state_url_file)
    with pytest.raises(InputError, match=r"set audit\.heads in audit\.toml"):
        audit_one(run, without)
    with pytest.raises(InputError, match="no directory of files"):
        _ = run.path
