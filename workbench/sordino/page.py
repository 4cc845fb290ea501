"""One self-contained page about one run: what was promised, what was attacked, what it was worth.

The page loads nothing: styles and drawings are inline, and there is no script. Whatever comes from
a result is escaped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from sordino import plots
from sordino.both_ways import both_ways, left_out
from sordino.comparison_plot import comparison
from sordino.evaluation_plots import evaluation_counts
from sordino.figure_words import headline_of, in_words, title_of
from sordino.result import BaselineSection, RunResult
from sordino.score_plots import reliability_diagram, roc_diagram
from sordino_audit import report_plots
from sordino_audit.audit_words import TITLES, promise
from sordino_audit.pages import page_environment
from sordino_protocols.scorecard import Figure
from sordino_server.statement import EvaluationFacts

_TEMPLATE = "page.html.j2"


@dataclass(frozen=True, slots=True)
class _Headline:
    """One exact figure at the top of the page, and one rival's beside it."""

    title: str
    value: str
    beside: str


def render(result: RunResult, *, scores: EvaluationFacts | None = None) -> str:
    """The page as HTML, about 150 kB, within two seconds.

    Args:
        result: of the run.
        scores: the statement's evaluation; drawn where it is of two classes.
    """
    environment = page_environment("sordino")
    environment.filters["share"] = _share
    return environment.get_template(_TEMPLATE).render(
        result=result,
        audit=result["audit"],
        audit_page=result.get("audit_page", ""),
        verdict=TITLES[result["audit"].verdict],
        releases=sum(event["count"] for site in result["sites"] for event in site["events"]),
        promise=promise(result["job"]["epsilon"], result["job"]["delta"]),
        headlines=_headlines(result),
        left_out=left_out(result),
        both_ways=both_ways(result),
        evaluation=in_words(result["evaluation"]["figures"]),
        drawings={
            "comparison": comparison(result),
            "epsilon_by_round": plots.epsilon_by_round(result),
            "budgets": plots.budgets(result),
            "bounds": report_plots.bounds(result["audit"]),
            "scores": report_plots.score_distributions(result["audit"]),
            "trade_off": report_plots.trade_off(result["audit"]),
            "evaluation": evaluation_counts(result["evaluation"]),
            **_score_drawings(scores),
        },
    )


def _score_drawings(scores: EvaluationFacts | None) -> Mapping[str, Markup]:
    if scores is None or not scores.roc:
        return {}
    return {"roc": roc_diagram(scores), "reliability": reliability_diagram(scores)}


def write(result: RunResult, path: Path) -> None:
    """Write the page to a file, which is replaced if it exists."""
    path.write_text(render(result), encoding="utf-8")


def _headlines(result: RunResult) -> list[_Headline]:
    beside = (_beside_central, _beside_alone)
    return [
        _Headline(
            title_of(figure),
            headline_of(figure, value),
            rival(result["baselines"], figure),
        )
        for (figure, value), rival in zip(result["exact"].items(), beside, strict=True)
    ]


def _beside_central(baselines: BaselineSection, figure: Figure) -> str:
    central = baselines["central"]
    return "" if central is None else f"{headline_of(figure, central[figure])} without protection"


def _beside_alone(baselines: BaselineSection, figure: Figure) -> str:
    alone = baselines["alone"]
    return "" if alone is None else f"{headline_of(figure, alone['mean'][figure])} for a site alone"


def _share(value: float) -> str:
    return f"{value:.1%}" if value < 1 else "none"
