"""Short ways to use a real ledger, for tests: one budget, one kind of run."""

import datetime as dt
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import psycopg

from sordino_client.chain_store import Location
from sordino_client.ledger import Ledger, Reservation
from sordino_protocols.privacy import Composed, Event, Gaussian, Guarantee, PoissonGaussian

BUDGET = Guarantee(8.0, 1e-5)
ROUND = PoissonGaussian(1.0, 8.0, 1)
EVALUATION = Gaussian(20.0)
RUN = Composed((PoissonGaussian(1.0, 8.0, 4), EVALUATION))
POLICY = "ab" * 32


def now() -> dt.datetime:
    return dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def hold(
    ledger: Ledger,
    run_id: str = "run-1",
    *,
    dataset: str = "heart",
    lineage: str | None = None,
    event: Event = RUN,
    budget: Guarantee = BUDGET,
) -> None:
    ledger.hold(
        run_id,
        dataset=dataset,
        lineage=lineage or dataset,
        event=event,
        budget=budget,
        policy_sha256=POLICY,
    )


def reserve(
    ledger: Ledger, step: str, *, run_id: str = "run-1", event: Event = ROUND
) -> Reservation:
    return ledger.reserve(run_id, step, event, budget=BUDGET)


def fill(ledger: Ledger) -> None:
    hold(ledger)
    ledger.commit(reserve(ledger, "round-1"), release_sha256="cd" * 32)
    reserve(ledger, "round-2")
    hold(ledger, "run-2")


def execute(
    store: Location, statement: str, values: Sequence[object] = ()
) -> list[tuple[object, ...]]:
    """Do something to a ledger's rows behind its back; `?` stands for a value."""
    if isinstance(store, Path):
        with sqlite3.connect(store) as connection:
            return connection.execute(statement, tuple(values)).fetchall()
    plain = store.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as session:
        cursor = session.execute(statement.replace("?", "%s").encode(), tuple(values))
        return [] if cursor.description is None else cursor.fetchall()
