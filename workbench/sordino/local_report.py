"""The page that compares synthetic records with real ones; it stays with those who hold these.

Its figures are exact, so whoever reads it learns of single records what no promise covers. The page
says so first.
"""

import numpy as np

from sordino import local_plots
from sordino.local_figures import LocalFigures
from sordino_audit.pages import page_environment

_TEMPLATE = "local_report.html.j2"


def render(figures: LocalFigures, *, source: str, note: str = "") -> str:
    """The page as HTML.

    Args:
        figures: from `local_figures.compare`.
        source: what the synthetic records are of: a run, a file.
        note: what to know of how the figures were made.
    """
    fidelity, utility = figures.fidelity, figures.utility
    errors = fidelity.query_errors
    groups = utility.groups
    attacks = figures.attacks
    return (
        page_environment("sordino")
        .get_template(_TEMPLATE)
        .render(
            figures=figures,
            source=source,
            note=note,
            name=figures.schema.dataset.name,
            variations=local_plots.variations(fidelity),
            ways=sorted({way for way, _ in fidelity.variations}),
            query_mean=float(errors.mean()),
            query_p95=float(np.quantile(errors, 0.95)),
            sets=fidelity.sets,
            best_synthetic=max(utility.synthetic.values()),
            best_real=max(utility.real.values()),
            attacks=attacks,
            drawings={
                "pairs": local_plots.pair_distances(fidelity),
                "associations": local_plots.associations(fidelity),
                "queries": local_plots.queries(fidelity),
                "models": local_plots.model_scores(utility),
                "sizes": local_plots.group_sizes(groups) if groups else None,
                "accuracies": local_plots.group_accuracies(groups),
                "divergences": None
                if attacks is None
                else local_plots.divergences(attacks.divergences),
            },
        )
    )
