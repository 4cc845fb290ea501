"""Asking the sites what is public of a data set: free, before any approval, and no release."""

from collections.abc import Sequence
from dataclasses import dataclass

from sordino.connection import Connection
from sordino.synthesis_jobs import common_schema, mock_job
from sordino_protocols.errors import UnreachableError
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema
from sordino_server.runs import DESCRIPTIONS
from sordino_server.table_facts import Descriptions

_ANSWER_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class PublicFacts:
    """What is public of a data set.

    Attributes:
        sites: who has it.
        schema: what all of them declare a record to be.
        synthetic_runs: finished syntheses of it by the same submitter, the newest first.
    """

    sites: tuple[str, ...]
    schema: Schema
    synthetic_runs: tuple[str, ...]


def inquire(connection: Connection, dataset: str, *, sites: Sequence[str] = ()) -> PublicFacts:
    """Have the sites say what is public of a data set.

    Args:
        connection: to the server.
        dataset: by its name at the sites.
        sites: whom to ask; none named: all.

    Raises:
        InputError: they declare what a record is differently.
        UnreachableError: no site answered.
    """
    run_id = connection.submit(resolve(mock_job(dataset, sites=sites)))
    for _ in connection.watch(run_id, timeout_seconds=_ANSWER_SECONDS):
        pass
    shown = connection.show(run_id)
    if shown["state"] != "done":
        reason = shown.get("reason", "the sites did not answer")
        raise UnreachableError(f"nobody described the data set {dataset!r}: {reason}")
    content = connection.fetch(run_id, DESCRIPTIONS)
    described = Descriptions.model_validate_json(content).sites
    runs = shown.get("synthetic_runs")
    return PublicFacts(
        tuple(sorted(described)),
        common_schema(described),
        tuple(str(each) for each in runs) if isinstance(runs, list) else (),
    )
