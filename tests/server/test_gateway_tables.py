"""Jobs that make tables at the gateway: queued, told, or refused at once."""

from collections.abc import Iterator

import pytest
from federation import make_signer
from gateway_desk import Desk, open_desk
from small_synthesis import count_job, mock_job, schema_of, synthesis_job, synthetic_job

from sordino.connection import Connection
from sordino_protocols.errors import InputError, SordinoError
from sordino_protocols.job import Job, new_nonce, sign_job
from sordino_protocols.rounds import RunEvent
from sordino_protocols.signing import Signer
from sordino_server.quarantine import QUARANTINE, quarantine_run
from sordino_server.runs import COUNTS, DESCRIPTIONS, GENERATOR, RunDirectory
from sordino_server.storage import write_whole
from sordino_server.table_facts import Counts, Descriptions


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("desk") / "federation") as running:
        yield running


@pytest.fixture
def connection(desk: Desk) -> Iterator[Connection]:
    with Connection(desk.profile) as open_connection:
        yield open_connection


def over(run: RunDirectory) -> RunDirectory:
    """The run as it is once it has tabulated and settled."""
    for event in (RunEvent.STARTED, RunEvent.ADMITTED_TO_TABULATE):
        run.advance(event, cohort=[])
    for event in (RunEvent.TABULATED, RunEvent.SETTLED):
        run.advance(event)
    return run


def synthesized(desk: Desk, signer: Signer | None = None) -> RunDirectory:
    """A finished synthesis, by default of the desk's submitter."""
    signed = sign_job(
        synthesis_job(), signer or desk.submitter, purpose="synthesize", nonce=new_nonce()
    )
    return over(desk.host.runs.create(signed))


@pytest.mark.parametrize(
    "job", [synthesis_job(), count_job(), mock_job()], ids=lambda job: job.purpose
)
def test_each_kind_is_queued_under_its_own_name(
    desk: Desk, connection: Connection, job: Job
) -> None:
    run = desk.host.runs.get(connection.submit(job))
    run.advance(RunEvent.GAVE_UP, reason="the test ends here")
    assert run.run_id.startswith(f"{job.purpose}-")
    assert run.manifest().purpose == job.purpose


def test_a_mock_has_no_price(connection: Connection) -> None:
    with pytest.raises(InputError, match="a mock costs nothing"):
        connection.price(mock_job())


def test_what_sites_declare_and_what_there_is_to_sample_is_told(
    desk: Desk, connection: Connection
) -> None:
    first, second = synthesized(desk), synthesized(desk)
    signed = sign_job(mock_job(), desk.submitter, purpose="mock", nonce=new_nonce())
    run = desk.host.runs.create(signed)
    run.save(DESCRIPTIONS, Descriptions(sites={"a": schema_of()}))
    run.advance(RunEvent.GAVE_UP, reason="the test ends here")
    told = connection.show(run.run_id)
    assert told["described"] == {"a": schema_of().model_dump(mode="json")}
    assert told["synthetic_runs"] == [second.run_id, first.run_id]
    quarantine_run(second, reason="A promise was broken.", audit_hash="ab" * 32)
    (synthesized(desk).path / QUARANTINE).write_text("touched")
    assert connection.show(run.run_id)["synthetic_runs"] == [first.run_id]


def test_counts_are_told_with_the_run(desk: Desk, connection: Connection) -> None:
    signed = sign_job(count_job(), desk.submitter, purpose="count", nonce=new_nonce())
    run = over(desk.host.runs.create(signed))
    counts = Counts(answers=(), sites=("a",), noise_std=2.0, confidence=0.95)
    run.save(COUNTS, counts)
    assert connection.show(run.run_id)["counts"] == counts.model_dump(mode="json")


def test_a_generator_can_be_fetched_until_it_is_in_quarantine(
    desk: Desk, connection: Connection
) -> None:
    run = synthesized(desk)
    write_whole(run.path / GENERATOR, b"a generator")
    assert connection.fetch(run.run_id, GENERATOR) == b"a generator"
    quarantine_run(run, reason="A promise was broken.", audit_hash="ab" * 32)
    with pytest.raises(SordinoError, match="is withheld"):
        connection.fetch(run.run_id, GENERATOR)


def test_training_on_what_is_not_there_is_refused_before_it_is_queued(
    desk: Desk, connection: Connection
) -> None:
    others = synthesized(desk, make_signer("somebody"))
    before = len(desk.host.runs.all())
    for run_id in ("synthesize-x", others.run_id):
        with pytest.raises(InputError, match="there is no run"):
            connection.submit(synthetic_job(run_id))
    assert len(desk.host.runs.all()) == before
    run = desk.host.runs.get(connection.submit(synthetic_job(synthesized(desk).run_id)))
    run.advance(RunEvent.GAVE_UP, reason="the test ends here")
    assert run.manifest().purpose == "train"
