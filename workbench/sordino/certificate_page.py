"""A certificate as one self-contained page that a person can read and print.

The page loads nothing and runs nothing. It says what a verification found when it was made; the
file is the proof, and the page only its reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sordino.figure_words import headline_of, title_of, value_of
from sordino.number_words import percent_at_most
from sordino_audit.pages import page_environment
from sordino_protocols.certificate import Certificate
from sordino_protocols.certificate_check import Verification
from sordino_protocols.certificate_facts import IntervalFacts, ReleaseFacts, SiteClaims
from sordino_protocols.errors import PeerError
from sordino_protocols.job import read_job
from sordino_protocols.scorecard import Figure

_TEMPLATE = "certificate.html.j2"
_HIDDEN = frozenset({"event", "version", "unit"})
_MECHANISMS: Mapping[str, str] = {
    "poisson_gaussian": "Gaussian noise on the clipped sum of a Poisson sample",
    "gaussian": "Gaussian noise",
    "discrete_gaussian": "discrete Gaussian noise on counts",
    "laplace": "Laplace noise",
    "discrete_laplace": "discrete Laplace noise on counts",
}


@dataclass(frozen=True, slots=True)
class _Figure:
    """A number at the top of the page."""

    title: str
    value: str
    beside: str


def render(certificate: Certificate, verification: Verification) -> str:
    """The page as HTML.

    Args:
        certificate: any that could be read; also one that does not hold, and the page says so.
        verification: what was found of it.
    """
    environment = page_environment("sordino")
    environment.filters["at_most"] = percent_at_most
    environment.filters["fingerprint"] = _fingerprint
    table = certificate.composition.table
    return environment.get_template(_TEMPLATE).render(
        certificate=certificate,
        verification=verification,
        model=_model(certificate),
        figures=_figures(certificate),
        evaluation=[
            (title_of(name), _interval(name, figure))
            for name, figure in certificate.evaluation.figures.items()
        ],
        releases={
            name: [(_mechanism(each), each.times) for each in site.claims.releases]
            for name, site in certificate.sites.items()
        },
        highest=max((entry.epsilon for entry in table), default=0.0) or 1.0,
        worst=_worst([site.claims for site in certificate.sites.values()]),
    )


def _model(certificate: Certificate) -> str:
    try:
        job = read_job(certificate.job.body.encode("ascii", "replace"))
    except PeerError:
        return "unknown"
    return job.file.model.kind


def _interval(name: Figure, figure: IntervalFacts) -> str:
    value, low, high = (value_of(name, each) for each in (figure.value, figure.lower, figure.upper))
    return f"{value} ({low} to {high})"


def _figures(certificate: Certificate) -> list[_Figure]:
    worst = _worst([site.claims for site in certificate.sites.values()])
    table = certificate.composition.table
    found = [
        _Figure(
            "\N{GREEK SMALL LETTER EPSILON} spent, at most",
            f"{worst.epsilon_spent_pld:.3f}" if worst else "0",
            f"by one {certificate.job.unit} at one site, of {certificate.job.epsilon:g} promised",
        ),
        _Figure(
            "Members recognised, at most",
            percent_at_most(worst.bound.true_positive_rate) if worst else "0%",
            "by an attacker who wrongly accuses 1 outsider in 100",
        ),
    ]
    if len(table) > 1:
        found.append(
            _Figure(
                f"\N{GREEK SMALL LETTER EPSILON} at all {table[-1].sites} sites",
                f"{table[-1].epsilon:.3f}",
                "for somebody who is in the records of each of them",
            )
        )
    figures = certificate.evaluation.figures
    return found + [
        _Figure(title_of(name), headline_of(name, each.value), "from a noisy, charged evaluation")
        for name, each in list(figures.items())[:2]
    ]


def _worst(claims: list[SiteClaims]) -> SiteClaims | None:
    return max(claims, key=lambda each: each.epsilon_spent_pld, default=None)


def _mechanism(release: ReleaseFacts) -> str:
    kind = str(release.event.get("event", "?"))
    facts = ", ".join(
        f"{key.replace('_', ' ')} {_short(value)}"
        for key, value in release.event.items()
        if key not in _HIDDEN
    )
    return f"{_MECHANISMS.get(kind, kind.replace('_', ' '))}: {facts}"


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fingerprint(value: str | None) -> str:
    """Long hex in groups that a person can compare."""
    if value is None:
        return "none"
    return " ".join(value[place : place + 8] for place in range(0, len(value), 8))
