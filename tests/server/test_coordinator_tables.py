"""Runs that make a table: synthesis in its three modes, counting queries, and mocks."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from federation import Federation, trust
from safetensors.numpy import load
from small_synthesis import (
    LOCAL,
    SUM,
    TABLE,
    TABLE_POLICY,
    count_job,
    mock_job,
    schema_of,
    synthesis_job,
)
from unruly import CrashError, asked, away_for, dying_at, held, requests, restarting, spent

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.certificate import read_certificate
from sordino_protocols.certificate_check import TrustedKeys, check_model, verify_certificate
from sordino_protocols.messages import (
    Admit,
    Describe,
    Message,
    Refusal,
    Refused,
    RoundPlan,
    Settle,
    Tabulate,
    Tabulated,
    Unmask,
)
from sordino_protocols.rounds import RunState
from sordino_protocols.synthesis.generator_file import read_generator
from sordino_protocols.wire import open_sealed, seal
from sordino_server.local_grid import Answerer
from sordino_server.questions import RunFailedError
from sordino_server.runs import (
    CERTIFICATE,
    COUNTS,
    DESCRIPTIONS,
    GENERATOR,
    ROWS,
    STATEMENT,
    SYNTHESIS,
    TABLES,
    RunDirectory,
)
from sordino_server.statement import Statement
from sordino_server.table_facts import Counts, Descriptions, SynthesisFacts

SITES = {"a", "b", "c"}
UNITS = 150
"""Training records of each of the federation's sites."""


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    running = Federation(tmp_path, policy=TABLE_POLICY)
    yield running
    running.close()


def finished(federation: Federation, section: str) -> RunDirectory:
    run = federation.submit(synthesis_job(section))
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    return run


def refusing(federation: Federation, name: str, kind: type[Message]) -> Answerer:
    """A site that says no when it is asked this."""
    site = federation.sites[name]

    def answer(envelope: bytes) -> bytes:
        message = asked(federation, envelope)
        if isinstance(message, kind):
            return seal(Refused(message.run_id, Refusal.INTERNAL), site.signer)
        return site.answer(envelope)

    return answer


def problems(federation: Federation, run: RunDirectory) -> tuple[str, ...]:
    keys = TrustedKeys(
        server=trust(federation.server),
        sites=federation.trusted_sites,
        submitters=trust(federation.submitter),
    )
    certificate = read_certificate(run.artifact(CERTIFICATE))
    return tuple(each.field for each in verify_certificate(certificate, keys).problems)


# ------------------------------------------------------------------ synthesis


def test_local_marginals_become_one_generator_for_all_sites(federation: Federation) -> None:
    run = finished(federation, LOCAL)
    facts = run.read(SYNTHESIS, SynthesisFacts)
    assert set(facts.sites) == set(facts.tables) == SITES
    assert facts.missing == ()
    for table in facts.tables.values():
        # Five standard deviations of an estimate that is as good as normal: 6e-7 for each.
        assert abs(table.units - UNITS) < 5 * table.units_std
        assert table.chi_squared_per_cell > 0
    assert facts.epsilon == facts.epsilon_without_masks <= 4 * (1 + 1e-9)
    tables = load(run.artifact(TABLES))
    assert set(tables) == SITES
    assert {each.dtype for each in tables.values()} == {np.dtype(np.int32)}
    generator = read_generator(run.artifact(GENERATOR))
    rows = generator.sample(50, rng=np.random.default_rng(1))
    assert rows.shape == (50, 4)
    assert generator.schema.synthesis_digest() == schema_of().synthesis_digest()


@pytest.mark.parametrize("section", [LOCAL, SUM, TABLE], ids=["local", "sum", "table"])
def test_one_release_is_asked_for_and_paid_and_nothing_stays_held(
    federation: Federation, section: str
) -> None:
    run = finished(federation, section)
    statement = run.read(STATEMENT, Statement)
    assert statement.evaluation is None
    assert statement.synthesis is not None
    for name, receipt in statement.receipts.items():
        assert 0 < receipt.epsilon_spent_pld <= receipt.epsilon_planned <= 4 * (1 + 1e-9)
        assert len(json.loads(receipt.events_json)) == 1
        assert requests(federation, name, RoundPlan) == []
        assert len(requests(federation, name, Tabulate)) == 1
    assert held(federation) == 0
    assert problems(federation, run) == ()


