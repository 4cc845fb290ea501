"""`sordino job`: for the data scientist."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino.tuning_cli import tune
from sordino_protocols.errors import ExitCode
from sordino_protocols.terminal import Output, note, show, show_object

if TYPE_CHECKING:
    from sordino.connection import Connection
    from sordino_protocols.job import Job

job_app = typer.Typer(no_args_is_help=True, help="Check, tune, price, submit and watch jobs.")
job_app.command("tune")(tune)

JobArgument = Annotated[Path, typer.Argument(help="The job's TOML file.")]
RunArgument = Annotated[str, typer.Argument(help="The run's id.")]
ProfileOption = Annotated[
    Path | None, typer.Option("--profile", "-p", help="Your profile.", envvar="SORDINO_PROFILE")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]


@job_app.command("check")
def check(job_file: JobArgument, output: OutputOption = Output.TABLE) -> None:
    """Read a job, find its noise, and say what it would cost; asks nobody."""
    from sordino.architecture_table import slow_layers
    from sordino_protocols.pricing import price

    job = _resolve(job_file)
    _note_slow_layers(job)
    cost = price(job)
    plan = job.plan
    show_object(
        {
            "job": job.file.job.name,
            "digest": job.digest(),
            "epsilon_pld": cost.epsilon_pld,
            "epsilon_rdp": cost.epsilon_rdp,
            "delta": cost.delta,
            "training_noise_multiplier": plan.training.noise_multiplier,
            "evaluation_noise_multiplier": plan.evaluation.noise_multiplier,
            "steps": plan.training.rounds * plan.training.local_steps,
            "slow_layers": list(slow_layers(job.file.model)),
        },
        output=output,
    )


@job_app.command("price")
def price(
    job_file: JobArgument, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Ask every site what a job would cost there, and whether it would be refused.

    Exit code 3: a site would refuse it; 4: because its budget does not suffice.
    """
    job = _resolve(job_file)
    _note_slow_layers(job)
    with _connected(profile) as connection:
        answer = connection.price(job)
    quotes, refused, silent = (answer[key] for key in ("quotes", "refused", "silent"))
    rows: list[dict[str, object]] = []
    if isinstance(quotes, dict):
        rows += [{"site": site, **quote} for site, quote in sorted(quotes.items())]
    for others in (refused, silent):
        if isinstance(others, dict):
            empty = {"rule": "", "epsilon_pld": None, "epsilon_rdp": None, "budget_left": None}
            rows += [{"site": site, "refusal": why, **empty} for site, why in others.items()]
    show(rows, output=output)
    refusals = {row["refusal"] for row in rows} - {None}
    if "budget_exhausted" in refusals:
        raise typer.Exit(ExitCode.BUDGET_EXHAUSTED)
    if refusals:
        raise typer.Exit(ExitCode.REFUSED)


@job_app.command("submit")
def submit(
    job_file: JobArgument,
    profile: ProfileOption = None,
    watch: Annotated[bool, typer.Option(help="Watch the run until it is over.")] = False,
) -> None:
    """Sign a job and queue it; prints the run's id."""
    job = _resolve(job_file)
    with _connected(profile) as connection:
        run_id = connection.submit(job)
        sys.stdout.write(f"{run_id}\n")
        if watch:
            raise typer.Exit(_watch(connection, run_id))


@job_app.command("watch")
def watch_run(run_id: RunArgument, profile: ProfileOption = None) -> None:
    """Watch a run until it is over."""
    with _connected(profile) as connection:
        raise typer.Exit(_watch(connection, run_id))


@job_app.command("show")
def show_run(run_id: RunArgument, profile: ProfileOption = None) -> None:
    """Print everything known of a run, as JSON."""
    with _connected(profile) as connection:
        show_object(connection.show(run_id), output=Output.JSON)


@job_app.command("fetch")
def fetch(
    run_id: RunArgument,
    profile: ProfileOption = None,
    to: Annotated[Path, typer.Option(help="Directory for the files.")] = Path(),
) -> None:
    """Fetch the model and the statement of a finished run."""
    with _connected(profile) as connection:
        for name in ("model.safetensors", "statement.json"):
            path = to / f"{run_id}.{name}"
            path.write_bytes(connection.fetch(run_id, name))
            sys.stdout.write(f"{path}\n")


def _resolve(job_file: Path) -> "Job":
    from sordino_protocols.files import read_toml
    from sordino_protocols.job import JobFile
    from sordino_protocols.pricing import resolve

    return resolve(read_toml(job_file, JobFile))


def _note_slow_layers(job: "Job") -> None:
    from sordino.architecture_table import slow_note

    if (slow := slow_note(job.file.model)) is not None:
        note(f"note: {slow}")


@contextmanager
def _connected(profile: Path | None) -> "Iterator[Connection]":
    from sordino.connection import Connection
    from sordino.profile import load_profile

    with Connection(load_profile(profile)) as connection:
        yield connection


def _watch(connection: "Connection", run_id: str) -> int:
    from sordino.progress import follow

    for _ in follow(connection.watch(run_id)):
        pass
    shown = connection.show(run_id)
    if shown["state"] == "done":
        if "statement" in shown:
            note(_evaluation(shown["statement"]))
        return ExitCode.OK
    note(f"error: run {run_id} {shown['state']}: {shown.get('reason', 'no reason given')}")
    return ExitCode.REFUSED


def _evaluation(statement: object) -> str:
    from sordino.figure_words import statement_in_words
    from sordino_server.statement import Statement

    read = Statement.model_validate_json(json.dumps(statement))
    return f"evaluation, noisy: {statement_in_words(read)}"
