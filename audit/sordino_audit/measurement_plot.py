"""What was claimed beside what was measured of it: a row a quantity."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from sordino_audit.audit_document import AuditDocument, Kind
from sordino_audit.audit_entries import MeasurementEntry
from sordino_audit.drawing import ACCENT, INK, WARM, new_drawing

_CAPTIONS: Mapping[Kind, str] = {
    "inference": "share of right guesses gained",
    "synthesis": "advantage over guessing",
}
MOST_ROWS = 14
"""More rows than these are left to the table."""


def measurements(document: AuditDocument) -> Markup | None:
    """Measured quantities with their intervals, against what was claimed."""
    entries = drawn(document)
    if not entries:
        return None
    with new_drawing("Measured against claimed", height=1.0 + 0.34 * len(entries)) as made:
        axes = made.figure.subplots()
        for row, each in enumerate(entries):
            if each.value is None or each.low is None or each.high is None:
                continue
            colour = ACCENT if each.low <= each.expected <= each.high else WARM
            axes.hlines(row, each.low, each.high, color=colour, linewidth=2.2, alpha=0.5)
            axes.plot(each.value, row, "o", color=colour, markersize=5)
            axes.vlines(each.expected, row - 0.5, row + 0.5, color=INK, linewidth=1.1)
        axes.set_yticks(range(len(entries)), [each.name for each in entries])
        axes.set_ylim(len(entries) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.set_xlabel(_CAPTIONS.get(document.kind, "measured; the upright line is the claim"))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
    return made.svg


def drawn(document: AuditDocument) -> Sequence[MeasurementEntry]:
    """The measurements that have an interval; of many, those farthest from what was claimed."""
    whole = [
        each
        for each in document.measurements
        if each.value is not None and each.low is not None and each.high is not None
    ]
    if len(whole) <= MOST_ROWS:
        return whole
    ranked = sorted(whole, key=_distance, reverse=True)[:MOST_ROWS]
    return [each for each in whole if each in ranked]


def _distance(entry: MeasurementEntry) -> float:
    return 0.0 if entry.value is None else abs(entry.value - entry.expected)
