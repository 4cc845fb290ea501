"""`sordino audit run` on a real run: the memory of ledgers, and its exit code."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import Federation

from sordino_audit.audit_runs import AUDIT, HEADS
from sordino_audit.cli import audit_app
from sordino_audit.heads import HeadMemory, SeenHead
from sordino_protocols.certificate_facts import head_facts
from sordino_protocols.errors import ExitCode
from sordino_protocols.heads import sign_head
from sordino_protocols.terminal import run_command
from sordino_server.runs import CERTIFICATE, RunDirectory


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("audited"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def run(federation: Federation) -> RunDirectory:
    finished = federation.submit()
    federation.coordinator(finished).execute()
    return finished


def audited(run: RunDirectory, *options: str) -> int:
    """The exit code; what eight lanes find is chance, so only 8 means anything here."""

    def command() -> int:
        result = audit_app(["run", str(run.path), *options], standalone_mode=False)
        return result if isinstance(result, int) else 0

    return run_command(command)


def test_remembers_the_heads_of_every_site(run: RunDirectory) -> None:
    assert audited(run) != ExitCode.INTEGRITY
    memory = HeadMemory.model_validate_json((run.path.parent / HEADS).read_bytes())
    assert set(memory.sites) == {"a", "b", "c"}
    assert all(len(site.heads) == 2 for site in memory.sites.values())
    assert audited(run) != ExitCode.INTEGRITY


def test_a_ledger_that_was_longer_before_is_8(
    federation: Federation,
    run: RunDirectory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    heads = tmp_path / "heads.json"
    assert audited(run, "--heads", str(heads)) != ExitCode.INTEGRITY
    memory = HeadMemory.model_validate_json(heads.read_bytes())
    long_ago = "2020-01-01T00:00:00.000+00:00"
    lost = sign_head(federation.sites["a"].signer, length=10**6, hash="0d" * 32)
    seen = SeenHead(run_id="run-0", after=long_ago, before=long_ago, head=head_facts(lost))
    site = memory.sites["a"].model_copy(update={"heads": (seen,)})
    changed = memory.model_copy(update={"sites": {**memory.sites, "a": site}})
    heads.write_text(changed.model_dump_json())
    capsys.readouterr()
    assert audited(run, "--heads", str(heads)) == ExitCode.INTEGRITY
    assert "regression: the ledger of site a had 1000000 entries" in capsys.readouterr().err
    findings = json.loads((run.path / AUDIT).read_bytes())["findings"]
    assert "ledger" in {finding["check"] for finding in findings}


def test_a_run_without_a_certificate_is_audited_all_the_same(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = run.path / CERTIFICATE
    content = certificate.read_bytes()
    certificate.unlink()
    try:
        assert audited(run, "--heads", str(tmp_path / "x")) != ExitCode.INTEGRITY
    finally:
        certificate.write_bytes(content)
    assert "no certificate" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
