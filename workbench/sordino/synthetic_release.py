"""What a finished synthesis left, wherever it lies: noisy tables, a generator or rows.

All of it was paid for when the sites released it; whatever is made of it here costs nothing more.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load

from sordino.connection import Connection
from sordino.synthetic_frames import frame_of
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.job import Job
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.schema import Schema
from sordino_protocols.signing import canonical_json
from sordino_protocols.synthesis.domain import Cells
from sordino_protocols.synthesis.generator_file import Generator, read_generator
from sordino_protocols.synthesis.tables import SiteTable
from sordino_server.runs import GENERATOR, ROWS, SYNTHESIS, TABLES, RunDirectory
from sordino_server.synthesizing import site_tables
from sordino_server.table_facts import SynthesisFacts

Integers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class SyntheticRelease:
    """A finished synthesis.

    Attributes:
        run_id: of the run.
        job: what was asked for.
        facts: how it went.
        tables: noisy marginals by site, flat; of a sum the one called "sum"; none of mode "table".
        generator: fitted to all tables; None in mode "table".
        rows: by site, in mode "table": [rows, positions].
    """

    run_id: str
    job: Job
    facts: SynthesisFacts
    tables: Mapping[str, Integers]
    generator: Generator | None
    rows: Mapping[str, Cells]

    @property
    def plan(self) -> SynthesisPlan:
        """What each site released."""
        return self.job.plan.require_synthesis()

    @property
    def schema(self) -> Schema:
        """Of the records."""
        return self.facts.declared

    @property
    def units(self) -> float:
        """How many privacy units there seem to be; in mode "table" how many rows there are."""
        if not self.facts.tables:
            return float(sum(self.facts.rows.values()))
        return math.fsum(each.units for each in self.facts.tables.values())

    def site_tables(self) -> list[SiteTable]:
        """The noisy marginals with their noise, to be fitted again; none in mode "table"."""
        if not self.tables:
            return []
        return site_tables(self.plan, self.tables, sites=len(self.facts.sites))

    def cells(
        self, rows: int | None, *, rng: np.random.Generator, site: str | None = None
    ) -> Cells:
        """Synthetic records as cells; in mode "table" drawn from the sites' rows, none twice.

        Args:
            rows: how many; None: as many as there seem to be units, or as the sites made.
            rng: of the draw.
            site: like that site's; None: like those of all sites together.

        Raises:
            NotFoundError: the site has no part in the release, or none of its own.
            InputError: the sites did not make so many rows.
        """
        if self.generator is not None:
            mixture = self.generator.mixture
            _check_site(site, mixture.sites)
            units = dict(zip(mixture.sites, mixture.units, strict=True))
            estimated = sum(units.values()) if site is None else units[site]
            wanted = max(1, round(estimated)) if rows is None else rows
            return self.generator.sample(wanted, rng=rng, site=site)
        _check_site(site, tuple(self.rows))
        made = [each for name, each in sorted(self.rows.items()) if site in {None, name}]
        return _drawn(np.concatenate(made), rows, rng=rng)

    def frame(
        self, rows: int | None = None, *, rng: np.random.Generator, site: str | None = None
    ) -> pd.DataFrame:
        """Synthetic records in the format of the source; arguments and errors as of `cells`."""
        return frame_of(self.cells(rows, rng=rng, site=site), self.schema, rng=rng)


def fetch_release(connection: Connection, run_id: str) -> SyntheticRelease:
    """A run's release, from the server.

    Raises:
        NotFoundError: there is no such run.
        InputError: it synthesized nothing, or is not over yet.
        ViolationError: the run is in quarantine.
    """
    shown = connection.show(run_id)
    if shown["state"] != "done":
        raise InputError(f"run {run_id} is {shown['state']}, not done: nothing can be sampled yet")
    job = Job.model_validate_json(canonical_json(shown["job"]))

    def read(name: str) -> bytes | None:
        try:
            return connection.fetch(run_id, name)
        except NotFoundError:
            return None

    return _assembled(run_id, job, read)


def read_release(run: RunDirectory) -> SyntheticRelease:
    """A run's release, from the server's own directory.

    Raises:
        InputError: it synthesized nothing, or is not over yet.
    """

    def read(name: str) -> bytes | None:
        return run.content(name) if run.has(name) else None

    return _assembled(run.run_id, run.job(), read)


def _assembled(run_id: str, job: Job, read: Callable[[str], bytes | None]) -> SyntheticRelease:
    facts = read(SYNTHESIS)
    if facts is None or job.plan.synthesis is None:
        raise InputError(f"run {run_id} synthesized nothing")
    generator = read(GENERATOR)
    try:
        return SyntheticRelease(
            run_id=run_id,
            job=job,
            facts=SynthesisFacts.model_validate_json(facts),
            tables=_arrays(read(TABLES)),
            generator=None if generator is None else read_generator(generator),
            rows=_arrays(read(ROWS)),
        )
    except (SafetensorError, ValueError):
        raise InputError(f"run {run_id}: a file of its release is damaged") from None


def _arrays(content: bytes | None) -> dict[str, Integers]:
    if content is None:
        return {}
    return {name: each.astype(np.int32, copy=False) for name, each in load(content).items()}


def _check_site(site: str | None, known: tuple[str, ...]) -> None:
    if site is not None and site not in known:
        raise NotFoundError(f"no site {site!r} in the release; there is: {', '.join(known)}")


def _drawn(made: Cells, rows: int | None, *, rng: np.random.Generator) -> Cells:
    if rows is None:
        return made
    if rows > len(made):
        raise InputError(
            f"the sites made {len(made)} rows; ask for no more, or synthesize again with more in"
            " synthesis.rows"
        )
    return made[rng.permutation(len(made))[:rows]]
