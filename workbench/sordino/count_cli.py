"""`sordino count`: how many units there are for which conditions hold."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.errors import InputError
from sordino_protocols.terminal import Output, note, show_object

if TYPE_CHECKING:
    from sordino.connection import Connection

_SAMPLED_ROWS = 400_000


def count(
    dataset: Annotated[str, typer.Argument(help="By its name at the sites.")],
    conditions: Annotated[
        list[str],
        typer.Argument(help="Which must all hold: 'age >= 50' 'sex = female' 'towers any a,b'."),
    ],
    *,
    run_id: Annotated[
        str | None, typer.Option("--run", help="Your synthesis to ask; else your newest.")
    ] = None,
    charge: Annotated[
        bool, typer.Option("--charge", help="Ask the sites instead; costs --epsilon.")
    ] = False,
    epsilon: Annotated[float | None, typer.Option(help="What it may cost a unit.")] = None,
    delta: Annotated[float | None, typer.Option(help="The same.")] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", "-p", help="Yours.", envvar="SORDINO_PROFILE")
    ] = None,
    output: Annotated[Output, typer.Option("--output", help="table, json, jsonl.")] = Output.TABLE,
) -> None:
    """Answer a counting query: from a synthesis, for free, or with --charge at the sites.

    Records that the sites hold out for evaluations are not counted. Several queries at once, for
    one price, are a job of kind "count".
    """
    from sordino.run_watching import connected

    if charge and (epsilon is None or delta is None or run_id is not None):
        raise InputError("--charge needs --epsilon and --delta, and no --run")
    if not charge and (epsilon is not None or delta is not None):
        raise InputError("only --charge costs anything: leave --epsilon and --delta out")
    with connected(profile) as connection:
        if charge and epsilon is not None and delta is not None:
            _charged(connection, dataset, conditions, (epsilon, delta), output)
        else:
            _free(connection, dataset, conditions, run_id, output)


def _free(
    connection: "Connection",
    dataset: str,
    conditions: Sequence[str],
    run_id: str | None,
    output: Output,
) -> None:
    import numpy as np

    from sordino.count_conditions import as_asked, query_of
    from sordino.schema_inquiry import inquire
    from sordino.synthetic_release import fetch_release
    from sordino_protocols.counting import predicates_of

    if run_id is None:
        known = inquire(connection, dataset).synthetic_runs
        if not known:
            raise InputError(f"you have no synthesis of {dataset!r}: run one, or --charge")
        run_id = known[0]
    release = fetch_release(connection, run_id)
    query = query_of(conditions, release.schema, name="count")
    (predicate,) = predicates_of([as_asked(query)], release.schema)
    wanted = None if release.generator is None else _SAMPLED_ROWS
    cells = release.cells(wanted, rng=np.random.default_rng())
    share = float(np.mean(predicate.holds(cells)))
    units = release.units
    facts: dict[str, object] = {"count": share * units, "share": share, "of": units, "run": run_id}
    show_object(facts, output=output)
    note("from synthetic records: it cost nothing, and no interval is known")


def _charged(
    connection: "Connection",
    dataset: str,
    conditions: Sequence[str],
    promise: tuple[float, float],
    output: Output,
) -> None:
    from sordino.count_conditions import query_of
    from sordino.run_watching import watch_run
    from sordino.schema_inquiry import inquire
    from sordino.synthesis_jobs import count_job
    from sordino_protocols.pricing import resolve
    from sordino_server.runs import COUNTS
    from sordino_server.table_facts import Counts

    facts = inquire(connection, dataset)
    query = query_of(conditions, facts.schema, name="count")
    epsilon, delta = promise
    file = count_job(dataset, query, facts.schema, epsilon=epsilon, delta=delta)
    run_id = connection.submit(resolve(file))
    sys.stderr.write(f"{run_id}\n")
    if code := watch_run(connection, run_id):
        raise typer.Exit(code)
    counts = Counts.model_validate_json(connection.fetch(run_id, COUNTS))
    (answer,) = counts.answers
    show_object(
        {
            "count": answer.value,
            "lower": answer.lower,
            "upper": answer.upper,
            "confidence": counts.confidence,
            "sites": dict(answer.sites),
            "run": run_id,
        },
        output=output,
    )
