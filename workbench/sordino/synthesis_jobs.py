"""Jobs that make tables: what the command that submits one fills in from the public schema.

A job carries the shape of its data set's cells, so that its plan and its price follow from the job
alone. Nobody writes a shape by hand: it is read off the schema, which the sites tell for free.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sordino.toml_text import toml_text
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile, JobSection, PrivacySection
from sordino_protocols.job_sections import CohortSection, CountingSection, QuerySection
from sordino_protocols.plan import SynthesisMode
from sordino_protocols.privacy import PrivacyUnit
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of

_DEADLINE_SECONDS = 60.0


def is_incomplete(file: JobFile) -> bool:
    """Whether the job still needs a schema before it can be priced."""
    section = file.synthesis
    return section is not None and (section.schema_sha256 is None or section.shape is None)


def completed(file: JobFile, schema: Schema) -> JobFile:
    """The job with what the schema says in it; a job that is no synthesis stays as it is.

    Raises:
        InputError: the job is for another schema, or the schema's columns cannot be synthesised.
    """
    if file.synthesis is None:
        return file
    found = {
        "schema_sha256": schema.synthesis_digest(),
        "shape": domain_of(schema).shape,
    }
    for key, value in found.items():
        written = getattr(file.synthesis, key)
        if written not in (None, value):
            raise InputError(f"synthesis.{key} is of another schema: leave it out")
    section = file.synthesis.model_copy(update=found)
    return file.model_copy(update={"synthesis": section})


def mock_job(dataset: str, *, sites: Sequence[str] = ()) -> JobFile:
    """A job that asks what is public of a data set: no privacy, no approval, no release.

    Args:
        dataset: by its name at the sites.
        sites: whom to ask; none named: all.
    """
    return JobFile(
        job=JobSection(name=f"mock-{dataset}", kind="mock", dataset=dataset),
        cohort=CohortSection(
            sites=tuple(sites), quorum=max(1, len(sites)), deadline_seconds=_DEADLINE_SECONDS
        ),
    )


def common_schema(described: Mapping[str, Schema]) -> Schema:
    """The schema of several sites' tables.

    Args:
        described: by site, at least one.

    Raises:
        InputError: the sites declare what a record is differently.
    """
    (first, schema), *others = sorted(described.items())
    for site, other in others:
        if other.synthesis_digest() != schema.synthesis_digest():
            raise InputError(
                f"{first} and {site} declare other columns or roles for this data set: name sites"
                " that declare the same in cohort.sites"
            )
    return schema


@dataclass(frozen=True, slots=True)
class Wish:
    """A synthesis as a command line says it.

    Attributes:
        dataset: by its name at the sites.
        epsilon: what it may cost a unit at a site.
        delta: of the guarantee.
        mode: what the sites release.
        generator: kind of generator, at its default settings.
        silent: in mode "sum", how many sites may stay silent.
        rows: in mode "table", how many rows a site makes.
        sites: who takes part; none named: all.
        quorum: how many must answer; None: all that are allowed to.
    """

    dataset: str
    epsilon: float
    delta: float
    mode: SynthesisMode = "local"
    generator: str = "mixture"
    silent: int = 0
    rows: int | None = None
    sites: tuple[str, ...] = ()
    quorum: int | None = None


def wished_job(wish: Wish, known_sites: Sequence[str], schema: Schema) -> JobFile:
    """The job file of a wish, complete.

    Args:
        wish: what a person asked for.
        known_sites: the sites that have the data set; all of them take part if none is named.
        schema: what they declare.

    Raises:
        InputError: the parts of the wish do not fit together, or the schema cannot be synthesised.
    """
    sites = wish.sites or tuple(known_sites)
    least = max(1, len(sites) - wish.silent)
    generator: dict[str, object] = {"kind": wish.generator}
    tables: dict[str, dict[str, object]] = {
        "job": {"name": f"synthetic-{wish.dataset}", "kind": "synthesize", "dataset": wish.dataset},
        "privacy": {
            "unit": unit_of(schema),
            "epsilon": wish.epsilon,
            "delta": wish.delta,
        },
        "synthesis": {
            "mode": wish.mode,
            "silent": wish.silent,
            "rows": wish.rows,
            "generator": generator,
        },
        "cohort": {"sites": sorted(sites), "quorum": wish.quorum or least},
    }
    file = parse_toml(toml_text(tables), JobFile, source="the options")
    return completed(file, schema)


def count_job(
    dataset: str, query: QuerySection, schema: Schema, *, epsilon: float, delta: float
) -> JobFile:
    """The job of one counting query.

    Args:
        dataset: by its name at the sites.
        query: what is counted.
        schema: of the data set; says whom the guarantee is about.
        epsilon: what the answer costs a unit at a site, together with `delta`.
        delta: of the guarantee.
    """
    return JobFile(
        job=JobSection(name=f"count-{dataset}", kind="count", dataset=dataset),
        privacy=PrivacySection(unit=unit_of(schema), epsilon=epsilon, delta=delta),
        counting=CountingSection(queries=(query,)),
    )


def unit_of(schema: Schema) -> PrivacyUnit:
    """Whom a guarantee about the data set's records is about."""
    return "record" if schema.dataset.unit is None else "entity"
