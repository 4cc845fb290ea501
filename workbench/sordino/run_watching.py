"""Watching a run from a terminal until it is over, and what to say of it then."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sordino.connection import Connection
from sordino.profile import load_profile
from sordino.progress import follow
from sordino_protocols.errors import ExitCode
from sordino_protocols.terminal import complain, note

_PATIENCE_SECONDS = 120.0  # an upgrade of the server, or a reboot of its host


@contextmanager
def connected(profile: Path | None) -> Iterator[Connection]:
    """A connection to the server of a profile; of the default one if None."""
    with Connection(load_profile(profile)) as connection:
        yield connection


def watch_run(connection: Connection, run_id: str) -> int:
    """Show a run's progress until it is over. Returns the exit code of a command that waits."""
    for _ in follow(connection.watch_through(run_id, patience_seconds=_PATIENCE_SECONDS)):
        pass
    shown = connection.show(run_id)
    if shown["state"] == "done":
        if "statement" in shown and (words := _found(shown["statement"])):
            note(words)
        return ExitCode.OK
    complain(f"error: run {run_id} {shown['state']}: {shown.get('reason', 'no reason given')}")
    return ExitCode.REFUSED


def _found(statement: object) -> str:
    """What a finished run found, in words; nothing of a run that only made rows."""
    from sordino.figure_words import statement_in_words  # noqa: PLC0415  # brings the statement
    from sordino_server.statement import Statement  # noqa: PLC0415

    read = Statement.model_validate_json(json.dumps(statement))
    if read.evaluation is not None:
        return f"evaluation, noisy: {statement_in_words(read)}"
    if read.counts is not None:
        return "\n".join(
            f"{each.name}: {each.value} ({each.lower:.0f} to {each.upper:.0f})"
            for each in read.counts.answers
        )
    if read.synthesis is not None and read.synthesis.tables:
        return "\n".join(
            f"{name}: {each.units:.0f} units, give or take {each.units_std:.0f};"
            f" chi squared per cell {each.chi_squared_per_cell:.2f}"
            for name, each in read.synthesis.tables.items()
        )
    return ""
