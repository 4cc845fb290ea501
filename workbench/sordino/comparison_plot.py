"""The federation's model beside its rivals, figure by figure."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from sordino.figure_words import is_error, title_of, value_of
from sordino.result import Quality, RunResult
from sordino_audit.drawing import ACCENT, GRID, MUTED, THIRD, WARM, new_drawing
from sordino_protocols.scorecard import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_HEIGHT = 0.68
_REST_HEIGHT = 0.71
_TITLE_CHARACTERS = 18


@dataclass(frozen=True, slots=True)
class _Row:
    """A way to train: a filled dot, and a small one for each of `single`."""

    label: str
    colour: str
    quality: Quality
    single: tuple[Quality, ...] = ()


def comparison(result: RunResult) -> Markup:
    """Each exact figure: pooled without protection, federated with, each site alone with."""
    rows = _rows(result)
    figures = list(result["exact"])
    height = _REST_HEIGHT + _ROW_HEIGHT * len(rows)
    with new_drawing("Quality of the model compared", height=height) as drawing:
        panels = drawing.figure.subplots(1, len(figures), sharey=True, squeeze=False)[0]
        for axes, figure in zip(panels, figures, strict=True):
            _panel(axes, rows, figure)
        panels[0].set_yticks(range(len(rows)), [row.label for row in rows])
        panels[0].set_ylim(len(rows) - 0.5, -0.65)
    return drawing.svg


def _rows(result: RunResult) -> list[_Row]:
    central, alone = result["baselines"]["central"], result["baselines"]["alone"]
    rows = []
    if central is not None:
        rows.append(_Row("All records in one place,\nno protection", MUTED, central))
    rows.append(_Row("Federation, protected", ACCENT, result["exact"]))
    if "synthetic" in result and result["synthetic"]["exact"]:
        label = "Synthetic records,\nno rounds, protected"
        rows.append(_Row(label, THIRD, result["synthetic"]["exact"]))
    if alone is not None:
        single = tuple(alone["sites"].values())
        rows.append(_Row("Each site alone,\nprotected (mean)", WARM, alone["mean"], single))
    return rows


def _panel(axes: "Axes", rows: list[_Row], figure: Figure) -> None:
    for place in range(len(rows)):
        axes.axhline(place, color=GRID, linewidth=0.6, zorder=0)
    everything = []
    for place, row in enumerate(rows):
        value, single = row.quality[figure], [each[figure] for each in row.single]
        everything += [value, *single]
        axes.scatter(single, [place] * len(single), s=16, color=row.colour, alpha=0.45, linewidth=0)
        axes.scatter(value, place, s=64, color=row.colour, zorder=3, linewidth=0)
        axes.annotate(
            value_of(figure, value),
            (value, place),
            (0, 8),
            textcoords="offset points",
            ha="center",
        )
    spread = max(everything) - min(everything)
    margin = max(0.2 * spread, 0.03 * (max(everything) if is_error(figure) else 1))
    axes.set_xlim(min(everything) - margin, max(everything) + margin)
    axes.set_title(textwrap.fill(title_of(figure), _TITLE_CHARACTERS))
    axes.locator_params(axis="x", nbins=3)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
