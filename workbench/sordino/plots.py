"""The page's plots: small inline SVG that takes its colours and its font from the page.

Matplotlib draws with placeholder colours, which become CSS variables afterwards, so one drawing is
right in light and in dark, on screen and on paper. Text stays text. Matplotlib is imported by the
first plot, not by the module: `sordino --help` must not wait for it.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from sordino.result import RunResult
from sordino_audit.audit_document import AuditDocument, BoundEntry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
ACCENT, WARM, GOOD, BAD, THIRD = "#050505", "#060606", "#070707", "#080808", "#090909"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    PAPER: "--card",
    ACCENT: "--accent",
    WARM: "--warm",
    GOOD: "--good",
    BAD: "--bad",
    THIRD: "--third",
}
_BOUND_COLOURS = (ACCENT, THIRD, WARM)
_WIDTH = 4.8
_LABEL_ROOM = 0.2
_STYLE: "dict[RcKeyType, str | float | bool]" = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sordino",
    "font.size": 9.8,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.2,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}


class Drawing:
    """One figure with its SVG, filled when the drawing is closed."""

    def __init__(self, figure: "Figure") -> None:
        self.figure = figure
        self.svg = Markup()


@contextmanager
def new_drawing(title: str, *, height: float) -> Iterator[Drawing]:
    """A figure of the page's width to draw on; its SVG is there when the context ends."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(_STYLE):
        drawing = Drawing(Figure(figsize=(_WIDTH, height), layout="constrained"))
        drawing.figure.patch.set_alpha(0)
        yield drawing
        target = io.StringIO()
        drawing.figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
        drawing.svg = _clean(target.getvalue(), title)


def epsilon_by_round(result: RunResult) -> Markup:
    """Cumulative epsilon of training against the plan, by round."""
    rounds = [0, *(each["round"] for each in result["training"])]
    spent = [0.0, *(each["epsilon_spent"] for each in result["training"])]
    with new_drawing("Epsilon spent by round", height=2.6) as drawing:
        axes = drawing.figure.subplots()
        planned = result["job"]["epsilon"]
        axes.axhline(planned, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"promised {planned:g}", (0, planned), (2, 4), textcoords="offset points", color=INK
        )
        axes.fill_between(rounds, spent, color=ACCENT, alpha=0.12, linewidth=0)
        axes.plot(rounds, spent, color=ACCENT, linewidth=1.8)
        axes.annotate(
            f"{spent[-1]:.2f} training",
            (rounds[-1], spent[-1]),
            (-4, -30),
            textcoords="offset points",
            ha="right",
            color=ACCENT,
        )
        for site in result["sites"]:
            axes.plot(rounds[-1], site["epsilon_spent_pld"], "o", color=WARM, markersize=5)
        axes.plot([], [], "o", color=WARM, markersize=5, label="spent by a site, with evaluation")
        axes.legend(loc="lower right")
        axes.set(xlabel="Round", ylabel="Epsilon", xlim=(0, max(rounds) * 1.02))
        axes.set_ylim(0, planned * 1.18)
        axes.grid(axis="y")
    return drawing.svg


def budgets(result: RunResult) -> Markup:
    """Spent and left of every site's lifetime budget."""
    sites = result["sites"]
    names = [site["name"] for site in sites]
    left = [site["budget_left"] for site in sites]
    spent = [site["budget_limit"] - site["budget_left"] for site in sites]
    with new_drawing("Budget by site", height=1.0 + 0.4 * len(sites)) as drawing:
        axes = drawing.figure.subplots()
        axes.barh(names, spent, color=ACCENT, height=0.5, label="spent")
        axes.barh(names, left, left=spent, color=ACCENT, alpha=0.18, height=0.5, label="left")
        for row, (used, rest) in enumerate(zip(spent, left, strict=True)):
            axes.annotate(
                f"{rest:.2f} left",
                (used + rest, row),
                (-4, 0),
                textcoords="offset points",
                va="center",
                ha="right",
            )
        axes.invert_yaxis()
        axes.set_xlabel("Epsilon, lifetime")
        axes.tick_params(axis="y", length=0)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)
    return drawing.svg


