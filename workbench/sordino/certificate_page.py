"""A certificate as one self-contained page that a person can read and print.

The page loads nothing and runs nothing. It says what a verification found when it was made; the
file is the proof, and the page only its reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sordino.figure_words import headline_of, title_of, value_of
from sordino.number_words import percent_at_most
from sordino.release_words import release_in_words
from sordino_audit.pages import page_environment
from sordino_protocols.certificate import Certificate
from sordino_protocols.certificate_check import Verification
from sordino_protocols.certificate_facts import IntervalFacts, SiteClaims
from sordino_protocols.errors import PeerError
from sordino_protocols.job import read_job
from sordino_protocols.plan import SynthesisMode
from sordino_protocols.scorecard import Figure

_TEMPLATE = "certificate.html.j2"
_MAKING: Mapping[SynthesisMode, str] = {
    "local": "noisy marginals of each site, and one generator fitted to all of them",
    "sum": "the noisy sum of all sites' marginals, under masks",
    "table": "synthetic rows that each site made itself",
}
_GENERATORS: Mapping[str, str] = {
    "mixture": "mixture of products",
    "mst": "maximum spanning tree (MST)",
    "privbayes": "PrivBayes",
    "nade": "neural autoregressive estimator (NADE)",
    "vae": "variational autoencoders of clusters",
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
            for name, figure in _evaluated(certificate).items()
        ],
        table=_table(certificate),
        releases={
            name: [(release_in_words(each.event), each.times) for each in site.claims.releases]
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
    if job.file.model is None:
        return "none"
    source = job.file.synthetic
    kind = job.file.model.kind
    return kind if source is None else f"{kind}, trained on the synthetic records of {source.run}"


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
    released = certificate.table
    if released is not None and released.epsilon != released.epsilon_without_masks:
        found.append(
            _Figure(
                "\N{GREEK SMALL LETTER EPSILON} under masks",
                f"{released.epsilon:.3f}",
                "of the sum that the server sees, as long as the sites' masks hold",
            )
        )
    return found + [
        _Figure(title_of(name), headline_of(name, each.value), "from a noisy, charged evaluation")
        for name, each in list(_evaluated(certificate).items())[:2]
    ]


def _evaluated(certificate: Certificate) -> Mapping[Figure, IntervalFacts]:
    """The figures of the model; none where there is none."""
    return certificate.evaluation.figures if certificate.evaluation else {}


def _table(certificate: Certificate) -> list[tuple[str, str]]:
    """What is told of a table, as rows; none of a run with a model."""
    table = certificate.table
    if table is None:
        return []
    rows = [
        ("Made by", _MAKING[table.mode] if table.mode else "counting queries with noise"),
        *(
            [("Generator", _GENERATORS.get(table.generator, table.generator))]
            if table.generator
            else []
        ),
        ("Sites in it", ", ".join(table.sites)),
    ]
    if table.mode == "sum":
        rows += [
            ("Silent sites", ", ".join(table.missing) or "none"),
            ("\N{GREEK SMALL LETTER EPSILON} while the masks hold", f"{table.epsilon:.3f}"),
            (
                "\N{GREEK SMALL LETTER EPSILON} if nobody else is trusted",
                f"{table.epsilon_without_masks:.3f}",
            ),
        ]
    return rows


def _worst(claims: list[SiteClaims]) -> SiteClaims | None:
    return max(claims, key=lambda each: each.epsilon_spent_pld, default=None)


def _fingerprint(value: str | None) -> str:
    """Long hex in groups that a person can compare."""
    if value is None:
        return "none"
    return " ".join(value[place : place + 8] for place in range(0, len(value), 8))
