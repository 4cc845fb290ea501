"""From the sites' tables to a generator and what is published of it; all of it post-processing.

What must stay true: everything here is a function of the job and of what the sites released, so a
run that was interrupted writes the same files as one that was not.
"""

import hashlib
import math
from collections.abc import Mapping

import numpy as np

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.job import Job
from sordino_protocols.messages import Integers
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.generator_file import Generator, write_generator
from sordino_protocols.synthesis.goodness import goodness_of_fit
from sordino_protocols.synthesis.mixture_fit import fit_mixture
from sordino_protocols.synthesis.specs import MixtureSpec
from sordino_protocols.synthesis.tables import SiteTable, estimate_units
from sordino_server.runs import GENERATOR, SYNTHESIS, RunDirectory
from sordino_server.table_facts import SynthesisFacts, TableFacts
from sordino_server.tabulating import Tables


def synthesize(run: RunDirectory, job: Job, declared: Schema, tables: Tables) -> SynthesisFacts:
    """Fit a generator to what the sites released, unless they sent rows, and tell how it went.

    Args:
        run: where `GENERATOR` and `SYNTHESIS` are written.
        job: the run's.
        declared: the data set's public schema.
        tables: what the sites released.
    """
    plan, delta = job.plan.require_synthesis(), job.file.guarantee.delta
    marginals = site_tables(plan, tables.numbers, sites=len(tables.sites))
    facts = SynthesisFacts(
        mode=plan.mode,
        generator=plan.generator,
        declared=declared,
        sites=tables.sites,
        missing=tables.missing,
        tables=_fitted(run, job, declared, marginals) if marginals else {},
        rows=_row_counts(plan, tables),
        epsilon=epsilon_by_pld(plan.whole_event, delta),
        epsilon_without_masks=epsilon_by_pld(plan.event, delta),
        delta=delta,
    )
    run.save(SYNTHESIS, facts)
    return facts


def _fitted(
    run: RunDirectory, job: Job, declared: Schema, tables: list[SiteTable]
) -> dict[str, TableFacts]:
    """Write the generator; returns how it fits each table."""
    spec, digest = job.plan.require_synthesis().generator, job.digest()
    if not isinstance(spec, MixtureSpec):
        raise TypeError("only a mixture is fitted to marginals")
    mixture = fit_mixture(tables, components=spec.components, rng=_public_generator(digest))
    content = write_generator(Generator(declared, mixture), run_id=run.run_id, job_digest=digest)
    run.save_content(GENERATOR, content)
    found: dict[str, TableFacts] = {}
    for table in tables:
        units = estimate_units(table)
        found[table.site] = TableFacts(
            units=units.value,
            units_std=units.sd,
            chi_squared_per_cell=goodness_of_fit(mixture, table),
        )
    return found


def site_tables(
    plan: SynthesisPlan, numbers: Mapping[str, Integers], *, sites: int
) -> list[SiteTable]:
    """Noisy marginals with the noise that is really in them; none where sites sent rows.

    Args:
        plan: of the run.
        numbers: what was released, flat; by site, or of a sum the one table.
        sites: whose release is in it; of a sum, how many shares of noise its table has.
    """
    if plan.mode == "table":
        return []
    shares = math.sqrt(sites) if plan.mode == "sum" else 1.0
    marginals = plan.released_marginals
    return [
        SiteTable(
            site=name,
            shape=plan.shape,
            marginals=marginals,
            counts=numbers[name].astype(np.float64),
            noise_stds=tuple(shares * marginal.noise_std for marginal in marginals),
        )
        # A file gives tables back in any order, and a fit depends on it.
        for name in sorted(numbers)
    ]


def _row_counts(plan: SynthesisPlan, tables: Tables) -> dict[str, int]:
    if plan.mode != "table":
        return {}
    positions = plan.shape.position_count
    return {site: len(numbers) // positions for site, numbers in tables.numbers.items()}


def _public_generator(job_digest: str) -> np.random.Generator:
    """Randomness that no privacy rests on: an attempt that fits again repeats it."""
    digest = hashlib.sha256(b"sordino/fit/1\n" + bytes.fromhex(job_digest)).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
