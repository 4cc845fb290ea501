"""Synthetic tables of unlike sites: the three modes beside a central table of the same records."""

import numpy as np
import numpy.typing as npt

from benchmarks.reporting import Figure
from benchmarks.synthesis_quality import MODELS, Encoded, mean, usefulness
from benchmarks.synthesis_runs import Synthesis, epsilons, local, plan_of, pooled, summed
from sordino.fidelity import distances

Cells = npt.NDArray[np.int32]

_SITES = (4, 16)
_CLOSE = 1.05
_SUM_BARS = {16: 0.036}
_LOCAL_BARS = {4: 0.046, 16: 0.065}
_LOCAL_AUC_BARS = {4: 0.885}
_SMALLEST_BARS = {4: 0.15}


def federated_figures(data: Encoded, *, repeats: int) -> list[Figure]:
    """All modes over 4 and 16 sites at epsilon 1; a repeat divides the records anew."""
    central_plan = plan_of(data.domain.shape, epsilon=1.0)
    central = mean(
        [
            _pairs(data.real, local([data.real], central_plan, seed=seed).rows, data)
            for seed in range(repeats)
        ]
    )
    figures = [Figure("central beside the sites: fine TV2", central)]
    for sites in _SITES:
        parts = [data.sites(sites, seed=seed) for seed in range(repeats)]
        figures += _of_sums(parts, data, central)
        figures += _of_local(parts, data)
        tables = [pooled(each, central_plan, seed=seed) for seed, each in enumerate(parts)]
        found = mean([_pairs(data.real, table.rows, data) for table in tables])
        figures.append(Figure(f"{sites} sites, table: fine TV2", found))
    return figures


def _of_sums(parts: list[list[Cells]], data: Encoded, central: float) -> list[Figure]:
    """With nobody allowed to stay silent, and with a quarter of the sites."""
    sites, figures = len(parts[0]), list[Figure]()
    for silent in (0, sites // 4):
        plan = plan_of(data.domain.shape, epsilon=1.0, sites=sites, silent=silent)
        runs = [summed(each, plan, seed=seed) for seed, each in enumerate(parts)]
        found = mean([_pairs(data.real, run.rows, data) for run in runs])
        name = f"{sites} sites, sum, {silent} may be silent"
        with_masks, without = epsilons(plan)
        figures += [
            Figure(f"{name}: fine TV2", found, _SUM_BARS.get(sites), is_upper_bar=True),
            # What tolerates silence has more noise than it needs while nobody is silent.
            Figure(f"{name}: fine TV2 over central", found / central, _CLOSE, is_upper_bar=True),
            Figure(f"{name}: epsilon with the masks", with_masks),
            Figure(f"{name}: epsilon without the masks", without),
        ]
    return figures


def _of_local(parts: list[list[Cells]], data: Encoded) -> list[Figure]:
    """One joint fit, of all records and of the smallest site's own."""
    sites, plan = len(parts[0]), plan_of(data.domain.shape, epsilon=1.0)
    runs = [local(each, plan, seed=seed) for seed, each in enumerate(parts)]
    found = mean([_pairs(data.real, run.rows, data) for run in runs])
    useful = [usefulness(run.rows, data, seed=seed) for seed, run in enumerate(runs)]
    gains = [
        _gain_of_smallest(each[-1], run, data, seed)
        for seed, (each, run) in enumerate(zip(parts, runs, strict=True))
    ]
    name = f"{sites} sites, local"
    return [
        Figure(f"{name}: fine TV2", found, _LOCAL_BARS.get(sites), is_upper_bar=True),
        Figure(
            f"{name}: TSTR AUC, boosted trees",
            mean([each[MODELS[0]] for each in useful]),
            _LOCAL_AUC_BARS.get(sites),
        ),
        Figure(
            f"{name}: smallest site's fine TV2, better than alone by",
            mean(gains),
            _SMALLEST_BARS.get(sites),
        ),
        Figure(f"{name}: records of the smallest site", mean([len(each[-1]) for each in parts])),
        Figure(f"{name}: fit, CPU-s", mean([run.seconds["fit"] for run in runs])),
    ]


def _gain_of_smallest(cells: Cells, joint: Synthesis, data: Encoded, seed: int) -> float:
    """By which share the joint fit takes its own table's distance down."""
    if joint.mixture is None:
        raise TypeError("a joint fit has a mixture")
    site, rng = joint.mixture.sites[-1], np.random.default_rng(seed)
    together = joint.mixture.sample(len(cells), rng=rng, site=site)
    alone = local([cells], joint.plan, seed=seed).mixture
    if alone is None:
        raise TypeError("a fit has a mixture")
    by_itself = alone.sample(len(cells), rng=rng)
    return 1 - _pairs(cells, together, data) / _pairs(cells, by_itself, data)


def _pairs(real: Cells, synthetic: Cells, data: Encoded) -> float:
    return distances(real, synthetic, data.domain.shape, ways=2, resolution="fine").mean