def test_rows_that_sites_made_are_kept_as_rows(federation: Federation) -> None:
    run = finished(federation, TABLE)
    facts = run.read(SYNTHESIS, SynthesisFacts)
    assert facts.rows == dict.fromkeys(sorted(SITES), 40)
    assert facts.tables == {}
    rows = load(run.artifact(ROWS))
    assert {each.shape for each in rows.values()} == {(40, 4)}
    assert not (run.path / GENERATOR).exists()
    assert not (run.path / TABLES).exists()


def test_the_certificate_names_every_file_that_came_of_it(federation: Federation) -> None:
    run = finished(federation, LOCAL)
    certificate = read_certificate(run.artifact(CERTIFICATE))
    assert certificate.evaluation is None
    assert certificate.model_sha256 is None
    assert certificate.table is not None
    assert certificate.table.files == {
        name: hashlib.sha256(run.artifact(name)).hexdigest() for name in (GENERATOR, TABLES)
    }
    assert [*check_model(certificate, run.artifact(GENERATOR))] == []
    assert [*check_model(certificate, b"another file")] != []


# ------------------------------------------------------------------ the sum


def test_of_a_sum_the_server_sees_one_table_with_all_units(federation: Federation) -> None:
    run = finished(federation, SUM)
    facts = run.read(SYNTHESIS, SynthesisFacts)
    assert set(facts.tables) == {"sum"}
    table = facts.tables["sum"]
    assert abs(table.units - 3 * UNITS) < 5 * table.units_std
    plan = run.job().plan.require_synthesis()
    assert facts.epsilon == epsilon_by_pld(plan.whole_event, 1e-5)
    # The ledger pays for what a site would lose if nobody else kept to the protocol.
    assert facts.epsilon < facts.epsilon_without_masks <= 4 * (1 + 1e-9)
    receipt = run.read(STATEMENT, Statement).receipts["a"]
    assert receipt.epsilon_spent_pld == pytest.approx(facts.epsilon_without_masks)
    assert all(requests(federation, name, Unmask) == [] for name in SITES)


def test_a_masked_table_alone_is_noise(federation: Federation) -> None:
    """Each of 16 equal cells of 32-bit numbers; chi-square fails with probability 1e-9."""
    run = finished(federation, SUM)
    masked = load((run.path / "masked.safetensors").read_bytes())
    assert set(masked) == SITES
    numbers = np.concatenate([each.view(np.uint32) for each in masked.values()])
    counts = np.bincount(numbers >> 28, minlength=16)
    expected = len(numbers) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 75.6
    # Unmasked numbers are small: the same test would find them.
    total = load(run.artifact(TABLES))["sum"]
    assert np.bincount(total.view(np.uint32) >> 28, minlength=16).max() > len(total) / 2


def test_a_sum_bears_as_many_silent_sites_as_its_noise_was_made_for(
    federation: Federation,
) -> None:
    run = federation.submit(synthesis_job(SUM))
    grid = federation.grid({"b": away_for(federation, "b", Tabulate)})
    federation.coordinator(run, grid).execute()
    facts = run.read(SYNTHESIS, SynthesisFacts)
    assert facts.sites == ("a", "c")
    assert facts.missing == ("b",)
    table = facts.tables["sum"]
    assert abs(table.units - 2 * UNITS) < 5 * table.units_std
    assert [len(requests(federation, name, Unmask)) for name in "abc"] == [1, 0, 1]
    assert held(federation) == 0
    assert problems(federation, run) == ()


def test_with_one_more_silent_the_sum_fails_and_no_mask_is_asked_for(
    federation: Federation,
) -> None:
    run = federation.submit(synthesis_job(SUM))
    grid = federation.grid({name: refusing(federation, name, Tabulate) for name in "bc"})
    with pytest.raises(RunFailedError, match="the job needs 2"):
        federation.coordinator(run, grid).execute()
    assert all(requests(federation, name, Unmask) == [] for name in SITES)


