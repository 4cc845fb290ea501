"""Certificates of whole runs: issued at the end, by real sites, verified with nothing but keys."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from certified import made, receipt
from federation import Federation, make_job, trust
from one_site import POLICY
from small_job import validating

from sordino_protocols.certificate import read_certificate
from sordino_protocols.certificate_check import (
    TrustedKeys,
    check_model,
    verify_certificate,
)
from sordino_protocols.errors import ExitCode
from sordino_protocols.job import weights_digest
from sordino_protocols.messages import Receipt
from sordino_protocols.model_file import ReleasedModel, write_model
from sordino_protocols.rounds import RunState
from sordino_server.certificate import issue
from sordino_server.runs import CERTIFICATE, MODEL, RunDirectory


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made_up = Federation(tmp_path)
    yield made_up
    made_up.close()


def trusted(federation: Federation) -> TrustedKeys:
    return TrustedKeys(
        server=trust(federation.server),
        sites=federation.trusted_sites,
        submitters=trust(federation.submitter),
    )


def finished(federation: Federation) -> RunDirectory:
    run = federation.submit()
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    return run


def test_a_run_leaves_a_certificate_that_holds(federation: Federation) -> None:
    run = finished(federation)
    certificate = read_certificate(run.artifact(CERTIFICATE))
    found = verify_certificate(certificate, trusted(federation))
    assert found.problems == ()
    assert found.notes == ()
    assert certificate.run_id == run.run_id
    assert certificate.job.digest == run.job().digest()
    assert [*check_model(certificate, (run.path / MODEL).read_bytes())] == []
    assert [*check_model(certificate, b"another model")] != []


def test_what_every_site_charged_is_in_it(federation: Federation) -> None:
    certificate = read_certificate(finished(federation).artifact(CERTIFICATE))
    assert set(certificate.sites) == {"a", "b", "c"}
    for site in certificate.sites.values():
        claims = site.claims
        assert claims.is_settled
        assert 0 < claims.epsilon_spent_pld <= claims.epsilon_planned <= certificate.job.epsilon
        assert sum(release.times for release in claims.releases) == 4
        assert claims.budget is not None
        assert claims.budget.spent + claims.budget.left <= claims.budget.limit * (1 + 1e-9)
    table = certificate.composition.table
    assert [entry.sites for entry in table] == [1, 2, 3]
    epsilons = [entry.epsilon for entry in table]
    # More than one site costs more, and less than the sum.
    assert epsilons == sorted(epsilons)
    assert epsilons[2] < 3 * epsilons[0]
    rates = [entry.bound.true_positive_rate for entry in table]
    assert rates == sorted(rates)


def test_it_is_issued_again_with_the_same_claims(federation: Federation) -> None:
    run = finished(federation)
    first = read_certificate(run.artifact(CERTIFICATE))
    second = issue(run, federation.server, federation.trusted_sites)
    changed = {"issued_at": first.issued_at, "signature": first.signature}
    assert second.model_copy(update=changed) == first


def test_a_receipt_that_was_changed_on_the_servers_disk_is_found(federation: Federation) -> None:
    run = finished(federation)
    certificate = read_certificate(run.artifact(CERTIFICATE))
    other = read_certificate(finished(federation).artifact(CERTIFICATE))
    moved = certificate.sites["a"].model_copy(update={"receipt": other.sites["a"].receipt})
    forged = certificate.model_copy(update={"sites": {**certificate.sites, "a": moved}})
    found = verify_certificate(forged.signed_by(federation.server), trusted(federation))
    assert found.exit_code is ExitCode.INTEGRITY
    assert any(
        problem.field == "sites.a.receipt" and "another run_id" in problem.reason
        for problem in found.problems
    )


@pytest.mark.parametrize(
    "change",
    [
        {"events_json": "[{}]"},
        {"events_json": "no json"},
        {"events_json": "[" * 5000},
        {"events_json": '[{"event":"magic","version":2}]'},
        {"approvals_json": "{}"},
        {"approvals_json": '[{"approver":"alice"}]'},
    ],
)
def test_a_hostile_receipt_cannot_spoil_a_certificate(change: dict[str, str]) -> None:
    def hostile(found: Receipt) -> Receipt:
        return replace(found, **change)  # type: ignore[arg-type]

    issued = made().changed("va", hostile).certificate()
    assert not issued.sites["va"].claims.is_settled
    assert issued.sites["va"].receipt is None
    assert issued.sites["cleveland"].claims.is_settled
    spent = issued.sites["va"].claims.epsilon_spent_pld
    assert spent == pytest.approx(receipt("va").epsilon_spent_pld)


def test_a_validation_is_certified_with_the_model_that_it_brought(tmp_path: Path) -> None:
    policy = POLICY.replace('kinds = ["train"]', 'kinds = ["train", "validate"]')
    federation = Federation(tmp_path, policy=policy)
    weights = np.array([6.0, 0.0, 0.0, 0.0])
    text = validating(weights_digest(weights.astype(np.float32), np.zeros(0, np.float32)))
    job = make_job(
        text.replace(
            'sites = ["cleveland", "va"]\nquorum = 2',
            "quorum = 2\ndeadline_seconds = 60\ngrace_seconds = 0",
        )
    )
    run = federation.submit(job, brought=ReleasedModel(weights, None))
    federation.coordinator(run).execute()
    certificate = read_certificate(run.artifact(CERTIFICATE))
    assert certificate.job.kind == "validate"
    assert verify_certificate(certificate, trusted(federation)).problems == ()
    assert {
        release.times for site in certificate.sites.values() for release in site.claims.releases
    } == {1}
    for model, problems in ((weights, 0), (-weights, 1)):
        content = write_model(ReleasedModel(model, None), job_digest="", run_id="vendor")
        assert len([*check_model(certificate, content)]) == problems
    assert len([*check_model(certificate, b"no model")]) == 1
    federation.close()
