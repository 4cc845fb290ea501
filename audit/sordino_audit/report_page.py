"""One self-contained page about one audit, for a reader who has never seen another.

One template serves all kinds of audits: a part is shown where the document has something for it.
The page is made from the document alone, so anybody can make it again from the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sordino_audit import measurement_plot, report_plots
from sordino_audit.audit_document import AuditDocument, Kind
from sordino_audit.audit_words import as_sentence, next_step, promise, title_of
from sordino_audit.drawing import css_colour
from sordino_audit.pages import page_environment

_TEMPLATE = "report.html.j2"
_SMALLEST_SHOWN = 1e-3
_LARGEST_POWER = 6
_WHOLE_PERCENTS = 0.1
_WHAT: Mapping[Kind, str] = {
    "run": "Audit of a run, as the server saw it",
    "site": "Audit of a run, step by step at the site",
    "self-test": "Self-test of one installation",
    "replay": "Attack on federations that were run again for it",
    "inference": "What a model gives away about people and populations",
    "synthesis": "Attack on the code that makes synthetic records",
}


@dataclass(frozen=True, slots=True)
class _Figure:
    """A number at the top of the page."""

    title: str
    value: str
    beside: str


@dataclass(frozen=True, slots=True)
class _Legend:
    """A colour and what it assumes."""

    colour: str
    words: str


def render(document: AuditDocument) -> str:
    """The page as HTML: at most a few hundred kB, whatever the number of scores."""
    environment = page_environment()
    environment.filters["p_value"] = _p_value
    environment.filters["figure"] = _figure
    environment.filters["sentence"] = as_sentence
    environment.filters["e_value"] = _e_value
    return environment.get_template(_TEMPLATE).render(
        audit=document,
        what=_WHAT[document.kind],
        title=title_of(document.kind, document.verdict),
        next=next_step(document.kind, document.verdict),
        promise=_promise(document),
        figures=_figures(document),
        legend=_legend(document),
        failed=sum(not each.is_passed for each in document.probes),
        drawings={
            "bounds": report_plots.bounds(document),
            "trade_off": report_plots.trade_off(document),
            "roc": report_plots.roc(document),
            "scores": report_plots.score_distributions(document),
            "e_values": report_plots.e_values(document),
            "measurements": measurement_plot.measurements(document),
        },
    )


def _promise(document: AuditDocument) -> str | None:
    if document.claimed is None or document.delta is None:
        return None
    return promise(document.claimed, document.delta)


def _figures(document: AuditDocument) -> Sequence[_Figure]:
    found = []
    if document.claimed is not None:
        found.append(_Figure("ε promised", f"{document.claimed:.2f}", _delta(document)))
    if document.lower_bound is not None:
        words = f"at {100 * document.confidence:g}% confidence, assuming nothing of the noise"
        found.append(_Figure("ε shown by the attack", f"≥ {document.lower_bound:.2f}", words))
    if document.ceiling is not None:
        shown = "a release" if document.kind == "synthesis" else "the training"
        words = f"the ε that this view could show of {shown}, however good the attack"
        found.append(_Figure("Most it could have shown", f"{document.ceiling:.2f}", words))
    if document.detectable is not None:
        value = _share(document.detectable)
        found.append(_Figure("Missing noise it would find", value, _power(document)))
    if document.probes:
        passed, planned = sum(each.is_passed for each in document.probes), len(document.probes)
        found.append(_Figure("Checks passed", f"{passed} of {planned}", "listed below"))
    return found


def _delta(document: AuditDocument) -> str:
    return "" if document.delta is None else f"at δ = {document.delta:g}"


def _power(document: AuditDocument) -> str:
    probability = document.power.probability
    return "or more" if probability is None else f"or more, with probability {probability:.0%}"


def _legend(document: AuditDocument) -> Sequence[_Legend]:
    colours = report_plots.assumption_colours(document)
    return [_Legend(css_colour(colour), words) for words, colour in colours.items()]


def _share(deficit: float) -> str:
    if deficit >= 1:
        return "none"
    return f"{deficit:.1%}" if deficit < _WHOLE_PERCENTS else f"{deficit:.0%}"


def _p_value(value: float) -> str:
    if value >= _SMALLEST_SHOWN:
        return f"{value:.3f}"
    return f"{value:.0e}" if value > 0 else "0"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _e_value(log10: float) -> str:
    """An e-value in few digits: beyond a million, nobody asks how far."""
    return f"{10**log10:.3g}" if log10 < _LARGEST_POWER else "over 1,000,000"
