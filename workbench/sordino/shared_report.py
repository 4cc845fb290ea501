"""The page of a synthesis that anybody may see: all of it follows from what the sites released.

No record is looked at: intervals come from the declared noise, the fit is judged against noisy
counts, and how well a model does that was trained on synthetic records is told by the noisy
evaluation of a run of its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from sordino import synthetic_plots
from sordino.cell_labels import cell_labels
from sordino.figure_words import statement_in_words
from sordino.score_plots import reliability_diagram, roc_diagram
from sordino.synthesis_budget import (
    TableShare,
    column_shares,
    share_matrix,
    step_costs,
    table_shares,
)
from sordino.synthetic_plots import Bars
from sordino.synthetic_release import SyntheticRelease
from sordino_audit.audit_words import promise
from sordino_audit.pages import page_environment
from sordino_protocols.synthesis.domain import ColumnDomain, NumericDomain, domain_of
from sordino_protocols.synthesis.goodness import expected_counts
from sordino_protocols.synthesis.marginals import Marginal
from sordino_server.statement import Statement

Floats = npt.NDArray[np.float64]

_TEMPLATE = "shared_report.html.j2"
_NORMAL_95 = 1.959964
_MOST_COLUMNS = 24
_MOST_TABLES = 200


@dataclass(frozen=True, slots=True)
class _Row:
    """One noisy table in the list of all of them."""

    share: TableShare
    half_width: float
    chi_squared: float | None


@dataclass(frozen=True, slots=True)
class _Pooled:
    """One marginal, summed over the sites.

    Attributes:
        marginal: what was counted.
        noisy: the sum of the released counts.
        noise_std: of the noise on each sum.
        expected: what the generator has.
    """

    marginal: Marginal
    noisy: Floats
    noise_std: float
    expected: Floats

    @property
    def chi_squared(self) -> float:
        """Mean squared distance of the generator from the counts, in variances of their noise."""
        return float(np.mean(((self.noisy - self.expected) / self.noise_std) ** 2))


def render(release: SyntheticRelease, *, evaluation: Statement | None = None) -> str:
    """The page as HTML.

    Args:
        release: the synthesis.
        evaluation: the statement of a run that trained on its rows.
    """
    plan, facts = release.plan, release.facts
    columns = domain_of(release.schema).columns
    names = [column.name for column in columns]
    shares = table_shares(plan, names)
    guarantee = release.job.file.guarantee
    pooled = _pooled(release)
    bars = _bars(pooled, columns)
    return (
        page_environment("sordino")
        .get_template(_TEMPLATE)
        .render(
            release=release,
            facts=facts,
            plan=plan,
            title=f"Synthetic {release.schema.dataset.name}",
            promise=promise(facts.epsilon_without_masks, guarantee.delta),
            units=_units(release),
            rows=_rows(shares, pooled),
            left_out=max(0, len(shares) - _MOST_TABLES),
            cells=sum(each.cells for each in plan.marginals),
            fine_share=math.fsum(each.share for each in shares if each.is_fine),
            columns_left_out=max(0, len(columns) - _MOST_COLUMNS) if bars else 0,
            marginals=[(each.title, synthetic_plots.marginal(each)) for each in bars],
            budget=_budget(release, shares, names),
            evaluation=None if evaluation is None else statement_in_words(evaluation),
            curves=_curves(evaluation),
        )
    )


def _units(release: SyntheticRelease) -> tuple[float, float] | None:
    """The number of units over all tables, with its standard deviation; None of rows."""
    tables = release.facts.tables.values()
    if not tables:
        return None
    spread = math.sqrt(math.fsum(each.units_std**2 for each in tables))
    return math.fsum(each.units for each in tables), spread


def _rows(shares: Sequence[TableShare], pooled: Sequence[_Pooled]) -> list[_Row]:
    """Of each table; its interval is that of the sum over the sites, if the tables left them."""
    if not pooled:
        return [_Row(each, _NORMAL_95 * each.noise_std, None) for each in shares[:_MOST_TABLES]]
    return [
        _Row(share, _NORMAL_95 * each.noise_std, each.chi_squared)
        for share, each in zip(shares, pooled, strict=True)
    ][:_MOST_TABLES]


def _budget(
    release: SyntheticRelease, shares: Sequence[TableShare], names: Sequence[str]
) -> Mapping[str, Markup]:
    epsilon = release.facts.epsilon_without_masks
    drawings = {"rows": synthetic_plots.share_of_rows(epsilon)}
    if shares:
        drawings["tables"] = synthetic_plots.share_map(share_matrix(shares, names), names)
        drawings["columns"] = synthetic_plots.column_bars(column_shares(shares, names))
    if steps := step_costs(release.plan, release.facts.delta):
        drawings["steps"] = synthetic_plots.epsilon_by_step(steps, promised=epsilon)
    return drawings


def _curves(evaluation: Statement | None) -> Mapping[str, Markup]:
    scores = None if evaluation is None else evaluation.evaluation
    if scores is None or not scores.roc:
        return {}
    return {"roc": roc_diagram(scores), "reliability": reliability_diagram(scores)}


def _bars(pooled: Sequence[_Pooled], columns: Sequence[ColumnDomain]) -> list[Bars]:
    """The one-way tables of all sites together, and what the generator makes of them."""
    return [
        _drawn(columns[each.marginal.columns[0]], each)
        for each in pooled
        if len(each.marginal.columns) == 1
    ][:_MOST_COLUMNS]


def _pooled(release: SyntheticRelease) -> list[_Pooled]:
    """Every marginal summed over the sites; none of a release of rows."""
    tables, generator = release.site_tables(), release.generator
    if not tables or generator is None:
        return []
    expected = np.sum([expected_counts(generator.mixture, each) for each in tables], axis=0)
    found, begin = list[_Pooled](), 0
    for of_sites in zip(*(table.parts() for table in tables), strict=True):
        marginal = of_sites[0][0]
        end = begin + marginal.cells
        noise_std = math.sqrt(math.fsum(noise_std**2 for _, noise_std, _ in of_sites))
        noisy = np.sum([counts for _, _, counts in of_sites], axis=0)
        found.append(_Pooled(marginal, noisy, noise_std, expected[begin:end]))
        begin = end
    return found


def _drawn(column: ColumnDomain, pooled: _Pooled) -> Bars:
    return Bars(
        title=column.name,
        labels=cell_labels(column),
        is_numeric=isinstance(column, NumericDomain),
        noisy=pooled.noisy,
        half_width=_NORMAL_95 * pooled.noise_std,
        fitted=pooled.expected,
    )
