"""Training on synthetic records: no round, one evaluation, and only on runs of one's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from federation import SCHEMA, Federation, make_signer, trust
from small_synthesis import LOCAL, SUM, TABLE, TABLE_POLICY, synthesis_job, synthetic_job
from unruly import CrashError, dying_at, held, requests, spent

from sordino_protocols.certificate import read_certificate
from sordino_protocols.certificate_check import TrustedKeys, verify_certificate
from sordino_protocols.errors import InputError
from sordino_protocols.job import new_nonce, sign_job
from sordino_protocols.messages import Evaluate, RoundPlan
from sordino_protocols.rounds import RunState
from sordino_server.quarantine import quarantine_run
from sordino_server.questions import RunFailedError
from sordino_server.runs import CERTIFICATE, MODEL, STATEMENT, RunDirectory
from sordino_server.statement import Statement
from sordino_server.synthetic_source import find_source

# A lower one would be refused: two jobs of 4 and 4.
BUDGET = TABLE_POLICY.replace("epsilon = 8.0", "epsilon = 20.0")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    running = Federation(tmp_path, policy=BUDGET)
    yield running
    running.close()


def source_of(federation: Federation, section: str = LOCAL) -> RunDirectory:
    run = federation.submit(synthesis_job(section))
    federation.coordinator(run).execute()
    return run


@pytest.mark.parametrize("section", [LOCAL, SUM, TABLE], ids=["local", "sum", "table"])
def test_a_model_is_trained_without_a_round_and_evaluated_on_records(
    federation: Federation, section: str
) -> None:
    source = source_of(federation, section)
    before = spent(federation)
    run = federation.submit(synthetic_job(source.run_id))
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert run.model().shape == (4,)
    statement = run.read(STATEMENT, Statement)
    assert statement.synthesis is None
    for name in federation.sites:
        assert requests(federation, name, RoundPlan) == []
        assert len(requests(federation, name, Evaluate)) == 1
        assert spent(federation)[name] > before[name]
    assert held(federation) == 0


def test_what_it_learnt_holds_for_the_records(federation: Federation) -> None:
    """The label follows the first feature, in records and, but for noise, in synthetic ones."""
    run = federation.submit(synthetic_job(source_of(federation).run_id))
    federation.coordinator(run).execute()
    auc = run.read(STATEMENT, Statement).require_evaluation().metrics["auc"]
    assert auc.lower > 0.5
    weights = run.model()
    assert weights[0] > max(abs(weights[1]), abs(weights[2]))


def test_its_certificate_holds_and_names_the_source(federation: Federation) -> None:
    source = source_of(federation)
    run = federation.submit(synthetic_job(source.run_id))
    federation.coordinator(run).execute()
    certificate = read_certificate(run.artifact(CERTIFICATE))
    keys = TrustedKeys(
        server=trust(federation.server),
        sites=federation.trusted_sites,
        submitters=trust(federation.submitter),
    )
    assert verify_certificate(certificate, keys).problems == ()
    assert source.run_id in certificate.job.body
    without = certificate.model_copy(update={"model_sha256": None}).signed_by(federation.server)
    assert [each.field for each in verify_certificate(without, keys).problems] == ["model_sha256"]


def test_columns_may_be_left_out(federation: Federation) -> None:
    source = source_of(federation)
    run = federation.submit(synthetic_job(source.run_id, columns='columns = ["age", "pulse"]'))
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert run.model().shape == (3,)


def test_a_server_that_died_ends_with_the_same_model(federation: Federation) -> None:
    job = synthetic_job(source_of(federation).run_id)
    undisturbed = federation.submit(job)
    federation.coordinator(undisturbed).execute()
    run = federation.submit(job)
    dying = federation.grid({"b": dying_at(federation, "b", Evaluate, after=True)})
    with pytest.raises(CrashError):
        federation.coordinator(run, dying).execute()
    (run.path / MODEL).unlink()  # as if it had died a little earlier
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert run.model().tobytes() == undisturbed.model().tobytes()
    assert [len(site.ledger.charged(run.run_id)) for site in federation.sites.values()] == [1, 1, 1]


def test_sites_that_declare_other_columns_today_end_the_run_unpaid(
    federation: Federation,
) -> None:
    source = source_of(federation)
    before = spent(federation)
    for site in federation.sites.values():
        site.schema = SCHEMA.replace("max = 250", "max = 300")
        site.open()
    run = federation.submit(synthetic_job(source.run_id))
    with pytest.raises(RunFailedError, match="declare other columns today"):
        federation.coordinator(run).execute()
    assert spent(federation) == before
    assert held(federation) == 0


def test_only_a_finished_synthesis_of_ones_own_can_be_trained_on(federation: Federation) -> None:
    source = source_of(federation)
    trained = synthetic_job(source.run_id).file
    runs = federation.runs
    assert find_source(runs, trained, submitter="scientist").run_id == source.run_id
    with pytest.raises(InputError, match="there is no run"):
        find_source(runs, trained, submitter="somebody")
    with pytest.raises(InputError, match="no run 'synthesize-x' of yours"):
        find_source(runs, synthetic_job("synthesize-x").file, submitter="scientist")
    waiting = federation.submit(synthesis_job(LOCAL))
    with pytest.raises(InputError, match="is not done: it is queued"):
        find_source(runs, synthetic_job(waiting.run_id).file, submitter="scientist")
    model = federation.submit()
    with pytest.raises(InputError, match="is no synthesis of the data set 'heart'"):
        find_source(runs, synthetic_job(model.run_id).file, submitter="scientist")
    quarantine_run(source, reason="A promise was broken.", audit_hash="ab" * 32)
    with pytest.raises(InputError, match="is in quarantine"):
        find_source(runs, trained, submitter="scientist")


def test_somebody_elses_rows_are_not_trained_on_by_any_way(federation: Federation) -> None:
    """The gateway refuses at once; should it not, the run does, before a site is asked."""
    source = source_of(federation)
    other = make_signer("other")
    signed = sign_job(synthetic_job(source.run_id), other, purpose="train", nonce=new_nonce())
    for site in federation.sites.values():
        site.submitters = trust(federation.submitter, other)
        site.policy = BUDGET.replace('["scientist"]', '["scientist", "other"]')
        site.open()
    run = federation.runs.create(signed)
    with pytest.raises(RunFailedError, match="of yours"):
        federation.coordinator(run).execute()
    assert held(federation) == 0
