"""`sordino job tune`: on public records for free, or in the federation for a price."""

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.errors import ExitCode, InputError
from sordino_protocols.terminal import Output, complain, confirm, note, show

if TYPE_CHECKING:
    from sordino.tuning import Outcome
    from sordino.tuning_charged import SiteBill
    from sordino.tuning_settings import Trial


class Search(StrEnum):
    """How combinations are chosen."""

    GRID = "grid"
    RANDOM = "random"


def tune(
    job_file: Annotated[Path, typer.Argument(help="The job's TOML file.")],
    *,
    data: Annotated[
        Path | None, typer.Option(help="Public or synthetic records: CSV or Parquet.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="The data set's TOML file: the public schema is enough.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A key and the values to try: optimizer.learning_rate=0.5,1,2"),
    ] = None,
    method: Annotated[Search, typer.Option(help="Every combination, or some of them.")] = (
        Search.GRID
    ),
    trials: Annotated[int | None, typer.Option(help="The most trials.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Of splits and of the draw, never of noise.")] = 0,
    sites: Annotated[int, typer.Option(help="Equal parts that play the sites.", min=1)] = 1,
    repeats: Annotated[int, typer.Option(help="Runs of each trial.", min=1)] = 3,
    write: Annotated[
        Path | None, typer.Option(help="Write the best trial's job to this new file.")
    ] = None,
    charge: Annotated[
        bool, typer.Option("--charge", help="Run every trial in the federation; each pays.")
    ] = False,
    is_agreed: Annotated[bool, typer.Option("--yes", help="Do not ask before charging.")] = False,
    profile: Annotated[
        Path | None, typer.Option("--profile", "-p", help="Yours.", envvar="SORDINO_PROFILE")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Try settings of a job, rank them, and keep the best.

    With --data and --dataset on records that are public or synthetic: free, no site is asked. With
    --charge in the federation: every trial is a job and pays its own epsilon.

    Exit code 3: a site would refuse a trial; 4: the trials do not fit a site's budget.
    """
    from sordino.tuning import best_job, ranked
    from sordino.tuning_settings import read_choices, read_trials

    _check_way(data, dataset, charge=charge)
    choices = read_choices(settings or [])
    planned = read_trials(job_file, choices, method=method.value, limit=trials, seed=seed)
    if write is not None and write.exists():
        raise InputError(f"{write}: exists already; move it away first")
    if data is not None and dataset is not None:
        where = f"{data.name}, {sites} simulated site{'s' * (sites > 1)}, no site asked"
        outcomes = _free(planned, data, dataset, (sites, repeats, seed))
    else:
        where = "the federation, each trial charged"
        outcomes = _charged(planned, profile, is_agreed=is_agreed)
    best, *_ = order = ranked(outcomes)
    if as_json:
        facts = {"charged": charge, "ranked_by": best.headline, "trials": [o.facts for o in order]}
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        show([each.row for each in order], output=Output.TABLE)
    if write is not None:
        from sordino_protocols.files import write_public

        write_public(write, best_job(best, tried=len(order), where=where).encode())
        note(f"the best job is {write}")


def _check_way(data: Path | None, dataset: Path | None, *, charge: bool) -> None:
    if charge and (data is not None or dataset is not None):
        raise InputError("--charge asks the sites; leave --data and --dataset out")
    if not charge and (data is None or dataset is None):
        raise InputError("--data and --dataset are needed, or --charge to pay for every trial")


def _free(
    planned: Sequence["Trial"], data: Path, dataset: Path, simulated: tuple[int, int, int]
) -> Sequence["Outcome"]:
    from sordino.tuning_free import Simulation, load_public, try_all
    from sordino_client.training.noise import SecureNoise

    note(
        f"free: no site is asked. {data} must be public or synthetic, never private records:"
        " trials see it without noise"
    )
    public = load_public(dataset, data)
    simulation = Simulation(*simulated)
    return try_all(planned, public, simulation, noise=SecureNoise(), progress=note)


def _charged(
    planned: Sequence["Trial"], profile: Path | None, *, is_agreed: bool
) -> Sequence["Outcome"]:
    from sordino.connection import Connection
    from sordino.profile import load_profile
    from sordino.progress import follow
    from sordino.tuning_charged import make_bill, run_all
    from sordino_protocols.pricing import resolve

    jobs = [resolve(trial.file) for trial in planned]
    with Connection(load_profile(profile)) as connection:
        bill = make_bill(jobs, [connection.price(job) for job in jobs])
        _present(bill, len(jobs))
        if not is_agreed:
            confirm("Run them all, and pay?", yes=False)
        return run_all(connection, planned, jobs, follow=follow)


def _present(bill: Sequence["SiteBill"], count: int) -> None:
    """Show the bill on stderr; end where it cannot be paid."""
    note(f"{count} trials, each charged to every site that takes part:")
    for each in bill:
        left = "unknown" if each.left is None else f"{each.left:.4g}"
        note(f"  {each.site}: epsilon {each.epsilon:.4g} for {each.trials} trials; left {left}")
    refused = [f"{each.site}: {each.refusal}" for each in bill if each.refusal is not None]
    if refused:
        complain(f"error: a trial would be refused: {'; '.join(refused)}")
        is_budget = any("budget_exhausted" in text for text in refused)
        raise typer.Exit(ExitCode.BUDGET_EXHAUSTED if is_budget else ExitCode.REFUSED)
    short = [each.site for each in bill if not each.fits]
    if short or not bill:
        complain(f"error: the trials do not fit what is left at {', '.join(short) or 'any site'}")
        raise typer.Exit(ExitCode.BUDGET_EXHAUSTED)
