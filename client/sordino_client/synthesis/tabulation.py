"""A site's one table of a run: marginals, masked marginals, synthetic rows or counts.

Each costs what its plan says, `plan.event`, and is as private as that. Nothing here decides whether
a table may be made, and nothing here leaves the site but what `tabulated` returns. `site.Site`
calls it when the ledger has been charged, and not otherwise.
"""

import os
from collections.abc import Collection

import numpy as np

from sordino_client.admitted import AdmittedRun
from sordino_client.data.site_dataset import SiteDataset
from sordino_client.data.table_cells import cells_of
from sordino_client.mechanisms import Engine
from sordino_client.synthesis.generators.dispatch import generate
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_client.synthesis.masks import masked, sum_of_masks
from sordino_client.synthesis.measure import Cells, Counts, exact_counts, measure, with_noise
from sordino_client.training.noise import Noise
from sordino_client.unit_rows import one_row_a_unit
from sordino_protocols import counting
from sordino_protocols.messages import Integers
from sordino_protocols.plan import CountPlan, SynthesisPlan
from sordino_protocols.schema import Schema

_LOWEST, _HIGHEST = np.iinfo(np.int32).min, np.iinfo(np.int32).max


def tabulated(
    run: AdmittedRun, dataset: SiteDataset, engine: Engine, masks: MaskKeys | None
) -> Integers:
    """The table that the run's plan is about, flat, of the records that are not held out.

    Args:
        run: admitted, with a plan that has a table.
        dataset: whose records.
        engine: how the site computes.
        masks: the site's keys for sums; needed in mode "sum".

    Raises:
        ValueError: the plan has no table, or a sum and the site no keys: admission saw to that.
    """
    cells = cells_of(
        dataset.training, dataset.schema, rows=one_row_a_unit(dataset.training, engine.noise)
    )
    match run.job.plan.tabulation:
        case SynthesisPlan(mode="local") as plan:
            return measure(cells, plan.released_marginals, shape=plan.shape, noise=engine.noise)
        case SynthesisPlan(mode="sum") as plan if masks is not None:
            return _part_of_a_sum(run, plan, cells, engine.noise, masks)
        case SynthesisPlan(mode="table") as plan:
            return _rows(plan, cells, dataset.schema, engine)
        case CountPlan() as plan:
            return noisy_counts(plan, cells, dataset.schema, noise=engine.noise)
        case _:
            raise ValueError("the run has no table, or no keys to mask one with")


def unmasked(run: AdmittedRun, masks: MaskKeys, missing: Collection[str]) -> Integers:
    """The masks in this site's table that it shares with the missing sites: depends on keys alone.

    Args:
        run: admitted, with a plan of a sum.
        masks: the site's keys.
        missing: checked names of other sites.

    Raises:
        ValueError: the plan has no sum.
    """
    plan = run.job.plan.synthesis
    if plan is None:
        raise ValueError("the run has no sum")
    return sum_of_masks(
        masks,
        missing,
        plan.sites,
        run_id=run.run_id,
        job_digest=run.job_digest,
        count=sum(each.cells for each in plan.released_marginals),
    ).view(np.int32)


def noisy_counts(plan: CountPlan, cells: Cells, schema: Schema, *, noise: Noise) -> Integers:
    """Answers to counting queries, one after the other: cost `plan.event`.

    Raises:
        InputError: a query does not fit the schema: admission saw to that.
    """
    exact = counting.exact_counts(counting.predicates_of(plan.queries, schema), cells)
    noisy: Counts = exact + noise.discrete_gaussian(len(exact), noise_std=plan.noise_multiplier)
    return np.clip(noisy, _LOWEST, _HIGHEST).astype(np.int32, copy=False)


def _part_of_a_sum(
    run: AdmittedRun, plan: SynthesisPlan, cells: Cells, noise: Noise, masks: MaskKeys
) -> Integers:
    marginals = plan.released_marginals
    noisy = with_noise(exact_counts(cells, marginals, shape=plan.shape), marginals, noise=noise)
    return masked(noisy, masks, plan.sites, run_id=run.run_id, job_digest=run.job_digest)


def _rows(plan: SynthesisPlan, cells: Cells, schema: Schema, engine: Engine) -> Integers:
    # Of what is drawn after the noise nobody's privacy depends; all the same nobody can guess it.
    rng = np.random.default_rng(int.from_bytes(os.urandom(32), "big"))
    rows = generate(
        plan,
        cells,
        noise=engine.noise,
        performance=engine.performance,
        rng=rng,
        schema=schema,
    )
    return rows.astype(np.int32).ravel()
