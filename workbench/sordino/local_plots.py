"""Drawings of a local report: synthetic records beside real ones."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from sordino.local_figures import Fidelity, Group, Utility
from sordino.synthetic_plots import heat, shortened
from sordino_audit.drawing import ACCENT, BAD, GRID, INK, MUTED, WARM, new_drawing
from sordino_audit.synthesis.divergence import Divergence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_COLUMNS = 24
_MOST_GROUPS = 20
_FAIR = (0.7, 1.3)
_NOTABLE = 0.1


def pair_distances(fidelity: Fidelity) -> Markup:
    """Total variation of every pair of columns; the stronger, the farther off."""
    matrix = np.nan_to_num(fidelity.pairs)[:_MOST_COLUMNS, :_MOST_COLUMNS]
    with new_drawing("Distance of every pair of columns", height=4.6) as drawing:
        axes = drawing.figure.subplots()
        highest = float(matrix.max())
        heat(axes, matrix, fidelity.names[:_MOST_COLUMNS], highest=highest)
        axes.set_title(f"Strongest: {highest:.3f}")
    return drawing.svg


def associations(fidelity: Fidelity) -> Markup:
    """How strongly columns go together: real above the diagonal, synthetic below it."""
    real = np.nan_to_num(fidelity.real_associations)[:_MOST_COLUMNS, :_MOST_COLUMNS]
    synthetic = np.nan_to_num(fidelity.synthetic_associations)[:_MOST_COLUMNS, :_MOST_COLUMNS]
    with new_drawing("Association of columns", height=4.6) as drawing:
        axes = drawing.figure.subplots()
        both = np.triu(real, k=1) + np.tril(synthetic, k=-1)
        heat(axes, both, fidelity.names[:_MOST_COLUMNS], highest=1.0)
        axes.plot([-0.5, len(both) - 0.5], [-0.5, len(both) - 0.5], color=INK, linewidth=0.8)
        axes.set_title("Real above the diagonal, synthetic below")
    return drawing.svg


def queries(fidelity: Fidelity) -> Markup:
    """How far off each counting query is, by the share of the real records that it holds for."""
    real, synthetic = 100 * fidelity.queries.T
    errors = synthetic - real
    with new_drawing("Errors of counting queries", height=3.0) as drawing:
        axes = drawing.figure.subplots()
        axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        axes.scatter(real, errors, s=6, color=ACCENT, alpha=0.35, linewidth=0)
        axes.set(xlabel="True answer, % of the records", ylabel="Error, % of the records")
        axes.margins(y=0.25)
        axes.grid()
    return drawing.svg


def model_scores(utility: Utility) -> Markup:
    """Each model: trained on synthetic records and on real ones, tested on the same real ones."""
    names = list(utility.real)
    with new_drawing("Models trained on synthetic and on real records", height=2.8) as drawing:
        axes = drawing.figure.subplots()
        _pairs(
            axes,
            names,
            [utility.synthetic[name] for name in names],
            [utility.real[name] for name in names],
        )
        axes.set_xlabel(utility.metric)
        drawing.figure.legend(loc="outside lower center", ncols=2)
    return drawing.svg


def group_sizes(groups: Sequence[Group]) -> Markup:
    """Size of each group, and how much of it the synthetic records kept."""
    with new_drawing("Sizes of groups", height=2.8) as drawing:
        axes = drawing.figure.subplots()
        axes.axhspan(*_FAIR, color=GRID, alpha=0.5, linewidth=0)
        axes.axhline(1, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        sizes = [group.size.records for group in groups]
        ratios = [group.size.ratio for group in groups]
        axes.scatter(sizes, ratios, color=WARM, s=26, linewidth=0)
        for group in groups:
            if abs(group.size.ratio - 1) < _NOTABLE:
                continue
            axes.annotate(
                shortened(group.label),
                (group.size.records, group.size.ratio),
                (5, 4),
                textcoords="offset points",
            )
        axes.set(xscale="log", xlabel="Real records of the group", ylabel="Synthetic over real")
        axes.margins(x=0.15, y=0.2)
        # Whole decades: what is between them has no room for labels.
        decades = [math.floor(math.log10(size)) for size in sizes if size] or [0]
        axes.set_xlim(10.0 ** min(decades), 10.0 ** (max(decades) + 1))
        axes.tick_params(axis="x", which="minor", labelbottom=False)
        axes.grid()
    return drawing.svg


def group_accuracies(groups: Sequence[Group]) -> Markup | None:
    """Accuracy for each group, trained on synthetic and on real records; None without any."""
    told = [group for group in groups if group.accuracy is not None][:_MOST_GROUPS]
    if not told:
        return None
    with new_drawing("Accuracy by group", height=1.1 + 0.28 * len(told)) as drawing:
        axes = drawing.figure.subplots()
        accuracies = [group.accuracy for group in told if group.accuracy is not None]
        _pairs(
            axes,
            [f"{group.column}: {shortened(group.label)}" for group in told],
            [each.trained_on_synthetic for each in accuracies],
            [each.trained_on_real for each in accuracies],
        )
        axes.set_xlabel("Accuracy on real records of the group")
        drawing.figure.legend(loc="outside lower center", ncols=2)
    return drawing.svg


def divergences(found: Sequence[Divergence]) -> Markup:
    """How far members and strangers are apart, attribute by attribute, against the promise."""
    shown = sorted(found, key=lambda each: -each.advantage.estimate)[:_MOST_COLUMNS]
    with new_drawing("Advantage of guessing membership", height=1.1 + 0.24 * len(shown)) as drawing:
        axes = drawing.figure.subplots()
        most = shown[0].most
        if most < 1:
            axes.axvspan(most, 1, color=BAD, alpha=0.1, linewidth=0)
            axes.axvline(most, color=BAD, linewidth=1.1)
        axes.axvline(0, color=GRID, linewidth=0.8)
        for row, each in enumerate(shown):
            low, high = each.advantage.low, each.advantage.high
            axes.hlines(row, low, high, color=ACCENT, linewidth=2, alpha=0.4)
            axes.plot(each.advantage.estimate, row, "o", color=ACCENT, markersize=4)
        axes.set_yticks(range(len(shown)), [shortened(each.query) for each in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(min(-0.1, *(each.advantage.low for each in shown)), min(1, 1.25 * most))
        axes.set_xlabel("Members recognised less strangers accused")
        axes.tick_params(axis="y", length=0)
    return drawing.svg


def variations(fidelity: Fidelity) -> Mapping[str, tuple[float, ...]]:
    """Mean total variation at both resolutions, by number of columns; rows of a table."""
    ways = sorted({way for way, _ in fidelity.variations})
    return {
        resolution: tuple(
            value
            for way in ways
            for (each, at), value in fidelity.variations.items()
            if each == way and at == resolution
        )
        for resolution in ("fine", "coarse")
    }


def _pairs(
    axes: "Axes", names: Sequence[str], synthetic: Sequence[float], real: Sequence[float]
) -> None:
    places = range(len(names))
    axes.hlines(places, synthetic, real, color=GRID, linewidth=2)
    axes.plot(real, places, "o", color=MUTED, markersize=6, label="trained on real")
    axes.plot(synthetic, places, "o", color=WARM, markersize=6, label="trained on synthetic")
    axes.set_yticks(places, list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.1)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x")
