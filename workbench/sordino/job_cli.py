"""`sordino job`: for the data scientist."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino.tuning_cli import tune
from sordino_protocols.errors import ExitCode, InputError
from sordino_protocols.terminal import Output, note, show, show_object

if TYPE_CHECKING:
    from sordino.connection import Connection
    from sordino_protocols.job import Job
    from sordino_protocols.model_file import ReleasedModel

job_app = typer.Typer(no_args_is_help=True, help="Check, tune, price, submit and watch jobs.")
job_app.command("tune")(tune)

JobArgument = Annotated[Path, typer.Argument(help="The job's TOML file.")]
RunArgument = Annotated[str, typer.Argument(help="The run's id.")]
ProfileOption = Annotated[
    Path | None, typer.Option("--profile", "-p", help="Your profile.", envvar="SORDINO_PROFILE")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]


@job_app.command("check")
def check(
    job_file: JobArgument,
    output: OutputOption = Output.TABLE,
    second_opinions: Annotated[
        bool,
        typer.Option("--second-opinions", help="Ask Opacus' accountants too, as every site will."),
    ] = False,
) -> None:
    """Read a job, find its noise, and say what it would cost; asks no site."""
    from sordino.architecture_table import slow_layers
    from sordino.price_words import price_facts

    job = _resolve(job_file)
    _note_slow_layers(job)
    slow = list(slow_layers(job.file.model))
    show_object(
        {**price_facts(job, second_opinions=second_opinions), "slow_layers": slow}, output=output
    )


@job_app.command("price")
def price(
    job_file: JobArgument, profile: ProfileOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Ask every site what a job would cost there, and whether it would be refused.

    Where a budget does not suffice: how many rounds, or what noise, would fit into what is left.
    Exit code 3: a site would refuse it; 4: because its budget does not suffice.
    """
    from sordino.price_words import price_rows

    job = _resolve(job_file)
    _note_slow_layers(job)
    with _connected(profile) as connection:
        rows = price_rows(connection.price(job))
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
    weights: Annotated[
        Path | None,
        typer.Option(help="The model that a validation is of: a run's, or one flat vector."),
    ] = None,
) -> None:
    """Sign a job and queue it; prints the run's id."""
    if weights is None:
        job, model = _resolve(job_file), None
        if job.purpose == "validate":
            raise InputError(f"{job_file}: a validation needs the model that it is of: --weights")
    else:
        job, model = _resolve_validation(job_file, weights)
    with _connected(profile) as connection:
        run_id = connection.submit(job) if model is None else connection.validate(job, model)
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
    """Fetch the model, the statement and the certificate of a finished run.

    Exit code 9: an audit found a violation, and the run is in quarantine.
    """
    with _connected(profile) as connection:
        for name in ("model.safetensors", "statement.json", "certificate.json"):
            content = connection.fetch(run_id, name)
            path = to / f"{run_id}.{name}"
            path.write_bytes(content)
            sys.stdout.write(f"{path}\n")


def _resolve(job_file: Path) -> "Job":
    from sordino_protocols.files import read_toml
    from sordino_protocols.job import JobFile
    from sordino_protocols.pricing import resolve

    return resolve(read_toml(job_file, JobFile))


def _resolve_validation(job_file: Path, weights: Path) -> "tuple[Job, ReleasedModel]":
    """The job with the digest of the weights, which a person sees; and the weights."""
    from sordino.weights_file import model_digest, naming, read_weights
    from sordino_protocols.files import read_toml
    from sordino_protocols.job import JobFile
    from sordino_protocols.pricing import resolve

    model = read_weights(weights)
    job = resolve(naming(read_toml(job_file, JobFile), model))
    note(f"validation.weights_sha256 = {model_digest(model)}")
    return job, model


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