def bounds(audit: AuditDocument) -> Markup:
    """Lower bounds on epsilon, coloured by assumption, against ceiling and claim."""
    entries = audit["bounds"]
    with new_drawing("Lower bounds on epsilon against the claim", height=3.2) as drawing:
        axes = drawing.figure.subplots()
        shown = [*(each["epsilon_low"] for each in entries), audit["ceiling"], audit["claimed"]]
        right = 1.12 * min(max(shown), 4 * audit["claimed"])
        for row, (entry, colour) in enumerate(zip(entries, _BOUND_COLOURS, strict=False)):
            _bound(axes, entry, row=row, colour=colour, right=right)
        for value, name, style, offset in (
            (audit["ceiling"], "most this view can show", (0, (1, 2)), 15),
            (audit["claimed"], "claimed", "solid", 3),
        ):
            axes.axvline(value, color=INK, linewidth=1.1, linestyle=style)
            axes.annotate(
                f"{name} {value:.2f}",
                (value, -0.75),
                (-3, offset),
                textcoords="offset points",
                ha="right",
                annotation_clip=False,
            )
        axes.axvspan(audit["claimed"], right, color=BAD, alpha=0.08, linewidth=0)
        axes.set_yticks(
            range(len(entries)), [each["name"].replace(" ", "\n", 1) for each in entries]
        )
        axes.set(xlim=(0, right), ylim=(len(entries) - 0.4, -0.75), xlabel="Epsilon")
        axes.set_title(" \n ")
        axes.tick_params(axis="y", length=0)
    return drawing.svg


def score_distributions(audit: AuditDocument) -> Markup:
    """Scores of lanes with and without a canary."""
    inserted, held_out = audit["scores"]["inserted"], audit["scores"]["held_out"]
    edges = np.histogram_bin_edges([*inserted, *held_out], bins=36).tolist()
    with new_drawing("Scores of canaries", height=2.8) as drawing:
        axes = drawing.figure.subplots()
        for values, colour, name in (
            (held_out, MUTED, f"held out ({len(held_out)})"),
            (inserted, WARM, f"inserted ({len(inserted)})"),
        ):
            axes.hist(values, edges, color=colour, alpha=0.28, linewidth=0)
            axes.hist(values, edges, color=colour, histtype="step", linewidth=1.4, label=name)
        axes.set(xlabel="Score: log-likelihood ratio over all rounds", ylabel="Lanes")
        axes.set_ylim(0, axes.get_ylim()[1] * 1.22)
        axes.legend(loc="upper left", ncols=2)
    return drawing.svg


def trade_off(audit: AuditDocument) -> Markup:
    """Measured errors of the attack over the region that the claim forbids."""
    curve = np.array(audit["claimed_curve"])
    rates = _error_rates(audit)
    with new_drawing("Errors of the attack and the claimed trade-off", height=3.3) as drawing:
        axes = drawing.figure.subplots()
        axes.fill_between(curve[:, 0], curve[:, 1], color=BAD, alpha=0.13, linewidth=0)
        axes.plot(curve[:, 0], curve[:, 1], color=BAD, linewidth=1.4, label="claimed limit")
        axes.plot(
            [0, 1], [1, 0], color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)), label="guessing"
        )
        axes.plot(rates[:, 0], rates[:, 1], color=ACCENT, linewidth=1.5, label="attack, measured")
        counts = audit["counts"]
        if counts["held_out"] and counts["inserted"]:
            axes.plot(
                counts["false_positives"] / counts["held_out"],
                counts["false_negatives"] / counts["inserted"],
                "o",
                color=ACCENT,
                markersize=6,
                label="threshold fixed beforehand",
            )
        axes.text(0.03, 0.05, "forbidden by the claim", color=BAD)
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1),
            xlabel="Held-out canaries taken for inserted",
            ylabel="Inserted canaries missed",
        )
        axes.grid()
        axes.legend(loc="upper right")
    return drawing.svg


def _bound(axes: "Axes", entry: BoundEntry, *, row: int, colour: str, right: float) -> None:
    """A whisker from the bound upwards: with confidence, the truth lies on it."""
    low = min(entry["epsilon_low"], right)
    axes.hlines(row, low, right, color=colour, linewidth=2, alpha=0.35)
    axes.plot(low, row, "|", color=colour, markersize=16, markeredgewidth=2.4)
    label = f"≥ {entry['epsilon_low']:.2f}"
    is_far_right = low > _LABEL_ROOM * right
    axes.annotate(
        label,
        (low, row),
        (-6, -3.5) if is_far_right else (5, 6),
        textcoords="offset points",
        ha="right" if is_far_right else "left",
        color=colour,
    )


def _error_rates(audit: AuditDocument) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """(false positive rate, false negative rate) at 200 thresholds, shape (200, 2)."""
    inserted = np.sort(audit["scores"]["inserted"])
    held_out = np.sort(audit["scores"]["held_out"])
    both = np.concatenate([inserted, held_out])
    if not inserted.size or not held_out.size:
        return np.array([[0.0, 1.0], [1.0, 0.0]])
    thresholds = np.quantile(both, np.linspace(0, 1, 200))
    false_positives = 1 - np.searchsorted(held_out, thresholds) / held_out.size
    false_negatives = np.searchsorted(inserted, thresholds) / inserted.size
    return np.stack([false_positives, false_negatives], axis=1)


def _clean(svg: str, title: str) -> Markup:
    """Cut what belongs to a file, not to a page; give it the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    label = Markup.escape(title)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))  # noqa: S704
