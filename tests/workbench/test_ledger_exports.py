"""Certificates against exported ledgers, of a real run at real sites."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from federation import Federation

from sordino.ledger_exports import check_export
from sordino_client.chain_store import read_rows
from sordino_client.ledger_export import Export, export_lines, read_export
from sordino_protocols.certificate import Certificate, read_certificate
from sordino_protocols.certificate_problems import Ground, Problem


@dataclass(frozen=True)
class Finished:
    """A run, and the exported ledger of site a before and after it."""

    federation: Federation
    certificate: Certificate
    before: Path
    after: Path

    def problems(self, export: Export) -> list[Problem]:
        return [*check_export(self.certificate, export, self.federation.trusted_sites)]


def _export(federation: Federation, path: Path) -> Path:
    site = federation.sites["a"]
    lines = export_lines(read_rows(site.directory / "ledger.db"), site.signer)
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    directory = tmp_path_factory.mktemp("exports")
    federation = Federation(directory)
    before = _export(federation, directory / "before.jsonl")
    run = federation.submit()
    federation.coordinator(run).execute()
    certificate = read_certificate(run.artifact("certificate.json"))
    yield Finished(federation, certificate, before, _export(federation, directory / "after.jsonl"))
    federation.close()


def test_the_ledger_bears_the_certificate_out(finished: Finished) -> None:
    assert finished.problems(read_export(finished.after)) == []
    assert [*check_export(finished.certificate, read_export(finished.after), None)] == []


def test_a_ledger_that_lost_the_run_is_found(finished: Finished) -> None:
    fields = {problem.field for problem in finished.problems(read_export(finished.before))}
    assert fields == {"sites.a.claims.ledger_admitted", "sites.a.claims.ledger_settled"}


def test_an_event_that_was_not_declared_is_found(finished: Finished) -> None:
    site = finished.certificate.sites["a"]
    fewer = site.claims.model_copy(update={"releases": site.claims.releases[1:]})
    sites = {"a": site.model_copy(update={"claims": fewer})}
    certificate = finished.certificate.model_copy(update={"sites": sites})
    found = [*check_export(certificate, read_export(finished.after), None)]
    assert [problem.field for problem in found] == ["sites.a.claims.releases"]
    assert found[0].ground is Ground.CLAIM


def test_a_changed_export_is_found(finished: Finished, tmp_path: Path) -> None:
    lines = finished.after.read_text().splitlines(keepends=True)
    path = tmp_path / "cut.jsonl"
    path.write_text("".join(lines[:-1]))
    (problem,) = finished.problems(read_export(path))
    assert problem.field == "sites.a"
    assert problem.ground is Ground.INTEGRITY


def test_another_sites_export_is_found(finished: Finished) -> None:
    export = read_export(finished.after)
    (problem,) = finished.problems(replace(export, site="nobody"))
    assert problem.field == "sites"
    (problem,) = finished.problems(replace(export, site="b"))
    assert problem.field == "sites.b"
