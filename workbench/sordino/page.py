"""One self-contained page about one run: what was promised, what was attacked, what it was worth.

The page loads nothing: styles and drawings are inline, and there is no script. Whatever comes from
a result is escaped.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from sordino import plots
from sordino.comparison_plot import comparison
from sordino.evaluation_plots import evaluation_counts
from sordino.figure_words import headline_of, in_words, title_of
from sordino.number_words import power_of_ten
from sordino.result import BaselineSection, RunResult
from sordino.score_plots import reliability_diagram, roc_diagram
from sordino_audit.bounds.trade_off import guarantee_curve
from sordino_audit.report import blind_spots, plain_verdict
from sordino_protocols.privacy import Guarantee
from sordino_protocols.scorecard import Figure
from sordino_server.statement import EvaluationFacts

_TEMPLATE = "page.html.j2"
_LIKELY = 0.01
_VERDICTS: Mapping[str, str] = {
    "violation": "Promise broken",
    "suspect": "Suspect: repeat",
    "inconclusive": "Inconclusive",
    "tight": "Nothing contradicts the promise, and the attack came close to its limit",
    "loose": "Nothing contradicts the promise",
}


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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sordino", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["power"] = power_of_ten
    environment.filters["share"] = _share
    return environment.get_template(_TEMPLATE).render(
        result=result,
        audit=result["audit"],
        verdict=_VERDICTS.get(result["audit"]["verdict"], result["audit"]["verdict"]),
        releases=sum(event["count"] for site in result["sites"] for event in site["events"]),
        promise=promise(result["job"]["epsilon"], result["job"]["delta"]),
        outcome=plain_verdict(result["audit"]),
        headlines=_headlines(result),
        evaluation=in_words(result["evaluation"]["figures"]),
        blind_spots=blind_spots(result["audit"]),
        drawings={
            "comparison": comparison(result),
            "epsilon_by_round": plots.epsilon_by_round(result),
            "budgets": plots.budgets(result),
            "bounds": plots.bounds(result["audit"]),
            "scores": plots.score_distributions(result["audit"]),
            "trade_off": plots.trade_off(result["audit"]),
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


def promise(epsilon: float, delta: float) -> str:
    """What the guarantee means to one person, without mathematics.

    The most powerful attack on an (epsilon, delta) guarantee at 1 % false accusations
    (Kairouz et al. 2015, thm. 2.1).
    """
    curve = guarantee_curve(Guarantee(epsilon, delta))
    caught = 1 - float(curve(np.array(_LIKELY)))
    return (
        "Whoever sees all that a site has released, and knows everything about a person but "
        "whether the site's records include them, cannot find that out reliably: an attacker who "
        f"wrongly accuses 1 person in 100 recognises at most {_out_of_hundred(caught)} of those "
        "who were really included."
    )


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


def _out_of_hundred(share: float) -> str:
    return f"{math.ceil(share * 100)} in 100" if share < 1 else "all"


def _share(value: float) -> str:
    return f"{value:.1%}" if value < 1 else "none"
