"""Drawings of a synthetic release: noisy marginals, their fit, and what each cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from sordino.synthesis_budget import Matrix, StepCost
from sordino_audit.drawing import ACCENT, GRID, INK, MUTED, WARM, new_drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

_MOST_BARS = 24
_MOST_COLUMNS = 24
_LONGEST_LABEL = 16


@dataclass(frozen=True, slots=True)
class Bars:
    """A one-way table as it was released, beside what the generator makes of it.

    Attributes:
        title: the column.
        labels: one a cell: where a number's cell begins, or a word.
        is_numeric: whether the cells are in the order of numbers.
        noisy: released counts.
        half_width: of each count's interval.
        fitted: expected counts of the generator.
    """

    title: str
    labels: tuple[str, ...]
    is_numeric: bool
    noisy: Floats
    half_width: float
    fitted: Floats


def marginal(bars: Bars) -> Markup:
    """Noisy counts with their intervals, and the fit: a band for numbers, a line for each word."""
    height = 2.2 if bars.is_numeric else 0.9 + 0.2 * min(len(bars.labels), _MOST_BARS)
    with new_drawing(f"Noisy counts of {bars.title}", height=height) as drawing:
        axes = drawing.figure.subplots()
        if bars.is_numeric:
            _band(axes, bars)
        else:
            _lines(axes, bars)
        drawing.figure.legend(loc="outside lower center", ncols=2)
    return drawing.svg


def share_map(matrix: Matrix, names: Sequence[str]) -> Markup:
    """Each table's share of the privacy: one-way tables on the diagonal, stronger is more."""
    kept = np.sort(np.argsort(-matrix.sum(axis=1), kind="stable")[:_MOST_COLUMNS])
    shown, labels = matrix[np.ix_(kept, kept)], [names[each] for each in kept.tolist()]
    with new_drawing("Share of the privacy by table", height=4.6) as drawing:
        axes = drawing.figure.subplots()
        heat(axes, shown, labels, highest=float(shown.max()))
        axes.set_title(f"Strongest: {100 * shown.max():.1f}% for one table")
    return drawing.svg


def column_bars(shares: Mapping[str, float]) -> Markup:
    """What each column took of the privacy, the largest first."""
    ordered = sorted(shares.items(), key=lambda each: -each[1])
    with new_drawing("Share by column", height=0.9 + 0.2 * len(ordered)) as drawing:
        axes = drawing.figure.subplots()
        places = range(len(ordered))
        axes.barh(places, [100 * share for _, share in ordered], color=ACCENT, height=0.6)
        axes.set_yticks(places, [shortened(name) for name, _ in ordered])
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Share of the privacy, %")
        axes.grid(axis="x")
    return drawing.svg


def epsilon_by_step(costs: Sequence[StepCost], *, promised: float) -> Markup:
    """What a trained generator had spent after each of its steps."""
    with new_drawing("Epsilon by step of training", height=2.6) as drawing:
        axes = drawing.figure.subplots()
        steps = [0, *(each.steps for each in costs)]
        spent = [0.0, *(each.epsilon for each in costs)]
        axes.axhline(promised, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"promised {promised:g}", (0, promised), (2, 4), textcoords="offset points", color=INK
        )
        axes.fill_between(steps, spent, color=ACCENT, alpha=0.12, linewidth=0)
        axes.plot(steps, spent, color=ACCENT, linewidth=1.8)
        axes.set(xlabel="Step", ylabel="Epsilon", xlim=(0, max(steps)), ylim=(0, 1.2 * promised))
        axes.grid(axis="y")
    return drawing.svg


def share_of_rows(epsilon: float) -> Markup:
    """Epsilon by the number of rows that are sampled: the same for any number."""
    with new_drawing("Epsilon by rows sampled", height=2.2) as drawing:
        axes = drawing.figure.subplots()
        rows = np.geomspace(1, 1e6, 13)
        axes.plot(rows, np.full(len(rows), epsilon), color=ACCENT, linewidth=1.8)
        axes.annotate(
            f"{epsilon:.3g}, once",
            (1, epsilon),
            (4, 5),
            textcoords="offset points",
            color=ACCENT,
        )
        axes.set(xscale="log", xlabel="Synthetic rows", ylabel="Epsilon", xlim=(1, 1e6))
        axes.set_ylim(0, 1.35 * epsilon)
        axes.grid(axis="y")
    return drawing.svg


def shortened(label: str) -> str:
    """A label of no more than so many characters."""
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _band(axes: "Axes", bars: Bars) -> None:
    places = np.arange(len(bars.noisy))
    low, high = bars.noisy - bars.half_width, bars.noisy + bars.half_width
    axes.fill_between(
        places, low, high, step="mid", color=MUTED, alpha=0.3, linewidth=0, label="released, 95%"
    )
    axes.step(places, bars.fitted, where="mid", color=ACCENT, linewidth=1.5, label="generator")
    axes.axhline(0, color=GRID, linewidth=0.8)
    shown = np.unique(np.linspace(0, len(places) - 1, 6).round().astype(int)).tolist()
    axes.set_xticks(shown, [shortened(bars.labels[place]) for place in shown])
    axes.set(ylabel="Units", xlim=(-0.5, len(places) - 0.5))


def _lines(axes: "Axes", bars: Bars) -> None:
    shown = np.argsort(-bars.noisy, kind="stable")[:_MOST_BARS]
    places = np.arange(len(shown))
    axes.hlines(
        places,
        bars.noisy[shown] - bars.half_width,
        bars.noisy[shown] + bars.half_width,
        color=MUTED,
        linewidth=5,
        alpha=0.45,
        label="released, 95%",
    )
    axes.plot(bars.fitted[shown], places, "o", color=ACCENT, markersize=4, label="generator")
    axes.axvline(0, color=GRID, linewidth=0.8)
    axes.set_yticks(places, [shortened(bars.labels[place]) for place in shown.tolist()])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Units")
    axes.locator_params(axis="x", nbins=5)


def heat(axes: "Axes", values: Floats, names: Sequence[str], *, highest: float) -> None:
    """A square matrix as shades of one colour: vectors, so that they follow the page's theme."""
    from matplotlib.collections import PolyCollection  # noqa: PLC0415
    from matplotlib.colors import to_rgba  # noqa: PLC0415

    rows, columns = np.nonzero(values > 0)
    corners = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)]) - 0.5
    squares = np.stack([columns, rows], axis=1)[:, np.newaxis] + corners
    shades = np.clip(values[rows, columns] / max(highest, math.ulp(1)), 0, 1)
    axes.add_collection(
        PolyCollection(list(squares), facecolors=[to_rgba(WARM, each) for each in shades.tolist()])
    )
    labels = [shortened(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=90)
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
