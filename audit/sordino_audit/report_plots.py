"""The drawings of an audit: what was claimed beside what was shown.

Colours say what a figure assumes; the page has the legend in words. Everything is drawn from the
document alone, so that a page can be made again from a file.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sordino_audit.audit_document import AuditDocument
from sordino_audit.audit_entries import AttackEntry, BoundEntry, CountsEntry, EValueEntry
from sordino_audit.bounds.clopper_pearson import Counts, error_limits
from sordino_audit.drawing import ACCENT, BAD, GOOD, INK, MUTED, THIRD, WARM, new_drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
_Line = tuple[float, str, "str | tuple[int, tuple[int, int]]", int]

PALETTE = (ACCENT, THIRD, WARM, GOOD, INK)
_DOTTED, _DASHED = (0, (1, 2)), (0, (4, 3))
_LABEL_ROOM = 0.2
_LONG_LABEL_ROOM = 0.5
_NAME_WIDTH = 16
_FARTHEST = 4.0
_MOST_POINTS = 200
_MOST_ATTACKS = 4
_SUSPECT_E, _VIOLATION_E = math.log10(20), 3.0
_LOWEST_E, _HIGHEST_E = -2.0, 12.0
_RAREST_RATE = 1e-4


def assumption_colours(document: AuditDocument) -> Mapping[str, str]:
    """A colour for each assumption of what is a bound, in order; the last is used again."""
    held = [each.assumption for each in document.bounds if each.standing == "bound"]
    assumptions = list(dict.fromkeys(held))
    return {each: PALETTE[min(index, len(PALETTE) - 1)] for index, each in enumerate(assumptions)}


def bounds(document: AuditDocument) -> Markup | None:
    """Lower bounds on epsilon, coloured by assumption, against ceiling and claim."""
    if document.claimed is None or not document.bounds:
        return None
    claimed, entries = document.claimed, document.bounds
    colours = assumption_colours(document)
    lines: list[_Line] = [(claimed, "claimed", "solid", 3)]
    if document.ceiling is not None:
        lines.append((document.ceiling, "most this view can show", _DOTTED, 15))
    shown = [each.epsilon_low for each in entries if each.epsilon_low is not None]
    right = 1.12 * min(max(*shown, *(line[0] for line in lines)), _FARTHEST * claimed)
    with new_drawing("Lower bounds on epsilon against the claim", height=_height(entries)) as made:
        axes = made.figure.subplots()
        for row, entry in enumerate(entries):
            _bound(axes, entry, row=row, colour=colours.get(entry.assumption, MUTED), right=right)
        for value, name, style, offset in lines:
            axes.axvline(value, color=INK, linewidth=1.1, linestyle=style)
            axes.annotate(
                f"{name} {value:.2f}",
                (value, -0.75),
                (-3, offset),
                textcoords="offset points",
                ha="right" if value > right / 2 else "left",
                annotation_clip=False,
            )
        axes.axvspan(claimed, right, color=BAD, alpha=0.08, linewidth=0)
        axes.set_yticks(range(len(entries)), [_wrapped(each.name) for each in entries])
        axes.set(xlim=(0, right), ylim=(len(entries) - 0.4, -0.75), xlabel="Epsilon")
        axes.set_title(" \n ")
        axes.tick_params(axis="y", length=0)
    return made.svg


def trade_off(document: AuditDocument) -> Markup | None:
    """Measured errors of the attacks over the region that the claim forbids."""
    if not document.claimed_curve:
        return None
    curve = np.array(document.claimed_curve)
    with new_drawing("Errors of the attack and the claimed trade-off", height=3.3) as made:
        axes = made.figure.subplots()
        axes.fill_between(curve[:, 0], curve[:, 1], color=BAD, alpha=0.13, linewidth=0)
        axes.plot(curve[:, 0], curve[:, 1], color=BAD, linewidth=1.4, label="claimed limit")
        axes.plot([0, 1], [1, 0], color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        for attack, colour in zip(_drawn(document), PALETTE, strict=False):
            rates = error_rates(attack)
            axes.plot(rates[:, 0], rates[:, 1], color=colour, linewidth=1.5, label=attack.name)
        for index, each in enumerate(document.counts):
            _counted(axes, each, confidence=document.confidence, is_first=index == 0)
        axes.text(0.03, 0.05, "forbidden by the claim", color=BAD)
        axes.text(0.56, 0.46, "guessing", color=MUTED)
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1),
            xlabel="Held-out canaries taken for inserted",
            ylabel="Inserted canaries missed",
        )
        axes.grid()
        axes.legend(loc="upper right")
    return made.svg


def roc(document: AuditDocument) -> Markup | None:
    """The ROC on logarithmic axes, where rare and certain recognition shows."""
    attacks = _drawn(document)
    if not attacks:
        return None
    with new_drawing("ROC of the attack on logarithmic axes", height=3.5) as made:
        axes = made.figure.subplots()
        floor = max(_RAREST_RATE, 0.5 / max(len(each.held_out) for each in attacks))
        rates = np.geomspace(floor, 1, _MOST_POINTS)
        if document.claimed is not None and document.delta is not None:
            limit = np.minimum(1, np.exp(document.claimed) * rates + document.delta)
            axes.fill_between(rates, limit, 1.3, color=BAD, alpha=0.13, linewidth=0)
            axes.plot(rates, limit, color=BAD, linewidth=1.4, label="limit of the claim")
        axes.plot(rates, rates, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)), label="guessing")
        for attack, colour in zip(attacks, PALETTE, strict=False):
            false, true = roc_steps(attack)
            axes.step(false, true, where="post", color=colour, linewidth=1.5, label=attack.name)
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(floor, 1),
            ylim=(floor, 1.3),
            xlabel="Held-out canaries taken for inserted",
            ylabel="Inserted canaries recognised",
        )
        axes.grid()
        made.figure.legend(loc="outside lower center", ncols=2)
    return made.svg


def score_distributions(document: AuditDocument) -> Markup | None:
    """Scores of those who were members and those who were not, of the first attack."""
    attacks = _drawn(document)
    if not attacks:
        return None
    inserted, held_out = attacks[0].inserted, attacks[0].held_out
    edges = np.histogram_bin_edges([*inserted, *held_out], bins=36).tolist()
    with new_drawing("Scores of canaries", height=2.8) as made:
        axes = made.figure.subplots()
        for values, colour, name in (
            (held_out, MUTED, f"held out ({len(held_out)})"),
            (inserted, WARM, f"inserted ({len(inserted)})"),
        ):
            axes.hist(values, edges, color=colour, alpha=0.28, linewidth=0)
            axes.hist(values, edges, color=colour, histtype="step", linewidth=1.4, label=name)
        axes.set(xlabel="Score of the attack", ylabel="Canaries")
        axes.set_ylim(0, axes.get_ylim()[1] * 1.22)
        axes.legend(loc="upper left", ncols=2)
    return made.svg


def e_values(document: AuditDocument) -> Markup | None:
    """Evidence against the claim over all audited runs, with the lines that call for action."""
    entries = document.e_values
    if not entries:
        return None
    with new_drawing("Evidence against the claim over all audits", height=3.0) as made:
        axes = made.figure.subplots()
        most = max(len(each.history) for each in entries)
        values = [value for each in entries for value in _shown(each)]
        highest, lowest = max([_VIOLATION_E, *values]), min([-1.0, *values])
        strongest = sorted(entries, key=lambda each: -each.log10_value)[: len(PALETTE)]
        for each in entries:
            if each not in strongest:
                _path(axes, each, colour=MUTED, label=None)
        for each, colour in zip(strongest, PALETTE, strict=False):
            _path(axes, each, colour=colour, label=f"{each.site}: {each.test}")
        for value, name in ((_SUSPECT_E, "20: repeat"), (_VIOLATION_E, "1,000: promise broken")):
            axes.axhline(value, color=BAD, linewidth=1.1, linestyle=_DASHED)
            axes.annotate(name, (1, value), (2, 3), textcoords="offset points", color=BAD)
        axes.set(xlim=(0.8, max(most, 2) + 0.2), ylim=(1.1 * lowest, 1.18 * highest))
        axes.locator_params(axis="x", integer=True)
        axes.set(xlabel="Audits so far", ylabel="e-value, powers of ten")
        axes.grid(axis="y")
        made.figure.legend(loc="outside lower center", ncols=2)
    return made.svg


def error_rates(attack: AttackEntry) -> Floats:
    """(false positive rate, false negative rate) at up to 200 thresholds, shape (n, 2)."""
    inserted, held_out = np.sort(attack.inserted), np.sort(attack.held_out)
    both = np.unique(np.concatenate([inserted, held_out]))
    thresholds = np.quantile(both, np.linspace(0, 1, _MOST_POINTS))
    false_positives = 1 - np.searchsorted(held_out, thresholds) / held_out.size
    false_negatives = np.searchsorted(inserted, thresholds) / inserted.size
    measured: Floats = np.stack([false_positives, false_negatives], axis=1)
    return measured


def roc_steps(attack: AttackEntry) -> tuple[Floats, Floats]:
    """False positive rates, rising, with the largest true positive rate at each."""
    inserted, held_out = np.sort(attack.inserted), np.sort(attack.held_out)[::-1]
    places = np.unique(np.geomspace(1, held_out.size, _MOST_POINTS).astype(int)) - 1
    # Above the k-th highest held-out score lie at most k of them.
    true = 1 - np.searchsorted(inserted, held_out[places], side="right") / inserted.size
    return np.append(places / held_out.size, 1.0), np.append(true, 1.0)


def _drawn(document: AuditDocument) -> Sequence[AttackEntry]:
    both = [each for each in document.attacks if each.inserted and each.held_out]
    return both[:_MOST_ATTACKS]


def _wrapped(name: str) -> str:
    return "\n".join(textwrap.wrap(name, _NAME_WIDTH))


def _height(entries: Sequence[BoundEntry]) -> float:
    lines = [_wrapped(each.name).count("\n") + 1 for each in entries]
    return 1.3 + sum(max(0.6, 0.2 * each) for each in lines)


def _bound(axes: "Axes", entry: BoundEntry, *, row: int, colour: str, right: float) -> None:
    """A whisker from the bound upwards: with confidence, the truth lies on it."""
    low = right if entry.epsilon_low is None else min(entry.epsilon_low, right)
    if entry.standing == "bound":
        axes.hlines(row, low, right, color=colour, linewidth=2, alpha=0.35)
        axes.plot(low, row, "|", color=colour, markersize=16, markeredgewidth=2.4)
    else:
        axes.plot(low, row, "o", color=colour, markersize=7, fillstyle="none")
    figure = "∞" if entry.epsilon_low is None else f"{entry.epsilon_low:.2f}"
    label = f"≥ {figure}" if entry.standing == "bound" else f"{figure}, {entry.standing}"
    # A longer label needs more room on its left.
    is_far_right = low > right * (_LABEL_ROOM if entry.standing == "bound" else _LONG_LABEL_ROOM)
    axes.annotate(
        label,
        (low, row),
        (-6, -3.5) if is_far_right else (5, 6),
        textcoords="offset points",
        ha="right" if is_far_right else "left",
        color=colour,
    )


def _counted(axes: "Axes", entry: CountsEntry, *, confidence: float, is_first: bool) -> None:
    """A measured point, and how far right and up its confidence reaches."""
    if not entry.held_out or not entry.inserted:
        return
    counts = Counts(entry.false_positives, entry.held_out, entry.false_negatives, entry.inserted)
    x, y = entry.false_positives / entry.held_out, entry.false_negatives / entry.inserted
    right, top = error_limits(counts, 1 - confidence)
    axes.plot([x, right, right], [top, top, y], color=ACCENT, linewidth=0.9, alpha=0.7)
    label = f"threshold {entry.threshold}" if is_first else None
    axes.plot(x, y, "o", color=ACCENT, markersize=6, label=label)


def _path(axes: "Axes", entry: EValueEntry, *, colour: str, label: str | None) -> None:
    numbers = range(1, len(entry.history) + 1)
    axes.plot(numbers, _shown(entry), "-o", color=colour, linewidth=1.4, markersize=3, label=label)


def _shown(entry: EValueEntry) -> list[float]:
    """The history within the drawing: far below 1 or above 1,000, nobody asks how far."""
    return [min(max(each, _LOWEST_E), _HIGHEST_E) for each in entry.history]
