"""A site's audit from its own files: the pinned job, the coins, the notes and the outbox."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from one_site import JOB, OneSite, make_job, round_plan

from sordino_audit.e_value_store import EValueStore
from sordino_audit.findings import Severity, Verdict
from sordino_audit.site_audit import audit_site_run
from sordino_client.admitted import AdmittedRuns
from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_protocols.messages import Update

WITHOUT_LANES = JOB.replace("lanes = 8", "lanes = 0")
MANY_LANES = JOB.replace("lanes = 8", "lanes = 200")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneSite]:
    """A site that took part in all three rounds of one run, and was admitted to another."""
    made = OneSite(tmp_path_factory.mktemp("site"))
    made.prepare()
    made.open()
    job, other = make_job(MANY_LANES), make_job(WITHOUT_LANES)
    made.ask(made.admit("run-1", job))
    made.ask(made.admit("run-2", other))
    for number in (1, 2, 3):
        assert isinstance(made.ask(round_plan(number, job=job)), Update)
    yield made
    made.close()


def test_a_run_is_audited_from_what_lies_at_the_site(site: OneSite, tmp_path: Path) -> None:
    store = EValueStore(tmp_path / "e-values.json")
    audit = audit_site_run(site.config, "run-1", confidence=0.95, weigh=store.weigh("run-1"))
    run = AdmittedRuns(site.config.site.state / "runs").get("run-1")
    assert run is not None
    assert (audit.site, audit.run_id, audit.rounds_seen) == (site.config.site.name, "run-1", 3)
    assert audit.claim == run.job.file.guarantee
    assert audit.counts.inserted == int(run.coins.sum()) * 3
    assert "witness" not in {each.check for each in audit.findings}
    assert audit.ceiling < audit.claim.epsilon
    assert (tmp_path / "e-values.json").exists()


def test_a_note_that_is_missing_is_a_finding(site: OneSite) -> None:
    (note,) = (site.config.witness_path / "run-1").glob("round-000002*")
    content = note.read_bytes()
    note.unlink()
    try:
        audit = audit_site_run(site.config, "run-1", confidence=0.95)
    finally:
        note.write_bytes(content)
    # The noise is the product's own: other findings are as rare as they say, and not impossible.
    assert audit.verdict in {Verdict.SUSPECT, Verdict.VIOLATION}
    (finding,) = [each for each in audit.findings if each.check == "witness"]
    assert finding.severity is Severity.SUSPECT
    assert "first being 2" in finding.message


def test_a_note_that_is_damaged_is_refused(site: OneSite) -> None:
    (note,) = (site.config.witness_path / "run-1").glob("round-000003*")
    content = note.read_bytes()
    note.write_bytes(content[:100])
    try:
        with pytest.raises(IntegrityError, match="round-000003"):
            audit_site_run(site.config, "run-1", confidence=0.95)
    finally:
        note.write_bytes(content)


def test_runs_that_cannot_be_audited_say_why(site: OneSite) -> None:
    with pytest.raises(NotFoundError, match="never took part in run run-9"):
        audit_site_run(site.config, "run-9", confidence=0.95)
    with pytest.raises(InputError, match="no canary lanes"):
        audit_site_run(site.config, "run-2", confidence=0.95)
