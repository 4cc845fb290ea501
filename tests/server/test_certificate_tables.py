"""Certificates of runs that made a table: what follows from the job is held against it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from federation import Federation, trust
from small_synthesis import SUM, TABLE_POLICY, count_job, synthesis_job
from unruly import away_for

from sordino.certificate_page import render
from sordino_protocols.certificate import Certificate, read_certificate
from sordino_protocols.certificate_check import TrustedKeys, check_job_file, verify_certificate
from sordino_protocols.certificate_facts import TableClaims
from sordino_protocols.messages import Tabulate
from sordino_server.certificate import issue
from sordino_server.runs import CERTIFICATE

Change = Callable[[TableClaims], TableClaims | None]


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    running = Federation(tmp_path_factory.mktemp("federation"), policy=TABLE_POLICY)
    yield running
    running.close()


@pytest.fixture(scope="module")
def summed(federation: Federation) -> Certificate:
    """Of a sum in which one site is missing."""
    run = federation.submit(synthesis_job(SUM, epsilon=2.0))
    grid = federation.grid({"b": away_for(federation, "b", Tabulate)})
    federation.coordinator(run, grid).execute()
    return read_certificate(run.artifact(CERTIFICATE))


@pytest.fixture(scope="module")
def counted(federation: Federation) -> Certificate:
    run = federation.submit(count_job(epsilon=2.0))
    federation.coordinator(run).execute()
    again = issue(run, federation.server, federation.trusted_sites)
    assert again.table == read_certificate(run.artifact(CERTIFICATE)).table
    return again


def trusted(federation: Federation) -> TrustedKeys:
    return TrustedKeys(
        server=trust(federation.server),
        sites=federation.trusted_sites,
        submitters=trust(federation.submitter),
    )


def found(federation: Federation, certificate: Certificate, change: Change) -> list[str]:
    """The fields that are said to be wrong once the server has signed something else."""
    assert certificate.table is not None
    changed = certificate.model_copy(update={"table": change(certificate.table)})
    verification = verify_certificate(changed.signed_by(federation.server), trusted(federation))
    return [problem.field for problem in verification.problems]


def saying(**claims: object) -> Change:
    return lambda table: table.model_copy(update=claims)


def test_both_epsilons_of_a_sum_are_in_it(federation: Federation, summed: Certificate) -> None:
    table = summed.table
    assert table is not None
    assert (table.mode, table.generator) == ("sum", "mixture")
    assert (table.sites, table.missing) == (("a", "c"), ("b",))
    assert 0 < table.epsilon < table.epsilon_without_masks <= 2 * (1 + 1e-9)
    assert found(federation, summed, lambda claims: claims) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda table: table.model_copy(update={"epsilon": 0.9 * table.epsilon}), "table.epsilon"),
        (
            lambda table: table.model_copy(update={"epsilon_without_masks": table.epsilon}),
            "table.epsilon_without_masks",
        ),
        (saying(mode="local"), "table.mode"),
        (saying(generator="nade"), "table.generator"),
        (saying(missing=()), "table.missing"),
        (saying(sites=("a", "c", "elsewhere")), "table.sites"),
        (saying(files={}), "table.files"),
        (lambda _: None, "table"),
    ],
)
def test_a_server_that_says_something_else_is_found(
    federation: Federation, summed: Certificate, change: Change, field: str
) -> None:
    assert found(federation, summed, change) == [field]


def test_more_silent_sites_than_the_noise_allows_for_are_found(
    federation: Federation, summed: Certificate
) -> None:
    lonely = saying(sites=("a",), missing=("b", "c"))
    assert found(federation, summed, lonely) == ["table.missing"]


def test_the_job_file_need_not_say_what_the_command_fills_in(summed: Certificate) -> None:
    file = synthesis_job(SUM, epsilon=2.0).file
    section = file.require_synthesis()
    written = section.model_copy(update={"schema_sha256": None, "shape": None})
    assert [*check_job_file(summed, file.model_copy(update={"synthesis": written}))] == []
    for other in ({"silent": 0}, {"schema_sha256": "0a" * 32}):
        changed = file.model_copy(update={"synthesis": section.model_copy(update=other)})
        assert [problem.field for problem in check_job_file(summed, changed)] == ["job.body"]
    without = file.model_copy(update={"synthesis": None})
    assert [problem.field for problem in check_job_file(summed, without)] == ["job.body"]


def test_counts_have_one_epsilon_and_no_generator(
    federation: Federation, counted: Certificate
) -> None:
    table = counted.table
    assert table is not None
    assert (table.mode, table.generator, table.missing) == (None, None, ())
    assert set(table.files) == {"counts.json", "tables.safetensors"}
    assert found(federation, counted, lambda claims: claims) == []
    assert found(federation, counted, saying(missing=("b",))) == ["table.missing", "table.missing"]


def test_the_page_tells_what_was_released(
    federation: Federation, summed: Certificate, counted: Certificate, tmp_path: Path
) -> None:
    page = render(summed, verify_certificate(summed, trusted(federation)))
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    for words in ("The certificate holds.", "under masks", "mixture of products", "Silent sites"):
        assert words in page
    assert "How good the model is" not in page
    assert "discrete Gaussian noise on counts, " in page
    other = render(counted, verify_certificate(counted, trusted(federation)))
    assert "counting queries with noise" in other
    assert "under masks" not in other
