"""The same noisy tables, fitted by us and by `mbi`, the package of private-pgm.

Its graphical models know as many cells as its junction tree has, so all pairs of 14 columns are out
of their reach: they get the pairs of a spanning tree, as in its MST, chosen by the noisy tables.
Its mixture of products gets what ours gets: all tables, as many components, as many steps. Both
work on coarse cells alone. It lives in an environment of its own, whose Python the caller names.
"""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.reporting import Figure
from benchmarks.synthesis_runs import plan_of
from sordino.fidelity import distances
from sordino_client.synthesis.measure import measure
from sordino_client.training.noise import SecureNoise
from sordino_protocols.synthesis.mixture_fit import DEFAULT_STEPS, fit_mixture
from sordino_protocols.synthesis.shapes import DomainShape, SingleShape
from sordino_protocols.synthesis.specs import MixtureSpec
from sordino_protocols.synthesis.tables import SiteTable, estimate_units

Cells = npt.NDArray[np.int32]

_SCRIPT = Path(__file__).parent / "synthesis_peer_fit.py"
_TIMEOUT_SECONDS = 3_600


def peer_figures(real: Cells, shape: DomainShape, *, epsilon: float, python: Path) -> list[Figure]:
    """Likeness and CPU seconds of three fits to one release.

    Args:
        real: fine cells [records, positions] of single columns.
        shape: of the cells.
        epsilon: of the release.
        python: has `mbi` installed.

    Raises:
        subprocess.CalledProcessError: it has not, or the fit failed.
    """
    coarse, cells = _coarsened(real, shape)
    table = _measured(cells, coarse, epsilon)
    start = time.process_time()
    mixture = fit_mixture(
        [table], components=MixtureSpec().components, rng=np.random.default_rng(0)
    )
    own = mixture.sample(round(estimate_units(table).value), rng=np.random.default_rng(0))
    own_seconds = time.process_time() - start
    found = _peer(table, python)
    figures = _figures("ours", cells, own, coarse, own_seconds)
    for name, words in (("mixture", "mbi mixture of products"), ("tree", "mbi graphical model")):
        seconds = float(found[f"{name}_seconds"][1])
        rows = np.asarray(found[name], dtype=np.int32)
        figures += _figures(words, cells, rows, coarse, seconds)
        figures.append(Figure(f"same release: CPU-s of {words} over ours", seconds / own_seconds))
    return figures


def _figures(
    name: str, real: Cells, rows: Cells, shape: DomainShape, seconds: float
) -> list[Figure]:
    found = distances(real, rows, shape, ways=2, resolution="coarse").mean
    return [
        Figure(f"same release, {name}: coarse TV2", found),
        Figure(f"same release, {name}: fit and sample, CPU-s", seconds),
    ]


def _coarsened(real: Cells, shape: DomainShape) -> tuple[DomainShape, Cells]:
    """The same records where coarse cells are all there is."""
    singles = [column for column in shape.columns if isinstance(column, SingleShape)]
    coarse = DomainShape(
        columns=tuple(SingleShape(groups=(1,) * column.coarse) for column in singles),
        label=shape.label,
    )
    cells = [column.coarse_of()[real[:, place]] for place, column in enumerate(singles)]
    return coarse, np.stack(cells, axis=1).astype(np.int32)


def _measured(cells: Cells, shape: DomainShape, epsilon: float) -> SiteTable:
    marginals = plan_of(shape, epsilon=epsilon).marginals
    counts = measure(cells, marginals, shape=shape, noise=SecureNoise()).astype(np.float64)
    return SiteTable("here", shape, marginals, counts, tuple(each.noise_std for each in marginals))


def _peer(table: SiteTable, python: Path) -> dict[str, npt.NDArray[np.float64]]:
    """What the other Python makes of the table."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(
            source,
            sizes=[column.coarse for column in _singles(table)],
            columns=[(*each.columns, -1)[:2] for each in table.marginals],
            counts=table.counts,
            stds=table.noise_stds,
            total=estimate_units(table).value,
            tree=_spanning_tree(table),
            components=MixtureSpec().components,
            steps=DEFAULT_STEPS,
        )
        subprocess.run(
            [str(python), str(_SCRIPT), str(source), str(target)],
            check=True,
            timeout=_TIMEOUT_SECONDS,
        )
        with np.load(target) as file:
            return {name: file[name] for name in file.files}


def _spanning_tree(table: SiteTable) -> list[int]:
    """Which tables make the tree of the most dependent pairs (Prim), by their noisy counts."""
    weights = {
        marginal.columns: (_dependence(counts, table, marginal.columns), index)
        for index, (marginal, _, counts) in enumerate(table.parts())
        if len(marginal.columns) > 1
    }
    inside, chosen = {0}, list[int]()
    while len(inside) < len(table.shape.columns):
        edges = [pair for pair in weights if len(inside & set(pair)) == 1]
        best = max(edges, key=lambda pair: weights[pair][0])
        chosen.append(weights[best][1])
        inside |= set(best)
    return chosen


def _dependence(counts: npt.NDArray[np.float64], table: SiteTable, columns: Sequence[int]) -> float:
    """Mutual information of a noisy table, negative counts taken for none."""
    singles = _singles(table)
    joint = np.maximum(counts, 0).reshape([singles[column].coarse for column in columns])
    joint = joint / joint.sum()
    apart = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / apart[some])).sum())


def _singles(table: SiteTable) -> list[SingleShape]:
    return [column for column in table.shape.columns if isinstance(column, SingleShape)]
