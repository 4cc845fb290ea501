"""`sordino job`: for the data scientist."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino.tuning_cli import tune
from sordino_protocols.errors import ExitCode, InputError, SordinoError
from sordino_protocols.terminal import Output, complain, note, show, show_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sordino.connection import Connection
    from sordino_protocols.job import Job, JobFile
    from sordino_protocols.model_file import ReleasedModel

job_app = typer.Typer(no_args_is_help=True, help="Check, tune, price, submit and watch jobs.")
job_app.command("tune")(tune)

_FILES = (
    "model.safetensors",
    "generator.safetensors",
    "rows.safetensors",
    "tables.safetensors",
    "synthesis.json",
    "counts.json",
    "descriptions.json",
    "statement.json",
    "certificate.json",
)
"""What runs leave, each what its job makes."""

JobArgument = Annotated[Path, typer.Argument(help="The job's TOML file.")]
RunArgument = Annotated[str, typer.Argument(help="The run's id.")]
ProfileOption = Annotated[
    Path | None, typer.Option("--profile", "-p", help="Your profile.", envvar="SORDINO_PROFILE")
]
SchemaOption = Annotated[
    Path | None,
    typer.Option(
        "--schema", help="Of a synthesis: the data set's TOML file; else sites are asked."
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or jsonl.")]


@job_app.command("check")
def check(
    job_file: JobArgument,
    output: OutputOption = Output.TABLE,
    second_opinions: Annotated[
        bool,
        typer.Option("--second-opinions", help="Ask Opacus' accountants too, as every site will."),
    ] = False,
    schema: SchemaOption = None,
) -> None:
    """Read a job, find its noise, and say what it would cost; asks no site."""
    from sordino.architecture_table import slow_layers
    from sordino.price_words import price_facts

    job = _resolve(job_file, schema=schema)
    _note_slow_layers(job)
    facts = price_facts(job, second_opinions=second_opinions)
    if job.file.model is not None:
        facts["slow_layers"] = list(slow_layers(job.file.model))
    show_object(facts, output=output)


@job_app.command("price")
def price(
    job_file: JobArgument,
    profile: ProfileOption = None,
    output: OutputOption = Output.TABLE,
    schema: SchemaOption = None,
) -> None:
    """Ask every site what a job would cost there, and whether it would be refused.

    Where a budget does not suffice: how many rounds, or what noise, would fit into what is left.
    Exit code 3: a site would refuse it; 4: because its budget does not suffice.
    """
    from sordino.price_words import price_rows
    from sordino.run_watching import connected

    with connected(profile) as connection:
        job = _resolve(job_file, schema=schema, connection=connection)
        _note_slow_layers(job)
        rows = price_rows(connection.price(job))
    show(rows, output=output)
    raise typer.Exit(_complain_of(rows, job_file))


@job_app.command("submit")
def submit(
    job_file: JobArgument,
    profile: ProfileOption = None,
    watch: Annotated[bool, typer.Option(help="Watch the run until it is over.")] = False,
    weights: Annotated[
        Path | None,
        typer.Option(help="The model that a validation is of: a run's, or one flat vector."),
    ] = None,
    schema: SchemaOption = None,
) -> None:
    """Sign a job and queue it; prints the run's id.

    With --watch, exit code 3: sites refused it, or it failed; 4: a budget does not suffice.
    """
    from sordino.run_watching import connected

    with connected(profile) as connection:
        if weights is None:
            job = _resolve_own(connection, job_file, schema)
            run_id = connection.submit(job)
        else:
            job, model = _resolve_validation(job_file, weights)
            run_id = connection.validate(job, model)
        sys.stdout.write(f"{run_id}\n")
        sys.stdout.flush()
        if watch:
            code = _watch(connection, run_id)
            raise typer.Exit(code and (_explained(connection, run_id, job, job_file) or code))


@job_app.command("watch")
def watch_run(run_id: RunArgument, profile: ProfileOption = None) -> None:
    """Watch a run until it is over."""
    from sordino.run_watching import connected

    with connected(profile) as connection:
        raise typer.Exit(_watch(connection, run_id))


@job_app.command("show")
def show_run(run_id: RunArgument, profile: ProfileOption = None) -> None:
    """Print everything known of a run, as JSON."""
    from sordino.run_watching import connected

    with connected(profile) as connection:
        show_object(connection.show(run_id), output=Output.JSON)


@job_app.command("fetch")
def fetch(
    run_id: RunArgument,
    profile: ProfileOption = None,
    to: Annotated[Path, typer.Option(help="Directory for the files.")] = Path(),
) -> None:
    """Fetch what a finished run left: a model, a generator, rows or counts, and its papers.

    Exit code 9: an audit found a violation, and the run is in quarantine.
    """
    from sordino.run_watching import connected
    from sordino_protocols.errors import NotFoundError

    fetched = 0
    with connected(profile) as connection:
        for name in _FILES:
            with suppress(NotFoundError):
                content = connection.fetch(run_id, name)
                path = to / f"{run_id}.{name}"
                path.write_bytes(content)
                sys.stdout.write(f"{path}\n")
                fetched += 1
    if not fetched:
        raise NotFoundError(f"run {run_id!r} of yours has left no file yet, or there is none")


def _resolve_own(connection: "Connection", job_file: Path, schema: Path | None) -> "Job":
    """A job that brings no model along."""
    job = _resolve(job_file, schema=schema, connection=connection)
    if job.purpose == "validate":
        raise InputError(f"{job_file}: a validation needs the model that it is of: --weights")
    return job


def _explained(connection: "Connection", run_id: str, job: "Job", job_file: Path) -> int:
    """Say in full why sites refused a run that failed; the exit code, 0 if none did.

    A run's log has one word a site. The answer to the same job's price has the rule too.
    """
    from sordino.price_words import price_rows
    from sordino.refusal_words import names_a_refusal

    if not names_a_refusal(str(connection.show(run_id).get("reason", ""))):
        return ExitCode.OK
    try:
        rows = price_rows(connection.price(job))
    except SordinoError as error:
        note(f"why cannot be told in full: {error}")
        return ExitCode.OK
    return _complain_of(rows, job_file)


def _complain_of(rows: "Sequence[Mapping[str, object]]", job_file: Path) -> int:
    """Say each site's refusal in full; the exit code that they come to, 0 if there is none."""
    from sordino.refusal_words import refusal_text

    refused = [row for row in rows if row["refusal"] is not None]
    for row in refused:
        complain(refusal_text(row, job_file))
    if any(row["refusal"] == "budget_exhausted" for row in refused):
        return ExitCode.BUDGET_EXHAUSTED
    return ExitCode.REFUSED if refused else ExitCode.OK


def _watch(connection: "Connection", run_id: str) -> int:
    from sordino.run_watching import watch_run

    return watch_run(connection, run_id)


def _resolve(
    job_file: Path, *, schema: Path | None = None, connection: "Connection | None" = None
) -> "Job":
    """The job with its noise; a synthesis also with what the schema says, by file or by inquiry."""
    from sordino_protocols.files import read_toml
    from sordino_protocols.job import JobFile
    from sordino_protocols.pricing import resolve

    return resolve(_completed(read_toml(job_file, JobFile), schema, connection))


def _completed(file: "JobFile", schema: Path | None, connection: "Connection | None") -> "JobFile":
    from sordino.model_files import read_schema
    from sordino.schema_inquiry import inquire
    from sordino.synthesis_jobs import completed, is_incomplete

    if schema is not None:
        return completed(file, read_schema(schema))
    if connection is not None and is_incomplete(file):
        facts = inquire(connection, file.job.dataset, sites=file.cohort.sites)
        return completed(file, facts.schema)
    return file


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

    model = job.file.model
    if model is not None and (slow := slow_note(model)) is not None:
        note(f"note: {slow}")
