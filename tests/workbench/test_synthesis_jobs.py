"""Jobs of tables: completed from the schema, and nothing that does not fit is let through."""

import pytest
from plausible_synthesis import SCHEMA, synthesis_job

from sordino.synthesis_jobs import (
    Wish,
    common_schema,
    completed,
    is_incomplete,
    mock_job,
    wished_job,
)
from sordino_protocols.errors import InputError
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema

WISH = Wish(dataset="visits", epsilon=1.0, delta=1e-5)
SITES = ("alpha", "beta")


def without(column: str) -> Schema:
    columns = {name: each for name, each in SCHEMA.columns.items() if name != column}
    return Schema(dataset=SCHEMA.dataset, columns=columns, roles=SCHEMA.roles)


def test_a_job_is_completed_from_the_schema() -> None:
    file = synthesis_job()
    section = file.require_synthesis()
    bare = section.model_copy(update={"schema_sha256": None, "shape": None})
    incomplete = file.model_copy(update={"synthesis": bare})
    assert is_incomplete(incomplete)
    assert completed(incomplete, SCHEMA) == file
    assert not is_incomplete(file)
    assert completed(file, SCHEMA) == file


def test_a_job_for_another_schema_is_refused() -> None:
    with pytest.raises(InputError, match="of another schema"):
        completed(synthesis_job(), without("towers"))


def test_an_incomplete_job_has_no_price() -> None:
    section = synthesis_job().require_synthesis().model_copy(update={"shape": None})
    with pytest.raises(InputError, match="shape"):
        resolve(synthesis_job().model_copy(update={"synthesis": section}))


def test_a_mock_has_a_job_without_a_price() -> None:
    job = resolve(mock_job("visits", sites=SITES))
    assert job.purpose == "mock"
    assert job.file.privacy is None
    assert job.file.cohort.quorum == 2


def test_all_known_sites_take_part_unless_some_are_named() -> None:
    assert wished_job(WISH, SITES, SCHEMA).cohort.sites == SITES
    named = Wish(dataset="visits", epsilon=1.0, delta=1e-5, sites=("beta",))
    assert wished_job(named, SITES, SCHEMA).cohort.sites == ("beta",)


def test_a_sum_needs_all_but_the_silent_ones() -> None:
    wish = Wish(dataset="visits", epsilon=1.0, delta=1e-5, mode="sum", silent=1)
    file = wished_job(wish, ("alpha", "beta", "gamma"), SCHEMA)
    assert file.cohort.quorum == 2
    with pytest.raises(InputError, match="at least two more"):
        wished_job(wish, SITES, SCHEMA)


def test_a_generator_that_needs_records_needs_mode_table() -> None:
    wish = Wish(dataset="visits", epsilon=1.0, delta=1e-5, generator="mst")
    with pytest.raises(InputError, match="mode = 'table'"):
        wished_job(wish, SITES, SCHEMA)


def test_sites_must_declare_the_same() -> None:
    same = SCHEMA.model_copy(
        update={"dataset": SCHEMA.dataset.model_copy(update={"order_of_magnitude": 7})}
    )
    assert common_schema({"alpha": SCHEMA, "beta": same}) == SCHEMA
    with pytest.raises(InputError, match="alpha and beta declare other columns"):
        common_schema({"alpha": SCHEMA, "beta": without("cost")})