def test_who_was_called_missing_stays_so_when_the_server_comes_back(
    federation: Federation,
) -> None:
    run = federation.submit(synthesis_job(SUM))
    grid = federation.grid(
        {
            "b": away_for(federation, "b", Tabulate),
            "c": dying_at(federation, "c", Unmask, after=True),
        }
    )
    with pytest.raises(CrashError):
        federation.coordinator(run, grid).execute()
    # By now b is back, and would answer.
    federation.coordinator(run).execute()
    facts = run.read(SYNTHESIS, SynthesisFacts)
    assert facts.missing == ("b",)
    assert requests(federation, "b", Tabulate) == []
    assert len(set(requests(federation, "c", Unmask))) == 1
    assert len(requests(federation, "c", Tabulate)) == 1


def test_a_mask_that_is_kept_back_ends_the_sum(federation: Federation) -> None:
    run = federation.submit(synthesis_job(SUM))
    grid = federation.grid(
        {"b": refusing(federation, "b", Tabulate), "c": refusing(federation, "c", Unmask)}
    )
    coordinator = federation.coordinator(run, grid)
    with pytest.raises(RunFailedError, match="1 of 2 sites answered Unmask; the job needs 2"):
        coordinator.execute()
    assert not (run.path / TABLES).exists()


# ------------------------------------------------------------------ crashes and retries


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        *((LOCAL, kind) for kind in (Admit, Describe, Tabulate, Settle)),
        (SUM, Tabulate),
        (TABLE, Tabulate),
    ],
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_server_that_died_finishes_with_the_same_table_at_the_same_price(
    federation: Federation, section: str, kind: type[Message], *, after: bool
) -> None:
    run = federation.submit(synthesis_job(section))
    grid = federation.grid({"b": dying_at(federation, "b", kind, after=after)})
    with pytest.raises(CrashError):
        federation.coordinator(run, grid).execute()
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    for name, site in federation.sites.items():
        assert len(set(requests(federation, name, Tabulate))) <= 1
        assert len(site.ledger.charged(run.run_id)) <= 1
    assert held(federation) == 0


def test_a_retry_never_draws_new_noise(federation: Federation) -> None:
    run = federation.submit(synthesis_job(LOCAL))
    # Whole sites restart after each answer, which is lost; what comes then is what was stored.
    grid = federation.grid({name: restarting(federation, name) for name in SITES})
    federation.coordinator(run, grid).execute()
    for name, numbers in load(run.artifact(TABLES)).items():
        site = federation.sites[name]
        first = site.outbox.get(run.run_id, "tables")
        assert first is not None
        stored = open_sealed(first.envelope, federation.trusted_sites).message
        assert isinstance(stored, Tabulated)
        assert stored.numbers.tolist() == numbers.tolist()
        assert len(site.ledger.charged(run.run_id)) == 1
    # Another run draws other noise.
    other = load(finished(federation, LOCAL).artifact(TABLES))
    assert other["a"].tolist() != load(run.artifact(TABLES))["a"].tolist()


# ------------------------------------------------------------------ counting queries


def test_counts_come_with_intervals_and_add_up(federation: Federation) -> None:
    run = federation.submit(count_job())
    federation.coordinator(run).execute()
    counts = run.read(COUNTS, Counts)
    everybody, old_and_ill = counts.answers
    assert set(counts.sites) == set(everybody.sites) == SITES
    assert everybody.value == sum(everybody.sites.values())
    # Five standard deviations of the sum's noise.
    slack = 5 * counts.noise_std * 3**0.5
    assert abs(everybody.value - 3 * UNITS) < slack
    assert everybody.lower < everybody.value < everybody.upper
    assert old_and_ill.where == {"age": ">= 50", "ill": ">= 1"}
    assert old_and_ill.value < everybody.value
    statement = run.read(STATEMENT, Statement)
    assert statement.counts == counts
    assert problems(federation, run) == ()
    assert held(federation) == 0


# ------------------------------------------------------------------ mocks


def test_a_mock_costs_nothing_and_tells_what_is_public(federation: Federation) -> None:
    run = federation.submit(mock_job())
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    described = run.read(DESCRIPTIONS, Descriptions)
    assert {site: each.digest() for site, each in described.sites.items()} == dict.fromkeys(
        SITES, schema_of().digest()
    )
    assert set(spent(federation).values()) == {0.0}
    for name, site in federation.sites.items():
        assert site.requests == requests(federation, name, Describe)
        assert len(site.requests) == 1
    assert not (run.path / CERTIFICATE).exists()
