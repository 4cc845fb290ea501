"""`sordino sample get`: records of a data set that nobody may see, in one line."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.errors import InputError
from sordino_protocols.terminal import note

if TYPE_CHECKING:
    import pandas as pd

    from sordino.connection import Connection

sample_app = typer.Typer(no_args_is_help=True, help="Get synthetic records of a data set.")

_MOCK_ROWS = 1_000


@sample_app.callback()
def sample() -> None:
    """Get synthetic records of a data set."""


@sample_app.command("get")
def get(
    dataset: Annotated[str, typer.Argument(help="By its name at the sites.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="A new .csv or .parquet file.")],
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="How many; else about as many as are real.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", help="Your synthesis to draw from; else your newest.")
    ] = None,
    mock: Annotated[
        bool, typer.Option("--mock", help="Make records up from the public schema alone.")
    ] = False,
    profile: Annotated[
        Path | None, typer.Option("--profile", "-p", help="Yours.", envvar="SORDINO_PROFILE")
    ] = None,
) -> None:
    """Write synthetic records of a data set to a file; free in every case.

    They are drawn from your newest synthesis of the data set, which was paid for when it ran. If
    there is none, or with --mock, they are made up from the public schema: the right format, no
    statistics, and nothing of any record.
    """
    from sordino.run_watching import connected
    from sordino.synthetic_frames import check_writable, write_frame

    if mock and run_id is not None:
        raise InputError("--mock looks at no run: leave --run out")
    check_writable(out)
    with connected(profile) as connection:
        frame = _frame(connection, dataset, run_id, rows, is_mock=mock)
    write_frame(frame, out)
    note(f"{len(frame)} rows in {out}")


def _frame(
    connection: "Connection", dataset: str, run_id: str | None, rows: int | None, *, is_mock: bool
) -> "pd.DataFrame":
    import numpy as np

    from sordino.schema_inquiry import inquire
    from sordino.synthetic_frames import frame_of
    from sordino.synthetic_release import fetch_release
    from sordino_protocols.synthesis.mock import mock_cells

    rng = np.random.default_rng()
    if run_id is None:
        facts = inquire(connection, dataset)
        if is_mock or not facts.synthetic_runs:
            note(
                "made up from the public schema alone: the format is right, the statistics are not"
            )
            cells = mock_cells(facts.schema, rows or _MOCK_ROWS, rng=rng)
            return frame_of(cells, facts.schema, rng=rng)
        run_id = facts.synthetic_runs[0]
    release = fetch_release(connection, run_id)
    if release.job.file.job.dataset != dataset:
        raise InputError(f"run {run_id} is of {release.job.file.job.dataset!r}, not {dataset!r}")
    note(f"drawn from run {run_id}: epsilon {release.facts.epsilon_without_masks:.3g}, paid before")
    return release.frame(rows, rng=rng)
