"""Reading what an audit of a synthesis is about: a job, and the schema that its records have."""

from pathlib import Path

from sordino_audit.replay.plan import read_schema
from sordino_audit.synthesis.assessment import Subject
from sordino_protocols.errors import InputError
from sordino_protocols.files import read_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of
from sordino_server.runs import run_directory

_SCHEMA = "schema.json"


def read_subject(job: Path, *, schema: Path | None) -> Subject:
    """The synthesis of a job.

    Args:
        job: a job file, which gets the noise that its epsilon needs; or the directory of a run at
            the server, whose job has its noise already.
        schema: a data set's declaration, whose source is not read; None: that of the run.

    Raises:
        NotFoundError: a file is absent.
        IntegrityError: the directory is no run's.
        InputError: a file breaks its rules, the job synthesizes nothing, or it is about another
            schema.
    """
    public = _schema_of(job, schema)
    if job.is_dir():
        found = run_directory(job).job()
    else:
        found = resolve(filled_in(read_toml(job, JobFile), public))
    return subject_of(found, public)


def subject_of(job: Job, schema: Schema) -> Subject:
    """The synthesis of a job with its noise.

    Raises:
        InputError: the job synthesizes nothing, or is about another schema.
    """
    plan = job.plan.synthesis
    if plan is None:
        raise InputError(f"job {job.file.job.name!r} synthesizes nothing")
    if plan.schema_sha256 != schema.synthesis_digest():
        raise InputError(f"job {job.file.job.name!r} is about another schema than this one")
    return Subject(
        job.file.job.name, plan, schema, job.file.guarantee.delta, job_sha256=job.digest()
    )


def filled_in(file: JobFile, schema: Schema) -> JobFile:
    """The file with the schema's shape and digest, where it says neither.

    Raises:
        InputError: the job synthesizes nothing, or its schema cannot be synthesized.
    """
    section = file.require_synthesis()
    if section.shape is not None:
        return file
    known = {"shape": domain_of(schema).shape, "schema_sha256": schema.synthesis_digest()}
    return file.model_copy(update={"synthesis": section.model_copy(update=known)})


def _schema_of(job: Path, schema: Path | None) -> Schema:
    if schema is not None:
        return read_schema(schema)
    path = job / _SCHEMA
    if not path.exists():
        raise InputError(f"{job}: keeps no schema; name the data set's declaration by --schema")
    try:
        return Schema.model_validate_json(path.read_bytes())
    except ValueError:
        raise InputError(f"{path}: no schema") from None
