"""What a replay runs: the job of a run, a public schema, and how many federations see what.

The job is taken as it was priced: model, training, clipping and noise are those of the run. What
must stay true: the design (who is inserted where) is a function of the plan's seed alone, so that a
replay that was killed goes on with the same federations, on whatever machine; the noise is not, and
nobody can repeat it.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from sordino_client.config import SiteConfig
from sordino_client.data.declaration import DatasetFile, read_dataset
from sordino_client.data.sources import Source, SqlSource
from sordino_protocols.aggregation_rules import MEAN
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT, read_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema
from sordino_protocols.signing import canonical_json
from sordino_server.runs import run_directory

CanaryKind = Literal["blank", "typical", "mislabelled", "crafted"]

LEAST_FEDERATIONS = 8
"""Below it no attack has models to learn from and models to be judged on."""

_DATASET = "dataset.toml"
_MOST_UNITS = 500
_JUDGED_SHARE = 4


class ReplayDesign(BaseModel):
    """`replay.toml`: how large a replay is.

    Attributes:
        seed: of everything that is drawn but the noise; a suspicion is repeated with another.
        federations: that are run, in each world.
        sites: of each federation.
        units: privacy units of each site; absent: what the schema declares, at most 500.
        canaries: kinds that are inserted at the target site. "blank": all in the middle but one
            number; "typical": a record like all others; "mislabelled": one with a wrong label;
            "crafted": every number near a bound, with an unlikely label.
        canaries_per_kind: of each.
        poisons: wrongly labelled copies of every canary, at another site (Tramèr et al. 2022);
            above 0 all federations are run a second time, with them.
        checkpoint_every: rounds between two looks at the aggregated model; absent: a quarter of
            the run.
        confidence: of every bound on epsilon.
        published: where public records come from, in words; needed for records that are not made
            up, unless they are a site's own and stay there.
    """

    model_config = STRICT

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    federations: Annotated[int, Field(ge=LEAST_FEDERATIONS, le=10_000)] = 32
    sites: Annotated[int, Field(ge=2, le=64)] = 4
    units: Annotated[int | None, Field(ge=8, le=100_000)] = None
    canaries: tuple[CanaryKind, ...] = ("blank", "mislabelled", "crafted")
    canaries_per_kind: Annotated[int, Field(ge=2, le=10_000)] = 24
    poisons: Annotated[int, Field(ge=0, le=64)] = 0
    checkpoint_every: Annotated[int | None, Field(ge=1)] = None
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    published: Annotated[str | None, Field(min_length=8, max_length=500)] = None

    @model_validator(mode="after")
    def _distinct(self) -> "ReplayDesign":
        if not self.canaries or len(set(self.canaries)) < len(self.canaries):
            raise ValueError("canaries must name at least one kind, and none twice")
        return self

    @property
    def kinds(self) -> tuple[CanaryKind, ...]:
        """The kind of each canary, in their order."""
        return tuple(kind for kind in self.canaries for _ in range(self.canaries_per_kind))

    @property
    def judged(self) -> int:
        """Federations that attacks are judged on; from the others they learn."""
        return max(2, self.federations // _JUDGED_SHARE)


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """A replay, complete.

    Attributes:
        job: that every federation runs.
        schema: of every site, with the columns that the job uses; its order of magnitude is that
            of the replay.
        design: how large the replay is.
        dataset: where the records are; None: they are made up from the schema.
        stays_below: the directory that nothing of this replay may leave, where its records are
            members'; None where they are public or made up.
    """

    job: Job
    schema: Schema
    design: ReplayDesign
    dataset: DatasetFile | None = None
    stays_below: Path | None = None

    @property
    def worlds(self) -> tuple[int, ...]:
        """Poisons of each canary, by world."""
        return (0, self.design.poisons) if self.design.poisons else (0,)

    @property
    def units(self) -> int:
        """Privacy units of each site, without canaries."""
        return self.schema.dataset.order_of_magnitude

    @property
    def looked_at(self) -> tuple[int, ...]:
        """Rounds before which the aggregated model is looked at, rising."""
        rounds = self.job.plan.require_training().rounds
        every = self.design.checkpoint_every or max(1, rounds // 4)
        return tuple(range(1 + every, rounds + 1, every))

    def digest(self) -> str:
        """SHA-256 of all of it, in hex; of public records, their declaration."""
        facts = {
            "job": self.job.digest(),
            "schema": self.schema.digest(),
            "design": self.design.model_dump(mode="json"),
            "source": None if self.dataset is None else self.dataset.model_dump(mode="json"),
        }
        return hashlib.sha256(canonical_json(facts)).hexdigest()


def make_plan(
    job: Job,
    schema: Schema,
    design: ReplayDesign,
    *,
    dataset: DatasetFile | None = None,
    site: SiteConfig | None = None,
) -> ReplayPlan:
    """The replay of a job.

    Args:
        job: with its noise: of a finished run, or resolved anew.
        schema: of the data set that the job is about.
        design: how large.
        dataset: where the records are; None: they are made up.
        site: whose members the records are, where the replay runs at that site; what it makes of
            them stays below the site's state. None: they are public.

    Raises:
        InputError: the job trains nothing or is about another data set, or records that are not
            made up are neither a site's own nor said to be public.
    """
    job.plan.require_training()
    if schema.dataset.name != job.file.job.dataset:
        raise InputError(
            f"the job is about {job.file.job.dataset!r}, the schema about {schema.dataset.name!r}"
        )
    if dataset is not None and site is None:
        _require_public(dataset, design)
    facts = schema.dataset
    units = design.units or min(facts.order_of_magnitude, _MOST_UNITS)
    sized = facts.model_copy(update={"order_of_magnitude": units, "lineage": None})
    return ReplayPlan(
        _for_any_sites(job, design.sites),
        schema.narrowed(job.file.job.columns).model_copy(update={"dataset": sized}),
        design,
        dataset,
        None if site is None else site.site.state,
    )


def read_plan(
    job: Path,
    *,
    schema: Path | None,
    data: Path | None,
    design: Path | None = None,
    runs: int | None = None,
) -> ReplayPlan:
    """Read the replay of a job.

    Args:
        job: a job file, which gets the noise that its epsilon needs; or the directory of a run at
            the server, whose job has its noise already.
        schema: a data set's declaration, from which records are made up; its source is not read.
        data: a directory with `dataset.toml` and the public files that it names.
        design: a `replay.toml`; None: its defaults.
        runs: federations, in place of what the design says.

    Raises:
        NotFoundError: a file is absent.
        IntegrityError: the directory is no run's.
        InputError: a file breaks its rules, or not exactly one of `schema` and `data` is given.
    """
    if (schema is None) == (data is None):
        raise InputError("give either --schema, for made-up records, or --data, for public ones")
    wanted = ReplayDesign() if design is None else read_toml(design, ReplayDesign)
    if runs is not None:
        if runs < LEAST_FEDERATIONS:
            raise InputError(f"--runs must be at least {LEAST_FEDERATIONS}, not {runs}")
        wanted = wanted.model_copy(update={"federations": runs})
    resolved = run_directory(job).job() if job.is_dir() else resolve(read_toml(job, JobFile))
    if data is not None:
        dataset = read_dataset(data / _DATASET)
        return make_plan(resolved, dataset.public, wanted, dataset=dataset)
    return make_plan(resolved, read_schema(schema or Path()), wanted)


class _SchemaFile(Schema):
    """A declaration with or without its source, which is not looked at."""

    source: Source | None = None


def read_schema(path: Path) -> Schema:
    """The public part of a data set's declaration; its source, if it has one, is not looked at.

    Raises:
        NotFoundError: there is no such file, or it names one of words that is not there.
        InputError: it breaks its rules.
    """
    read = read_toml(path, _SchemaFile)
    public = Schema(
        dataset=read.dataset, columns=read.columns, roles=read.roles, constraints=read.constraints
    )
    return public.with_words(path.parent)


def _require_public(dataset: DatasetFile, design: ReplayDesign) -> None:
    """Members' records stay at their site: what is read elsewhere, somebody says is public."""
    if isinstance(dataset.source, SqlSource):
        raise InputError(
            "a replay reads public files, no database: members' records stay at their site"
        )
    if design.published is None:
        raise InputError(
            "a replay reads public records alone, and somebody must say that they are: set"
            " published = 'where they come from' in the replay's design"
        )


def _for_any_sites(job: Job, sites: int) -> Job:
    """The job with the replay's own cohort: whom it names has no part in what is released."""
    cohort = job.file.cohort.model_copy(
        update={
            "sites": (),
            "quorum": sites,
            "deadline_seconds": 3600.0,
            "grace_seconds": 0.0,
            "aggregation": MEAN,
        }
    )
    return job.model_copy(update={"file": job.file.model_copy(update={"cohort": cohort})})
